"""What becomes of each kind of metadata on each file system, looked up in the mirror and in the index.

The job is asked for one thing only: whether it named as failed what is in neither.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from job.store.index import Index
from tests.faults.images import NO_SUCH_DISK
from tests.faults.rig import UNPRIVILEGED, Rig
from tests.faults.tampering import mounted, run
from tests.fidelity import foreign
from tests.fidelity.kinds import MIB, ROWS
from tests.fidelity.nature import NATURES, Nature
from tests.fidelity.sight import Sight
from tests.fidelity.small import ODD_NS
from tests.fidelity.systems import EVERYTHING

RESULTS = Path(__file__).with_name("fidelity.json")

Table = dict[str, dict[str, str]]
"""By file system, then by kind of metadata."""


@dataclass(frozen=True)
class Column:
    """A file system, and who mirrors to it."""

    mount: Callable[[Path, Path], AbstractContextManager[object]]
    """Takes a folder to mount in, and a name for an image."""
    marks: tuple[pytest.MarkDecorator, ...]
    prefix: tuple[str, ...] = ()
    """Goes before the job's command."""

    @contextmanager
    def mirrored(self, base: Path) -> Iterator[tuple[Rig, frozenset[str]]]:
        """Mirror an instance of everything; gives what the job named as failed, too."""
        with self.mount(base / "mirror", base / "image"):
            rig = Rig(base, EVERYTHING | {"audit_interval": 0})
            plant(rig.source)
            yield rig, frozenset(rig.once(prefix=self.prefix).failed)

    def measured(self, base: Path) -> dict[str, str]:
        """Judge what becomes of everything."""
        with self.mirrored(base) as (rig, failed):
            return looked_up(rig, failed)


def looked_up(rig: Rig, failed: frozenset[str]) -> dict[str, str]:
    """Judge each kind by the mirror and its index."""
    index = Index.open_read_only(str(rig.state))
    assert index is not None
    with closing(index):
        return judged(rig, index, failed)


def plant(source: Path) -> None:
    """Make an instance of everything, each kind in a folder of its own, as old as can be told from any other age."""
    for number, row in enumerate(ROWS.values()):
        folder = source / str(number)
        folder.mkdir()
        row.plant(folder)
        for path in sorted(folder.rglob("*"), reverse=True):
            os.utime(path, ns=(ODD_NS, ODD_NS), follow_symlinks=False)


def judged(rig: Rig, index: Index, failed: frozenset[str]) -> dict[str, str]:
    """Judge each kind."""
    found = {}
    for number, (words, row) in enumerate(ROWS.items()):
        name = str(number)
        found[words] = row.judge(Sight(rig.source / name, rig.mirror / name, name.encode(), index, failed))
    return found


def disk(kind: str) -> Callable[[Path, Path], AbstractContextManager[object]]:
    """Mount an image of its own."""

    @contextmanager
    def mount(at: Path, image: Path) -> Iterator[None]:
        image.touch()
        os.truncate(image, 400 * MIB)
        run(f"mkfs.{kind}", "-q", str(image), passing=NO_SUCH_DISK)
        with mounted(str(image), at, "-o", "loop"):
            yield

    return mount


def memory(at: Path, _: Path) -> AbstractContextManager[object]:
    """Mount a tmpfs."""
    return mounted("tmpfs", at, "-t", "tmpfs")


@contextmanager
def overlay(at: Path, image: Path) -> Iterator[None]:
    """Mount an overlay whose layers are in memory."""
    with memory(image, image):
        for name in ("lower", "upper", "work"):
            (image / name).mkdir()
        layers = f"lowerdir={image}/lower,upperdir={image}/upper,workdir={image}/work"
        with mounted("overlay", at, "-t", "overlay", "-o", layers):
            yield


def storage(nature: Nature) -> Callable[[Path, Path], AbstractContextManager[object]]:
    """Mount what is no file system of Linux."""
    return lambda at, _: foreign.nas(at, nature)


def _needs(*tools: str) -> tuple[pytest.MarkDecorator, ...]:
    return pytest.mark.needs_root, *map(pytest.mark.needs_tool, tools)


COLUMNS = {
    "ext4": Column(disk("ext4"), _needs("mkfs.ext4")),
    "XFS": Column(disk("xfs"), _needs("mkfs.xfs")),
    "btrfs": Column(disk("btrfs"), _needs("mkfs.btrfs")),
    "tmpfs": Column(memory, _needs("mount")),
    "overlay": Column(overlay, _needs("mount")),
    "exFAT": Column(foreign.exfat, foreign.EXFAT),
    "NTFS (ntfs-3g)": Column(foreign.ntfs, foreign.NTFS),
    "network storage like FAT": Column(storage(NATURES["fat"]), foreign.NAS),
    "storage like HFS+": Column(storage(NATURES["hfs"]), foreign.NAS),
    "ext4, not root": Column(disk("ext4"), _needs("mkfs.ext4", "setpriv"), UNPRIVILEGED),
}


def read() -> Table:
    """Give the committed results."""
    table: Table = json.loads(RESULTS.read_text("utf-8"))
    return table
