"""Remove temps of killed runs, find entries that the source does not have, and move entries to the versions.

Temps are also removed from mirror folders that left the source. The versions folder keeps entries that leave the
mirror's tree; only its owner can enter it (invariant 4).
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from job.config.settings import Pair
from job.core.decide import is_mirrored
from job.core.entry import LOST_FOUND, STATE_FOLDER, TEMP_PREFIX, Entry, Kind, join, printable
from job.core.file_systems import Capabilities, NameRules
from job.engine.volumes import policy_of
from job.fs.dircursor import DirCursor
from job.fs.large_dir import is_temp_name, names_in, stat_names
from job.fs.listing import Found, Huge, Listing, Unreadable, entries_of, list_entries
from job.fs.mounts import NODEV, mount_restrictions
from job.fs.scanners import SourceScanner


def sweep_folder(folder: int, staged_now: bytes, retire: Callable[[bytes], None]) -> tuple[Found, bool]:
    """List an open mirror folder and remove the temps in it; True if anything was changed.

    The listing leaves out folders whose names begin with `staged_now`: other workers fill them, and those of a killed
    one are removed by the next run. Others that may have been staged before a power cut are retired: nothing proves
    whose content they have. Raises `OSError` or `Huge`.
    """
    found = list_entries(folder)
    gone: set[bytes] = set()
    for entry in [each for each in found.entries if each.name.startswith(TEMP_PREFIX)]:
        if entry.kind is not Kind.FOLDER:
            os.unlink(entry.name, dir_fd=folder)
            gone.add(entry.name)
        elif not entry.name.startswith(staged_now):
            with suppress(OSError):  # it stays, or is gone
                if _may_be_staged(entry.name, folder):
                    retire(entry.name)
                    gone.add(entry.name)
    left = [entry for entry in found.entries if entry.name not in gone and not entry.name.startswith(staged_now)]
    return found._replace(entries=left), bool(gone)


def _may_be_staged(name: bytes, folder: int) -> bool:
    if not is_temp_name(name):
        return False
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return seen.st_uid == os.geteuid() and seen.st_mode & 0o777 == stat.S_IRWXU


class LeftOver(NamedTuple):
    """Entries of one mirror folder that its source does not have."""

    path: bytes
    folder: int
    """The open mirror folder; valid until the next iteration."""
    entries: Sequence[tuple[bytes, Kind]]
    why: str
    """Why they count as surplus."""


NOT_THERE = "it is not in the source"
NOT_COPIED = "the source has something else of that name, which this mirror does not get"


class NotKnownError(OSError):
    """It is unknown whether the mirror has entries below a folder that the source does not have."""

    def __init__(self, why: str, next_step: str = "the next cycle compares it again") -> None:
        super().__init__(errno.EAGAIN, why)
        self.next_step = next_step


class Surplus:
    """Compares mirror folders with their sources. Use it with `contextlib.closing`."""

    def __init__(
        self, source: SourceScanner, roots: tuple[int, int], pair: Pair, mirror: Callable[[bytes], Capabilities]
    ) -> None:
        """`roots` are those of source and mirror, open; `mirror` returns the capabilities at a path."""
        self._source = source
        self._sources, self._mirrors = map(DirCursor, roots)
        self._pair = pair
        self._mirror = mirror
        self.at = b""
        """The folder that `below` compared last."""

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    def check_done(self, path: bytes, failed: Collection[bytes]) -> None:
        """Check that the mirror has none of the `failed` entries below a folder. Raises `NotKnownError`."""
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
        """Yield the surplus of a mirror folder and all below it. Raises `OSError` if either side cannot be listed."""
        self.at, waiting = path, [path]
        while waiting:
            at = self.at = waiting.pop()
            left, folders = self._judged(at, self._mirrors.goto(at))
            for why, entries in left.items():
                yield LeftOver(at, self._mirrors.goto(at), entries, why)
            waiting += reversed(folders)

    def _judged(self, at: bytes, folder: int) -> tuple[dict[str, list[tuple[bytes, Kind]]], list[bytes]]:
        """Return the surplus of an open mirror folder, by reason, and its subfolders that the source has."""
        listing = self._listed(at)
        known = None if listing is None else {entry.name: entry for entry in listing.entries}
        left: dict[str, list[tuple[bytes, Kind]]] = {}
        folders: list[bytes] = []
        for names in names_in(folder):
            held = {entry.name: entry.kind for entry in entries_of(stat_names(folder, names, Unreadable()))}
            wanted = self._named(at, names) if known is None else known
            source_names = self._source_names(at, held, wanted)
            for name, kind in held.items():
                path, expected = join(at, source_names.get(name, name)), wanted.get(source_names.get(name, name))
                if expected is None and _is_internal(at, name, folder):
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
        """Check whether an entry of a source folder belongs in the mirror."""
        if entry.kind in {Kind.FILE, Kind.FOLDER}:
            return True
        policy = policy_of(self._pair, self._mirror(at))
        if self._pair.options_key:
            policy = policy._replace(nodev=NODEV in mount_restrictions(self._sources.goto(at)))
        return is_mirrored(entry, policy)

    def _source_names(self, at: bytes, held: Collection[bytes], wanted: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the source names by mirror name, for a mirror that treats different names as equal."""
        mirror = self._mirror(at)
        if mirror.keeps_all_names:
            return {}
        name_rules = NameRules(mirror)
        keys = {name_rules.key(name): name for name in wanted}
        return {name: keys[key] for name in held if name not in wanted and (key := name_rules.key(name)) in keys}

    def _confirm(self, at: bytes, names: Sequence[bytes], listing: Listing | None) -> None:
        """Check by name that the source does not have the names that its listing lacks. Raises `NotKnownError`."""
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


def _is_internal(at: bytes, name: bytes, folder: int) -> bool:
    """Check for the state folder, and for lost+found if only root can enter it."""
    if name == STATE_FOLDER:
        return not at
    if name != LOST_FOUND:
        return False
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return seen.st_uid == 0 and stat.S_IMODE(seen.st_mode) == stat.S_IRWXU
