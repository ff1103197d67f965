"""A tree that is worked on while somebody exchanges its names: what is changed in it is held open, wherever it goes."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.flipper import Flip
from tests.faults.outside import Outside
from tests.faults.trees import remove

FOLDERS = ("", "below", "below/sub")
CROWD = 24
"""Files of a folder that goes in parts where that is what huge folders are (`crowded.py`)."""
LURES = ("link to a file", "link to a folder", "fifo", "device", "folder")
PARENT_LURES = ("link", "fifo", "folder")


class Moving:
    """The source of a rig, held open by its files and folders, and how it goes on from one round to the next."""

    def __init__(self, root: Path) -> None:
        """Make a tree with files of every name that is to be exchanged, at several depths."""
        self.root = root
        self._files: list[int] = []
        self._folders: list[int] = []
        self._round = 0
        for folder in FOLDERS:
            place = root / folder
            place.mkdir(exist_ok=True)
            for name in ("file", "linked", *(f"lured by a {lure}" for lure in LURES), *self._crowd(folder)):
                (place / name).write_text(f"ours: {name}")
            (place / "a link").symlink_to("file")
            (place / "fresh" / "deeper").mkdir(parents=True)
            (place / "fresh" / "deeper" / "file").write_text("ours: fresh")
        for folder in FOLDERS[1:]:
            (root / folder / "linked").unlink()
            os.link(root / "linked", root / folder / "linked")

    @staticmethod
    def _crowd(folder: str) -> list[str]:
        return [f"crowd-{number}" for number in range(CROWD)] if folder == "below" else []

    @contextmanager
    def held(self) -> Iterator["Moving"]:
        """Hold everything open, so that it is changed wherever it is."""
        for folder in FOLDERS:
            self._folders.append(os.open(self.root / folder, os.O_RDONLY))
            self._files += [os.open(each, os.O_RDWR) for each in (self.root / folder).iterdir() if _is_file(each)]
        try:
            yield self
        finally:
            for descriptor in (*self._files, *self._folders):
                os.close(descriptor)

    def go_on(self) -> None:
        """Edit contents, modes and times, put a new file into each folder, and take one away."""
        self._round += 1
        for place, file in enumerate(self._files):
            match (place + self._round) % 3:
                case 0:
                    os.pwrite(file, b"ours: %06d" % self._round, 0)
                case 1:
                    os.fchmod(file, 0o600 + self._round % 8)
                case _:
                    pass
        for folder in self._folders:
            with suppress(FileNotFoundError):
                os.unlink(f"new-{self._round - 1}", dir_fd=folder)
            os.close(os.open(f"new-{self._round}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder))


def lures(outside: Outside, aside: Path, *, name: str) -> Path:
    """Make something of a kind beside the trees, with a name of its own; that is what a name is exchanged with."""
    aside.mkdir(exist_ok=True)
    place = aside / f"{len(list(aside.iterdir()))}"
    outside.plant(name, place)
    if place.is_dir() and not place.is_symlink():
        (place / "in the lure").write_text("harmless")
    return place


def file_flips(root: Path, outside: Outside, aside: Path) -> list[Flip]:
    """Exchange files for links, FIFOs, devices and folders, in every folder."""
    return [
        Flip(str(root / folder), f"lured by a {lure}", str(lures(outside, aside, name=lure)))
        for folder in FOLDERS
        for lure in LURES
    ]


def folder_flips(root: Path, outside: Outside, aside: Path) -> list[Flip]:
    """Exchange folders for links to the folder outside that has the same names in it, for FIFOs and other folders."""
    flips = []
    for folder in FOLDERS[1:]:
        for lure in PARENT_LURES:
            if lure == "link":
                aside.mkdir(exist_ok=True)
                place = aside / f"{len(list(aside.iterdir()))}"
                place.symlink_to(outside.folder / folder)
            else:
                place = lures(outside, aside, name=lure)
            flips.append(Flip(str((root / folder).parent), Path(folder).name, str(place)))
    for folder in FOLDERS:
        place = aside / f"{len(list(aside.iterdir()))}"
        place.symlink_to(outside.folder / folder)
        flips.append(Flip(str(root / folder), "fresh", str(place)))
    return flips


def make_work(mirror: Path) -> None:
    """Have the next run make folders, sweep temps, and find out anew what the mirror can hold."""
    for folder in FOLDERS:
        place = mirror / folder
        if any(each.is_symlink() or not each.is_dir() for each in (place, place.parent)):
            continue
        fresh = place / "fresh"
        if fresh.is_symlink() or not fresh.is_dir():
            fresh.unlink(missing_ok=True)
        else:
            remove(fresh)
        with suppress(FileExistsError):
            (place / ".truecopy-tmp-dead-1").write_text("left")
    with suppress(OSError):
        (mirror / ".truecopy" / "mirror.json").unlink()


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
