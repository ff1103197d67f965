"""List folders by descriptor and fingerprint the listings: what did not move is passed over at the cost of a stat."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from job.core.entry import is_reserved, join
from job.core.mounted import ByMount
from job.core.record import Stamp
from job.core.rules import Rules
from job.core.spelling import Spelling
from job.files.crowd import fingerprint_of_sums, names_in, rows_named, whole_sums
from job.files.listing import (
    Glance,
    Listing,
    MirrorUnmountedError,
    NameNotHeldError,
    Row,
    Unlisted,
    Unreadable,
    entries_of,
    fingerprint_of,
    glance,
    list_entries,
    mirror_fingerprint_of,
    stamp_of,
)
from job.files.trail import Trail


class Fits(NamedTuple):
    """What fits one file system of a mirror."""

    policy: bytes
    """Mixed into fingerprints: other options, other fingerprints."""
    spelling: Spelling | None
    """By it names that the mirror cannot hold are left out, and told as unreadable."""

    def salted(self, rules: bytes) -> Self:
        """Give the same for some rules, by their digest."""
        return self._replace(policy=hashlib.sha256(self.policy + rules).digest())


_UNMOUNTED = (
    "in the mirror a file system was mounted here, and is not mounted now; mount it, or, if it is not to come back, "
    "remove the empty folder that is left"
)
_ANY = Fits(b"", None)
_NONE: Mapping[bytes, Fits] = {}


class Scanner:
    """Lists the folders below one root that are in scope."""

    def __init__(
        self,
        root: int,
        rules: Rules,
        fits: Fits = _ANY,
        *,
        cross_mounts: bool = False,
        mounted: Mapping[bytes, Fits] = _NONE,
        gone: Iterable[bytes] = (),
    ) -> None:
        """Take an open root, and what `fits` a mirror; another file system may be `mounted` at some paths in that.

        Unless `cross_mounts`, a folder where another file system is mounted is listed as if it was empty. Folders whose
        file system in the mirror is `gone` cannot be read: nothing may be copied to where it was.
        """
        digest = rules.digest
        salted = {point: each.salted(digest) for point, each in mounted.items()}
        self._fits = ByMount(fits.salted(digest), salted, fits.spelling)
        self._gone = frozenset(gone)
        self._trail = Trail(root)
        self._device = None if cross_mounts else os.fstat(root).st_dev
        self._rules = rules

    def close(self) -> None:
        """Close what the walk opened; the root stays open."""
        self._trail.close()

    def walk(self, start: bytes = b"") -> Iterator[Listing | Unlisted]:
        """List every folder from `start` on, parents before children, each as it is at that moment."""
        waiting = [start]
        while waiting:
            path = waiting.pop()
            try:
                listing = self.list(path)
            except OSError as error:
                yield Unlisted(path, error)
                continue
            yield listing
            waiting.extend(join(path, name) for name in reversed(listing.folders))

    def _in_scope(
        self, path: bytes, rows: list[Row], folders: Sequence[bytes] | None, refused: Unreadable
    ) -> list[Row]:
        """Leave out what is out of scope, and, told in `refused`, what the mirror cannot hold."""
        rows = self._rules.in_scope(path, rows, folders)
        spelling = self._fits.at(path).spelling
        if spelling is None:
            return rows
        faults = spelling.faults([row[0] for row in rows])
        if not faults:
            return rows
        refused += [(name, NameNotHeldError(errno.EINVAL, why)) for name, why in sorted(faults.items())]
        return [row for row in rows if row[0] not in faults]

    def glance(self, path: bytes, share: int = 0) -> Glance:
        """Look at one folder, or at one share of a huge one. Raises `OSError` if it cannot be opened or read."""
        folder = self._opened(path)
        seen = os.fstat(folder)
        salt = self._fits.at(path).policy + stamp_of(seen)
        if self._is_elsewhere(seen):
            return Glance(fingerprint_of([], salt), [], 0, 0, 0, mount=True)
        found = glance(folder, salt, lambda rows, folders: self._in_scope(path, rows, folders, []), share)
        folders = _visited(path, found.folders)
        return found if len(folders) == len(found.folders) else found._replace(folders=folders)

    def list(self, path: bytes) -> Listing:
        """List one folder. Raises `OSError` if it cannot be opened or read, `Huge` if it should not be held whole."""
        folder = self._opened(path)
        before = os.fstat(folder)
        salt = self._fits.at(path).policy + stamp_of(before)
        if self._is_elsewhere(before):
            return Listing(path, [], [], before, fingerprint_of([], salt), [])
        refused = Unreadable()
        entries, unreadable, linked = list_entries(
            folder, lambda rows, folders: self._in_scope(path, rows, folders, refused)
        )
        unreadable += refused
        folders = _visited(path, [entry.name for entry in entries if stat.S_ISDIR(entry.mode)])
        return Listing(path, entries, folders, before, fingerprint_of(entries, salt), unreadable, linked)

    def _opened(self, path: bytes) -> int:
        if path in self._gone:
            raise MirrorUnmountedError(errno.ENODEV, _UNMOUNTED)
        return self._trail.goto(path)

    def _is_elsewhere(self, folder: os.stat_result) -> bool:
        return self._device is not None and folder.st_dev != self._device

    def names(self, path: bytes) -> Iterator[Sequence[bytes]]:
        """Give the names in a huge folder, some at a time, in scope or not. Raises `OSError`."""
        return names_in(self._trail.goto(path))

    def part(self, path: bytes, names: Iterable[bytes]) -> Listing:
        """List those of a folder's names that are there and in scope; without a fingerprint. Raises `OSError`."""
        folder = self._opened(path)
        before, unreadable, linked = os.fstat(folder), Unreadable(), list[bytes]()
        rows = rows_named(folder, names, unreadable, linked)
        entries = entries_of(self._in_scope(path, rows, None, unreadable))
        folders = _visited(path, [entry.name for entry in entries if stat.S_ISDIR(entry.mode)])
        return Listing(path, entries, folders, before, b"", unreadable, linked)


def _visited(path: bytes, folders: list[bytes]) -> list[bytes]:
    # A reserved folder is reported as failed by its parent; what is in it must not reach the mirror's own state.
    return [name for name in folders if not is_reserved(join(path, name))]


class MirrorWatch:
    """Looks at the mirror without changing it: folder stamps in every cycle, whole listings in an audit."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._trail = Trail(root)

    def close(self) -> None:
        """Close what was opened; the root stays open."""
        self._trail.close()

    def stamp(self, path: bytes) -> Stamp | None:
        """Give a mirror folder's stamp; None if it is missing or no folder of ours."""
        try:
            if not path:
                return stamp_of(os.fstat(self._root))
            parent, _, name = path.rpartition(b"/")
            seen = os.stat(name, dir_fd=self._trail.goto(parent), follow_symlinks=False)
        except OSError:
            return None
        return stamp_of(seen) if stat.S_ISDIR(seen.st_mode) else None

    def inspected(self, path: bytes, parts: int = 1) -> tuple[Stamp, bytes] | None:
        """Give a mirror folder's stamp and the fingerprint of everything in it; None if it cannot be read.

        What was brought up to date in `parts` is remembered as a sum.
        """
        try:
            folder = self._trail.goto(path)
            stamp = stamp_of(os.fstat(folder))
            if parts == 1:
                found = mirror_fingerprint_of(folder)
            else:
                sums = whole_sums(folder)
                found = None if sums is None else fingerprint_of_sums(sums)
        except OSError:
            return None
        return None if found is None else (stamp, found)
