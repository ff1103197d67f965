"""List folders by descriptor and fingerprint the listings: what did not move is passed over at the cost of a stat."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from job.core.entry import is_reserved, join
from job.core.record import Stamp
from job.core.rules import Rules
from job.core.spelling import Spelling
from job.files.crowd import fingerprint_of_sums, names_in, rows_named, whole_sums
from job.files.listing import (
    Glance,
    Listing,
    NameNotHeldError,
    Row,
    Shared,
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


class Scanner:
    """Lists the folders below one root that are in scope."""

    def __init__(
        self,
        root: int,
        rules: Rules,
        policy: bytes = b"",
        *,
        cross_mounts: bool = False,
        spelling: Spelling | None = None,
    ) -> None:
        """Take an open root. `policy` is mixed into fingerprints: other options, other fingerprints.

        Unless `cross_mounts`, a folder where another file system is mounted is listed as if it was empty. By `spelling`
        names that the mirror cannot hold are left out, and told as unreadable.
        """
        self._spelling = spelling
        self._trail = Trail(root)
        self._device = None if cross_mounts else os.fstat(root).st_dev
        self._rules = rules
        self._policy = hashlib.sha256(policy + rules.digest).digest()

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
        if self._spelling is None:
            return rows
        faults = self._spelling.faults([row[0] for row in rows])
        if not faults:
            return rows
        refused += [(name, NameNotHeldError(errno.EINVAL, why)) for name, why in sorted(faults.items())]
        return [row for row in rows if row[0] not in faults]

    def glance(self, path: bytes, share: int = 0) -> Glance:
        """Look at one folder, or at one share of a huge one. Raises `OSError` if it cannot be opened or read."""
        folder = self._trail.goto(path)
        seen = os.fstat(folder)
        salt = self._policy + stamp_of(seen)
        if self._is_elsewhere(seen):
            return Glance(fingerprint_of([], salt), [], 0, 0, 0, mount=True)
        found = glance(folder, salt, lambda rows, folders: self._in_scope(path, rows, folders, []), share)
        folders = _visited(path, found.folders)
        return found if len(folders) == len(found.folders) else found._replace(folders=folders)

    def list(self, path: bytes) -> Listing:
        """List one folder. Raises `OSError` if it cannot be opened or read, `Huge` if it should not be held whole."""
        folder = self._trail.goto(path)
        before = os.fstat(folder)
        if self._is_elsewhere(before):
            return Listing(path, [], [], before, fingerprint_of([], self._policy + stamp_of(before)), [])
        refused = Unreadable()
        entries, unreadable, linked = list_entries(
            folder, lambda rows, folders: self._in_scope(path, rows, folders, refused)
        )
        unreadable += refused
        folders = _visited(path, [entry.name for entry in entries if stat.S_ISDIR(entry.mode)])
        return Listing(
            path, entries, folders, before, fingerprint_of(entries, self._policy + stamp_of(before)), unreadable, linked
        )

    def _is_elsewhere(self, folder: os.stat_result) -> bool:
        return self._device is not None and folder.st_dev != self._device

    def names(self, path: bytes) -> Iterator[Sequence[bytes]]:
        """Give the names in a huge folder, some at a time, in scope or not. Raises `OSError`."""
        return names_in(self._trail.goto(path))

    def part(self, path: bytes, names: Iterable[bytes]) -> Listing:
        """List those of a folder's names that are there and in scope; without a fingerprint. Raises `OSError`."""
        folder = self._trail.goto(path)
        before, unreadable, linked = os.fstat(folder), Unreadable(), dict[bytes, Shared]()
        if self._is_elsewhere(before):
            return Listing(path, [], [], before, b"", unreadable)
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
