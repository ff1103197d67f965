"""Surplus: what the mirror has below a folder and the source has not, compared by name once more."""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from job.core.entry import LOST_FOUND, STATE_FOLDER, Kind, join, printable
from job.core.spelling import Spelling
from job.files.crowd import names_in, rows_named
from job.files.listing import Huge, Listing, Unreadable, entries_of
from job.files.trail import Trail
from job.tasks.bench import Source


class LeftOver(NamedTuple):
    """What one mirror folder has and its source has not."""

    path: bytes
    folder: int
    """The open mirror folder; valid until the next one is asked for."""
    entries: Sequence[tuple[bytes, Kind]]


class NotKnownError(OSError):
    """Nobody can tell whether what the mirror has below a folder is what the source has."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EAGAIN, why)


class Surplus:
    """Compares mirror folders with their sources. Use it with `contextlib.closing`."""

    def __init__(self, source: Source, mirror_root: int, spelling: Callable[[bytes], Spelling | None]) -> None:
        """`spelling` gives what a folder's file system takes for one name."""
        self._source = source
        self._mirrors = Trail(mirror_root)
        self._spelling = spelling

    def close(self) -> None:
        """Close what was opened."""
        self._mirrors.close()

    def check_done(self, path: bytes, failed: Collection[bytes]) -> None:
        """Insist that the mirror has nothing of what failed in a folder and below it. Raises `NotKnownError`."""
        inside = path + b"/" if path else b""
        for each in failed:
            if each == path or (each.startswith(inside) and self._holds(each)):
                raise NotKnownError(f"{printable(each)} could not be brought up to date")

    def _holds(self, path: bytes) -> bool:
        parent, _, name = path.rpartition(b"/")
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(name, dir_fd=self._mirrors.goto(parent), follow_symlinks=False)
            return True
        return False

    def below(self, path: bytes) -> Iterator[LeftOver]:
        """Go through a mirror folder and all below it. Raises `OSError` where either side cannot be known."""
        waiting = [path]
        while waiting:
            at = waiting.pop()
            entries, folders = self._judged(at, self._mirrors.goto(at))
            if entries:
                yield LeftOver(at, self._mirrors.goto(at), entries)
            waiting += reversed(folders)

    def _judged(self, at: bytes, folder: int) -> tuple[list[tuple[bytes, Kind]], list[bytes]]:
        """Give what is left over in an open mirror folder, and the folders in it to go on with."""
        listing = self._listed(at)
        known = None if listing is None else {entry.name: entry.kind for entry in listing.entries}
        left: list[tuple[bytes, Kind]] = []
        folders: list[bytes] = []
        for names in names_in(folder):
            held = {entry.name: entry.kind for entry in entries_of(rows_named(folder, names, Unreadable()))}
            wanted = self._kinds(at, names) if known is None else known
            spelled = self._spelled(at, held, wanted)
            for name, kind in held.items():
                path = join(at, spelled.get(name, name))
                expected = wanted.get(spelled.get(name, name))
                if expected is None:
                    left += [] if _is_nobodys(at, name, folder) else [(name, kind)]
                elif expected is not kind:
                    raise NotKnownError(f"the mirror has a {kind} at {printable(path)}, the source a {expected}")
                elif kind is Kind.FOLDER:
                    folders.append(path)
        if left:
            self._confirm(at, [name for name, _ in left], listing)
        return left, folders

    def _listed(self, at: bytes) -> Listing | None:
        """List a folder of the source; None for a huge one."""
        try:
            return self._source.list(at)
        except Huge:
            return None

    def _kinds(self, at: bytes, names: Sequence[bytes]) -> dict[bytes, Kind]:
        return {entry.name: entry.kind for entry in self._source.part(at, names).entries}

    def _spelled(self, at: bytes, held: Collection[bytes], wanted: Collection[bytes]) -> dict[bytes, bytes]:
        """Give the source's names by those of a mirror that takes different names for the same."""
        spelling = self._spelling(at)
        if spelling is None:
            return {}
        keys = {spelling.key(name): name for name in wanted}
        return {name: keys[key] for name in held if name not in wanted and (key := spelling.key(name)) in keys}

    def _confirm(self, at: bytes, names: Sequence[bytes], listing: Listing | None) -> None:
        """Insist that the source does not have names that its listing did not show."""
        if listing is not None and any(each.path == at for each in listing.left_out):
            raise NotKnownError(f"{printable(at)} is left out of the source, and its mirror is not empty")
        again = self._source.part(at, names)
        found = [entry.name for entry in again.entries] + [name for name, _ in again.unreadable]
        if found:
            raise NotKnownError(f"the source's listing did not show {printable(join(at, found[0]))}, which exists")


def _is_nobodys(at: bytes, name: bytes, folder: int) -> bool:
    """Tell what belongs to Truecopy or to the file system, and is closed to all others."""
    if name == STATE_FOLDER:
        return not at
    if name != LOST_FOUND:
        return False
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return seen.st_uid == 0 and stat.S_IMODE(seen.st_mode) == stat.S_IRWXU
