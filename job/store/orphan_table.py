"""The rows of the index about orphans: entries of the mirror that left the source (`store/version_rows.py`).

A folder has a row only while it has orphans, a huge one a row for each part. An orphan keeps the time at which it was
first noticed; it begins anew if its row is lost, which only makes it stay longer. Invalid rows count as lost.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from math import isfinite
from stat import S_ISDIR
from typing import Any, NamedTuple, Protocol

from job.core.entry import join
from job.core.record import FolderDone
from job.core.versions import OrphanRow, OrphansSeen, VersionsDone
from job.store.index_tree import Tree, key_of
from job.store.version_rows import decode_orphans, encode_orphans
from job.store.version_table import store_versions

_SCANS, _SCAN_TIME = "complete_scans", "complete_scan_timestamp_seconds"
_FACT = "SELECT value FROM fact WHERE name = ?"
_MOST = (1 << 63) - 1
"""Largest number of SQLite."""
_STORE = "INSERT OR REPLACE INTO orphan VALUES (?, ?, ?, ?, ?, ?, ?)"
_ANY = "SELECT 1 FROM orphan WHERE folder = ? LIMIT 1"
_OF_FOLDER = "SELECT part, rows FROM orphan WHERE folder = ?"
_OF_PART = "SELECT rows FROM orphan WHERE folder = ? AND part = ?"
_BELOW = "SELECT name, entries, bytes FROM folder WHERE parent = ?"
_OWN = "SELECT entries, bytes FROM folder WHERE parent = ? AND name = ?"


class OrphansLeft(NamedTuple):
    """All orphans of a folder, or of one part of it, after some were retired."""

    path: bytes
    part: int
    rows: list[OrphanRow]


class _OpenIndex(Protocol):
    has_changed_orphans: bool
    has_new_versions: bool

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Commit what the block writes, or nothing. Raises `OSError`."""

    def rows_of(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Return all rows of a query; none if the index is damaged. Raises `OSError`."""

    def is_ignored(self, path: bytes) -> bool:
        """Return whether the file system of a folder is ignored."""


class OrphanTable:
    """The orphans of one index."""

    def __init__(self, index: _OpenIndex, connection: sqlite3.Connection, tree: Tree) -> None:
        self._index, self._db, self._tree = index, connection, tree

    # Within the caller's transaction; errors are those of SQLite ------------------------------------------------------

    def store_folders(self, folders: Iterable[FolderDone]) -> None:
        """Replace the orphans of finished folders."""
        self.store([OrphansSeen(path, 0, orphans, summary.parts) for path, summary, _, orphans in folders])

    def store(self, seen: Iterable[OrphansSeen]) -> None:
        """Replace the orphans of folders and parts by those that were seen; known ones keep their times."""
        scan = _number(self._one(_FACT, _SCANS))
        for path, part, text, parts in seen:
            if text is None and parts <= 1:
                continue
            key = key_of(path)
            is_known = self._one(_ANY, key) is not None
            if text:
                known = self._known(key, part, whole=parts == 1) if is_known else {}
                rows = [self._merged(path, known.get(each.name), each, scan) for each in decode_orphans(text)]
                if self._put(path, part, rows):
                    self._tree.make_findable(path, ())
                    self._tree.store_way(path)
            elif is_known and text is not None:
                self._put(path, part, [])
            if is_known and parts:
                self._db.execute("DELETE FROM orphan WHERE folder = ? AND part >= ?", (key, parts))

    def _put(self, path: bytes, part: int, rows: list[OrphanRow]) -> bool:
        """Store all orphans of a part; False if they are stored already, as mostly."""
        text, stored = encode_orphans(rows), self._one(_OF_PART, key_of(path), part)
        if text == (stored[0] if stored else ""):
            return False
        self._index.has_changed_orphans = True
        if not rows:
            self._db.execute("DELETE FROM orphan WHERE folder = ? AND part = ?", (key_of(path), part))
            return True
        files, size = sum([each.files for each in rows]), sum([each.size for each in rows])
        oldest_ns, last_scan = min([each.since_ns for each in rows]), max([each.scan for each in rows])
        numbers = (min(_MOST, each) for each in (oldest_ns, last_scan, files, size))
        self._db.execute(_STORE, (key_of(path), part, *numbers, text))
        return True

    def _known(self, key: bytes, part: int, *, whole: bool) -> dict[bytes, OrphanRow]:
        """Return the stored orphans of a part by name, or of the whole folder.

        Of more parts than before, each has names of the one whose number lacks the first bit. That one is stored last,
        unless workers overtake each other: then the time of such names begins anew.
        """
        if whole:
            return {row.name: row for rows in self._rows_of(key).values() for row in rows}
        row = self._one(_OF_PART, key, part)
        while row is None and part:
            part ^= 1 << part.bit_length() - 1
            row = self._one(_OF_PART, key, part)
        return {row.name: row for row in decode_orphans(row[0])} if row and type(row[0]) is str else {}

    def _merged(self, path: bytes, known: OrphanRow | None, now: OrphanRow, scan: int) -> OrphanRow:
        if known is not None and known.is_unchanged_in(now):
            return known
        row = now._replace(scan=scan) if known is None else known.seen_again(now._replace(scan=scan))
        if S_ISDIR(row.mode) and (known is None or not S_ISDIR(known.mode)):
            files, size = self._extent(join(path, row.name))
            return row._replace(files=files, size=size)
        return row

    def _extent(self, path: bytes) -> tuple[int, int]:
        """Return the entries and bytes of a folder and all below it, as recorded, but for orphans with rows."""
        parent, _, name = path.rpartition(b"/")
        files, size = _counted(self._one(_OWN, key_of(parent), name))
        waiting = [path]
        while waiting:
            at = waiting.pop()
            key = key_of(at)
            counted = {name for rows in self._rows_of(key).values() for name in (row.name for row in rows)}
            for name, *extent in self._db.execute(_BELOW, (key,)).fetchall():
                if isinstance(name, bytes) and name and b"/" not in name and name not in counted:
                    more, bytes_ = _counted(extent)
                    files, size = files + more, size + bytes_
                    waiting.append(join(at, name))
        return min(files, _MOST), min(size, _MOST)

    def _rows_of(self, key: bytes) -> dict[int, list[OrphanRow]]:
        return _decoded(self._db.execute(_OF_FOLDER, (key,)).fetchall())

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        return row

    # Outside of a transaction; all raise `OSError` --------------------------------------------------------------------

    def commit(self, seen: Iterable[OrphansSeen]) -> None:
        """Replace the orphans of folders and parts in a transaction."""
        with self._index.transaction():
            self.store(seen)

    def rows(self, path: bytes) -> dict[int, list[OrphanRow]]:
        """Return the orphans of a folder by part."""
        return {} if self._index.is_ignored(path) else _decoded(self._index.rows_of(_OF_FOLDER, key_of(path)))

    def named(self, path: bytes) -> dict[bytes, OrphanRow]:
        """Return the orphans of a folder by name."""
        return {row.name: row for rows in self.rows(path).values() for row in rows}

    def knows(self, seen: OrphansSeen) -> bool:
        """Return whether the names that were seen are those that are stored."""
        stored = self.rows(seen.path).get(seen.part, [])
        return {row.name for row in stored} == {row.name for row in decode_orphans(seen.rows or "")}

    def folders(self, before_ns: int = _MOST) -> list[bytes]:
        """Return the paths of all folders with an orphan that was noticed at a time or before, sorted."""
        rows = self._index.rows_of("SELECT DISTINCT folder FROM orphan WHERE oldest_ns <= ?", before_ns)
        paths = self._tree.paths_of(key for (key,) in rows if isinstance(key, bytes)).values()
        return sorted(path for path in paths if not self._index.is_ignored(path))

    def extent(self) -> tuple[int, int]:
        """Return the number of all orphans that are no folders, and their bytes, by the index."""
        [row] = self._index.rows_of("SELECT total(files), total(bytes) FROM orphan") or [(0.0, 0.0)]
        return _number(row[:1]), _number(row[1:])

    @property
    def scans(self) -> int:
        """The number of complete scans, as far as they were counted."""
        return _number(*self._index.rows_of(_FACT, _SCANS))

    @property
    def scan_time(self) -> float:
        """When the last complete scan was counted, in seconds since the epoch; 0 for never."""
        return float(_number(*self._index.rows_of(_FACT, _SCAN_TIME)))

    def waits_since(self, scan: int) -> bool:
        """Return whether there are orphans that were noticed after so many complete scans, or later."""
        return bool(self._index.rows_of("SELECT 1 FROM orphan WHERE last_scan >= ? LIMIT 1", scan))

    def count_scan(self, now: float) -> None:
        """Count a complete scan that ended now."""
        with self._index.transaction():
            scans = _number(self._one(_FACT, _SCANS)) + 1
            facts = [(_SCANS, float(scans)), (_SCAN_TIME, now)]
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", facts)

    def settle(self, left: Iterable[OrphansLeft], gone: Iterable[bytes], versions: Sequence[VersionsDone]) -> None:
        """Store what is left of orphans, folders that are gone with all below them, and the versions that were made."""
        with self._index.transaction():
            for path in gone:
                self._tree.forget(path)
            store_versions(self._db, versions)
            for each in left:
                self._put(*each)
        self._index.has_new_versions |= bool(versions)
        self._index.has_changed_orphans = True


def _decoded(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[OrphanRow]]:
    return {part: decode_orphans(text) for part, text in rows if type(part) is int and type(text) is str}


def _number(row: tuple[Any, ...] | None = None) -> int:
    """Return the number in a row; 0 for none, and for an invalid one."""
    is_valid = row is not None and isinstance(row[0], float) and isfinite(row[0]) and row[0] > 0
    return int(row[0]) if row is not None and is_valid else 0


def _counted(extent: Iterable[Any] | None) -> tuple[int, int]:
    """Return entries and bytes of a row; 0 for invalid and unknown ones."""
    entries, size = extent or (0, 0)
    return (entries if type(entries) is int and entries > 0 else 0, size if type(size) is int and size > 0 else 0)
