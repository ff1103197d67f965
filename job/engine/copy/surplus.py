"""Surplus: what the mirror has below a folder and the source has not, compared by name once more."""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from job.config.settings import Pair
from job.core.capabilities import Capabilities
from job.core.decide import gets
from job.core.entry import LOST_FOUND, STATE_FOLDER, Entry, Kind, join, printable
from job.core.filenames import Spelling
from job.engine.context import Source, means_of
from job.fs.dircursor import Trail
from job.fs.large_dir import names_in, rows_named
from job.fs.listing import Huge, Listing, Unreadable, entries_of
from job.fs.mount_flags import NODEV, restrictions_of


class LeftOver(NamedTuple):
    """What one mirror folder has and its source has not."""

    path: bytes
    folder: int
    """The open mirror folder; valid until the next one is asked for."""
    entries: Sequence[tuple[bytes, Kind]]
    why: str
    """In which way its source has nothing for them."""


NOT_THERE = "it is not in the source"
NOT_COPIED = "the source has something else of that name, which this mirror does not get"


class NotKnownError(OSError):
    """Nobody can tell whether what the mirror has below a folder is what the source has."""

    def __init__(self, why: str, next_step: str = "the next cycle looks again") -> None:
        super().__init__(errno.EAGAIN, why)
        self.next_step = next_step


class Surplus:
    """Compares mirror folders with their sources. Use it with `contextlib.closing`."""

    def __init__(
        self, source: Source, roots: tuple[int, int], pair: Pair, mirror: Callable[[bytes], Capabilities]
    ) -> None:
        """`roots` are the open ones of source and mirror; `mirror` gives what a folder's file system can hold."""
        self._source = source
        self._sources, self._mirrors = map(Trail, roots)
        self._pair = pair
        self._mirror = mirror

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    def check_done(self, path: bytes, failed: Collection[bytes]) -> None:
        """Insist that the mirror has nothing of what failed in a folder and below it. Raises `NotKnownError`."""
        inside = path + b"/" if path else b""
        for each in failed:
            if each == path or (each.startswith(inside) and self._holds(each)):
                raise NotKnownError(
                    f"{printable(each)} could not be brought up to date",
                    "mend what that entry failed for, or exclude it, and the next cycle opens the folder",
                )

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
            left, folders = self._judged(at, self._mirrors.goto(at))
            for why, entries in left.items():
                yield LeftOver(at, self._mirrors.goto(at), entries, why)
            waiting += reversed(folders)

    def _judged(self, at: bytes, folder: int) -> tuple[dict[str, list[tuple[bytes, Kind]]], list[bytes]]:
        """Give what is left over in an open mirror folder, by the reason, and the folders in it to go on with."""
        listing = self._listed(at)
        known = None if listing is None else {entry.name: entry for entry in listing.entries}
        left: dict[str, list[tuple[bytes, Kind]]] = {}
        folders: list[bytes] = []
        for names in names_in(folder):
            held = {entry.name: entry.kind for entry in entries_of(rows_named(folder, names, Unreadable()))}
            wanted = self._named(at, names) if known is None else known
            spelled = self._spelled(at, held, wanted)
            for name, kind in held.items():
                path, expected = join(at, spelled.get(name, name)), wanted.get(spelled.get(name, name))
                if expected is None and _is_nobodys(at, name, folder):
                    continue
                if expected is None or not self._gets(at, expected):
                    left.setdefault(NOT_THERE if expected is None else NOT_COPIED, []).append((name, kind))
                elif expected.kind is not kind:
                    raise NotKnownError(f"the mirror has a {kind} at {printable(path)}, the source a {expected.kind}")
                elif kind is Kind.FOLDER:
                    folders.append(path)
        if left:
            self._confirm(at, [name for entries in left.values() for name, _ in entries], listing)
        return left, folders

    def _listed(self, at: bytes) -> Listing | None:
        """List a folder of the source; None for a huge one."""
        try:
            return self._source.list(at)
        except Huge:
            return None

    def _named(self, at: bytes, names: Sequence[bytes]) -> dict[bytes, Entry]:
        return {entry.name: entry for entry in self._source.part(at, names).entries}

    def _gets(self, at: bytes, entry: Entry) -> bool:
        """Tell whether the mirror is to have an entry of a folder of the source."""
        if entry.kind in {Kind.FILE, Kind.FOLDER}:
            return True
        means = means_of(self._pair, self._mirror(at))
        if self._pair.policy:
            means = means._replace(nodev=NODEV in restrictions_of(self._sources.goto(at)))
        return gets(entry, means)

    def _spelled(self, at: bytes, held: Collection[bytes], wanted: Collection[bytes]) -> dict[bytes, bytes]:
        """Give the source's names by those of a mirror that takes different names for the same."""
        mirror = self._mirror(at)
        if mirror.exact:
            return {}
        spelling = Spelling(mirror)
        keys = {spelling.key(name): name for name in wanted}
        return {name: keys[key] for name in held if name not in wanted and (key := spelling.key(name)) in keys}

    def _confirm(self, at: bytes, names: Sequence[bytes], listing: Listing | None) -> None:
        """Insist that the source does not have names that its listing did not show."""
        if listing is not None and any(each.path == at for each in listing.left_out):
            raise NotKnownError(
                f"{printable(at)} is left out of the source, and its mirror is not empty",
                "empty its mirror, and the next cycle opens the folder",
            )
        again = self._source.part(at, names)
        found = [entry.name for entry in again.entries if self._gets(at, entry)]
        found += [name for name, _ in again.unreadable]
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
