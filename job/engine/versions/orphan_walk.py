"""Find all orphans of a mirror by walking it and its source; the index only says since when each is missing.

So those are found, too, that left the source before the index had rows of them. Nothing is changed.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from job.core.entry import Entry, Kind, join, kind_of
from job.core.file_systems import ByMount, Capabilities, NameRules
from job.core.record import Record
from job.core.versions import OrphanRow
from job.engine.versions.orphan_tree import extent_of, records_in
from job.engine.versions.orphans import left_behind
from job.fs.dircursor import DirCursor
from job.fs.large_dir import names_in, stat_names
from job.fs.listing import Huge, Listing, Unreadable, entries_of
from job.fs.scanners import SourceScanner
from job.store.index import Index


class Orphan(NamedTuple):
    """An entry of the mirror that left the source, with all below it."""

    path: bytes
    kind: Kind
    files: int
    """Entries that are no folders."""
    bytes: int
    since_ns: int
    """When its absence was first noticed; 0 if no cycle has noticed it yet."""
    checksum: str
    """As recorded, with its algorithm; empty for a folder, and if none is recorded of this content."""


class NotWalked(NamedTuple):
    """A folder, or an entry of it, that could not be read, so that nothing is known of what is below it."""

    path: bytes
    error: OSError


class OrphanWalk:
    """Walks one pair. Use it with `contextlib.closing`."""

    def __init__(
        self, source: SourceScanner, roots: tuple[int, int], index: Index, mirror: ByMount[Capabilities]
    ) -> None:
        """`roots` are those of source and mirror, open; `mirror` has the capabilities."""
        self._source, self._index, self._mirror = source, index, mirror
        self._sources, self._mirrors = map(DirCursor, roots)

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    def run(self) -> Iterator[Orphan | NotWalked]:
        """Yield all orphans of the mirror, parents before what is below them in other folders."""
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            try:
                folders, left, unreadable = self._folder(path)
                yield from [NotWalked(join(path, name), error) for name, error in unreadable]
                yield from self._orphans(path, left)
            except (FileNotFoundError, NotADirectoryError):
                continue  # the mirror does not have the folder, or the source has lost it meanwhile
            except OSError as error:
                yield NotWalked(path, error)
                continue
            waiting += [join(path, name) for name in reversed(folders)]

    def _folder(self, path: bytes) -> tuple[Sequence[bytes], list[Entry], Unreadable]:
        """Return the subfolders of a source folder, the orphans of its mirror, and what cannot be read there."""
        able = self._mirror.at(path)
        rules = None if able.keeps_all_names else NameRules(able)
        mirror, unreadable, left = self._mirrors.goto(path), Unreadable(), list[Entry]()
        listing, names = self._listed(path)
        for some in names_in(mirror):
            left += left_behind(entries_of(stat_names(mirror, some, unreadable)), listing, names, rules, self._source)
        # A listing may lack what exists.
        there = self._source.part(path, [entry.name for entry in left]) if left else None
        if there is not None and (there.entries or there.unreadable):
            found = {entry.name for entry in there.entries} | {name for name, _ in there.unreadable}
            left = [entry for entry in left if entry.name not in found]
        return listing.folders, sorted(left), unreadable

    def _listed(self, path: bytes) -> tuple[Listing, Collection[bytes]]:
        """Return the listing of a source folder, and all its names; the listing of a huge one has its subfolders."""
        try:
            listing = self._source.list(path)
        except Huge:
            folders, names = list[bytes](), set[bytes]()
            listing = self._source.part(path, [])
            for some in self._source.names(path):
                names.update(some)
                folders += self._source.part(path, some).folders
            return listing._replace(folders=folders), names
        return listing, {entry.name for entry in listing.entries}

    def _orphans(self, path: bytes, left: list[Entry]) -> Iterator[Orphan | NotWalked]:
        rows = self._index.orphans.named(path) if left else {}
        records = records_in(self._index, path) if any(entry.name not in rows for entry in left) else {}
        for entry in left:
            row = rows.get(entry.name)
            row = row if row is not None and kind_of(row.mode) is entry.kind else None
            since_ns, where = row.since_ns if row else 0, join(path, entry.name)
            if entry.kind is not Kind.FOLDER:
                checksum = _checksum(entry, row, records.get(entry.name))
                yield Orphan(where, entry.kind, 1, entry.size, since_ns, checksum)
                continue
            try:
                below = extent_of(where, self._mirrors, self._source)
            except OSError as error:
                yield NotWalked(where, error)
                continue
            if below.files or not below.excluded:
                yield Orphan(where, Kind.FOLDER, below.files, below.size, since_ns, "")


def _checksum(entry: Entry, row: OrphanRow | None, record: Record | None) -> str:
    """Return the recorded checksum, if the entry is as it was recorded."""
    found = (entry.inode, entry.size, max(0, entry.mtime_ns))
    if row is not None:
        return row.checksum if found == (row.inode, row.size, row.mtime_ns) else ""
    if record is not None and found == (record.mirror.inode, record.mirror.size, max(0, record.mirror.mtime_ns)):
        return record.checksum
    return ""


def walked(
    source: SourceScanner, roots: tuple[int, int], index: Index, mirror: ByMount[Capabilities]
) -> Iterator[Orphan | NotWalked]:
    """Yield all orphans of an open pair, and what could not be read."""
    with closing(OrphanWalk(source, roots, index, mirror)) as walk:
        yield from walk.run()
