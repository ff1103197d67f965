"""The index: one row a folder, in SQLite. It is used only as far as the files agree with it (invariant 13).

Folders have keys of a fixed size (`store/index_tree.py`). Their records (`store/codec.py`) are in a table of their own,
so that the scan reads small rows; those of a huge folder have several rows, so that no transaction is huge. Two more
tables have the hard-linked names, and the unsupported metadata. The rollback journal is synced with its folder: a
committed row survives a power cut, and is written after its files.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from math import inf, isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from job.core.entry import inode_key
from job.core.file_systems import ByMount, FileSystemId, decode_file_system_id, encode_file_system_id
from job.core.record import FolderDone, FolderSummary, RowsDone
from job.store import index_schema
from job.store.index_tree import Tree, key_of, place_of
from job.store.sqlite import DAMAGED, Connection, fetch_bounded, step_limit

if TYPE_CHECKING:
    from job.core.versions import Moment, VersionsDone
    from job.store.orphan_table import OrphanTable
    from job.store.version_table import VersionsGone, VersionTable

MOST_PARTS = 1 << 16
"""Parts of a folder; a larger number is invalid."""

_SUMMARY = (
    "SELECT fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts FROM folder "
    "WHERE parent = ? AND name = ?"
)
_TYPES = (bytes, bytes, bytes, int, int, int, int)
_AUDITED = "audited_timestamp_seconds"
_COMPLETE_SINCE = "versions_complete_timestamp_seconds"
_RAISE = "INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
_DUE, _CLOCK, _RULE = "versions_due_timestamp_seconds", "versions_clock_timestamp_seconds", "versions_rule"
_IDENTITY = "identity of "
"""Prefix of the facts on file systems; the path of the mount point follows in hexadecimal."""

_orphans_of = attrgetter("orphans")
_SCHEDULED = (_AUDITED, _DUE, _CLOCK, "held_reason", _RULE)


class Schedule(NamedTuple):
    """What is due when; times are in seconds since the epoch, 0 for never."""

    audited: float
    """When the last audit was."""
    versions_due: float
    """When the next check for expired versions is due."""
    versions_clock: float
    """When the last one was."""
    versions_rule: str | None
    """The rule of that; None if unknown."""
    hold_mark: int = 0
    """The number of the reason why the brake has tripped; 0 if it has not."""


class Index:
    """The index of one mirror. Open it with `Index.open` or `Index.open_read_only`."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._cursor = connection.cursor()
        self._tree = Tree(connection)
        self._ignored: ByMount[bool] | None = None
        self._is_empty = False
        """Whether no folder is recorded, while a read transaction is open."""
        self.has_new_versions = self.has_changed_orphans = False
        """Whether rows of versions were stored since it was opened, and whether those of orphans may have changed."""
        self.torn = ""
        """SQLite's message if it found damage; the caller closes the index and sets it aside."""

    @classmethod
    def open(cls, folder: str) -> Self:
        """Open the index in a state folder as `index_schema.connect` does."""
        return cls(index_schema.connect(folder))

    @classmethod
    def open_read_only(cls, folder: str) -> Self | None:
        """Open the index for reading; None if it does not exist. Raises as `open` does."""
        connection = index_schema.connect_read_only(folder)
        return None if connection is None else cls(connection)

    @classmethod
    def empty(cls) -> Self:
        """Return an empty index in memory."""
        return cls(index_schema.connect_in_memory())

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def ignore(self, points: Collection[bytes]) -> None:
        """Ignore the stored file systems at these mount points from now on, and keep their rows."""
        others = {point: True for point in points if point}
        self._ignored = ByMount(b"" in points, others) if points else None

    def is_ignored(self, path: bytes) -> bool:
        """Return whether the file system of a folder is ignored."""
        return self._ignored is not None and bool(self._ignored.at(path))

    def summary(self, path: bytes) -> FolderSummary | None:
        """Return the summary of a folder; None if there is no valid one. Raises `OSError`."""
        if self._is_empty or (self._ignored is not None and self._ignored.at(path)):
            return None
        try:
            # sqlite3 searches an adapter for bytes each time, but not for a bytearray.
            row = self._cursor.execute(_SUMMARY, [*map(bytearray, place_of(path))]).fetchone()
        except sqlite3.DatabaseError as error:
            self._handle(error)
            return None
        return None if row is None else _summary_of(row)

    def rows(self, path: bytes, part: int = 0) -> str:
        """Return one part of a folder's records; empty if it does not exist. Raises `OSError`."""
        return self._text("SELECT rows FROM records WHERE folder = ? AND part = ?", path, part)

    def unsupported(self, path: bytes, part: int = 0) -> str:
        """Return one part of a folder's unsupported metadata; empty if it does not exist. Raises `OSError`."""
        return self._text("SELECT rows FROM unheld WHERE folder = ? AND part = ?", path, part)

    def _text(self, query: str, path: bytes, part: int) -> str:
        if self._is_empty or self.is_ignored(path):
            return ""
        row = self._row(query, key_of(path), part)
        return row[0] if row and isinstance(row[0], str) else ""

    def versions(self, path: bytes) -> "dict[Moment, str]":
        """Return the rows of all versions of a folder's entries (`store/version_rows.py`). Raises `OSError`."""
        from job.store.version_table import moment_in  # noqa: PLC0415  # a run without changes needs no versions

        rows = self.rows_of("SELECT seconds, number, rows FROM version WHERE folder = ?", key_of(path))
        found = [(moment_in(seconds, number), text) for seconds, number, text in rows if isinstance(text, str)]
        return {moment: text for moment, text in found if moment is not None}

    @property
    def complete_since(self) -> float:
        """Time since when no replaced content was given up, in seconds since the epoch; infinity if unknown."""
        row = self._row("SELECT value FROM fact WHERE name = ?", _COMPLETE_SINCE)
        return row[0] if row and isinstance(row[0], float) and isfinite(row[0]) else inf

    def linked(self, inode: int) -> list[tuple[bytes, int, bytes]]:
        """Return hints where files with this inode number may be: folder, part, name. Raises `OSError`."""
        query = "SELECT folder, part, name FROM hard_link WHERE inode = ?"
        try:
            with self._counted():
                found = fetch_bounded(self._cursor.execute(query, (inode_key(inode),)), self._db.size())
                found = [row for row in found if (*map(type, row),) == (bytes, int, bytes)]
                paths = self._tree.paths_of({key for key, _, _ in found})
        except sqlite3.DatabaseError as error:
            self._handle(error)
            return []
        return [(paths[key], part, name) for key, part, name in found if key in paths]

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read in one transaction, without a lock for each call. Raises `OSError`.

        Meanwhile no process can commit, and this one must not fork: SQLite in the child would share the lock.
        """
        self._row("BEGIN")
        try:
            with contextlib.suppress(OSError):  # locked: whoever needs a row notices it
                self._is_empty = self._row("SELECT 1 FROM folder LIMIT 1") is None and not self.torn
            yield
        finally:
            self._is_empty = False
            with contextlib.suppress(sqlite3.Error):  # some errors end the transaction
                self._db.execute("ROLLBACK")

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._cursor.execute(query, values).fetchone()
        except sqlite3.DatabaseError as error:
            self._handle(error)
            return None
        return row

    def rows_of(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query; none if the index is damaged. Raises `OSError`."""
        try:
            return self._all(query, *values)
        except sqlite3.DatabaseError as error:
            self._handle(error)
            return []

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a result within the limits for hostile files. Raises `sqlite3.Error`."""
        size = self._db.size()
        with step_limit(self._db, size):
            return fetch_bounded(self._cursor.execute(query, values), size)

    def _counted(self) -> AbstractContextManager[None]:
        """Limit statements that a damaged or hostile file could make endless; a lookup by key needs no limit."""
        return step_limit(self._db, self._db.size())

    def _handle(self, error: sqlite3.DatabaseError) -> None:
        if not _is_damage(error):
            # Locked or unreadable at the moment: the index must not be discarded.
            raise OSError(_errno_of(error), f"the index cannot be read: {error}") from error
        self.torn = str(error)

    def entry_count(self) -> int:
        """Return the number of entries that are not folders."""
        with self._counted():
            row = self._row("SELECT total(entries) FROM folder")
        return max(0, int(row[0])) if row and isfinite(row[0]) else 0

    def extent(self) -> tuple[int, int | None]:
        """Return the number of entries that are not folders, and their bytes, None if unknown. Raises `OSError`."""
        with self._counted():
            row = self._row("SELECT total(bytes), min(bytes) FROM folder")
        if row is None or not all(isinstance(value, int | float) and 0 <= value < inf for value in row):
            return self.entry_count(), None
        return self.entry_count(), int(row[0])

    def commit(
        self,
        folders: Iterable[FolderDone],
        rows: Iterable[RowsDone],
        gone: Iterable[bytes] = (),
        versions: "Sequence[VersionsDone]" = (),
        *,
        gone_versions: "Sequence[VersionsGone]" = (),
        incomplete_at: float = 0,
    ) -> None:
        """Store finished folders, rows of records, versions and orphans in one transaction. Raises `OSError`.

        Folders in `gone`, and all below them, are removed first; their versions stay, without `gone_versions`. Rows are
        valid without their folder. `incomplete_at` raises `complete_since`, as a replaced content was not kept then, or
        may not have been.
        """
        with self.transaction():
            for path in gone:
                self._tree.forget(path)
            folders = list(folders)
            self._store(folders, rows)
            if versions:
                from job.store.version_table import store_versions  # noqa: PLC0415  # most runs replace nothing

                store_versions(self._db, versions)
                self.has_new_versions = True
            if gone_versions:
                from job.store.version_table import drop_versions  # noqa: PLC0415  # rare

                drop_versions(self._db, gone_versions)
            if any(map(_orphans_of, folders)) or self._row("SELECT 1 FROM orphan LIMIT 1"):
                self.orphans.store_folders(folders)
            if incomplete_at:
                self._db.execute(_RAISE, (_COMPLETE_SINCE, incomplete_at))

    @property
    def orphans(self) -> "OrphanTable":
        """The entries of the mirror that left the source."""
        from job.store.orphan_table import OrphanTable  # noqa: PLC0415  # most mirrors have none

        return OrphanTable(self, self._db, self._tree)

    @property
    def audited(self) -> float:
        """Time of the last audit, in seconds since the epoch; 0 for never."""
        return self.schedule().audited

    def schedule(self) -> Schedule:
        """Return what is due when. Raises `OSError`."""
        facts = dict(self.rows_of("SELECT name, value FROM fact WHERE name IN (?, ?, ?, ?, ?)", *_SCHEDULED))
        known = {name: value for name, value in facts.items() if isinstance(value, float)}
        audited, due, clock, mark = (known.get(name, 0.0) for name in _SCHEDULED[:4])
        rule, mark = facts.get(_RULE), mark if 0 <= mark < inf else 0.0
        audited = audited if audited < inf else 0.0
        return Schedule(audited, due, clock, rule if isinstance(rule, str) else None, int(mark))

    @property
    def version_table(self) -> "VersionTable":
        """The rows about versions, for retention."""
        from job.store.version_table import VersionTable  # noqa: PLC0415  # most runs let nothing expire

        return VersionTable(self, self._db)

    def set_audited(self, when: float) -> None:
        """Store the time of a finished audit."""
        with contextlib.suppress(sqlite3.Error):  # at worst the next cycle audits again
            self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_AUDITED, when))

    @property
    def file_systems(self) -> dict[bytes, FileSystemId]:
        """The file systems of the index by the path of the mount point, empty for the root. Raises `OSError`."""
        found: dict[bytes, FileSystemId] = {}
        for name, value in self.rows_of("SELECT name, value FROM fact WHERE name LIKE ?", _IDENTITY + "%"):
            with contextlib.suppress(ValueError, TypeError):
                identity = decode_file_system_id(value)
                if identity is not None:
                    found[bytes.fromhex(name.removeprefix(_IDENTITY))] = identity
        return found

    def set_file_systems(self, file_systems: Mapping[bytes, FileSystemId | None], forgotten: Collection[bytes]) -> None:
        """Store file systems by mount point, None to remove one, and remove the rows below the `forgotten` ones.

        The empty path, of the root's file system, removes all rows. Raises `OSError`.
        """
        with self.transaction():
            for path in forgotten:
                self._tree.forget(path)
            for point, identity in file_systems.items():
                name = _IDENTITY + point.hex()
                if identity is None:
                    self._db.execute("DELETE FROM fact WHERE name = ?", (name,))
                else:
                    fact = (name, encode_file_system_id(identity))
                    self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", fact)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or nothing. Raises `OSError`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._counted():
                yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            self._tree.clear_cache()
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
            if _is_damage(error):
                self.torn = str(error)
            raise OSError(_errno_of(error), f"the index could not be written: {error}") from error

    def _store(self, folders: list[FolderDone], rows: Iterable[RowsDone]) -> None:
        rows = list(rows)
        keys = {path: key_of(path) for path in {*(row.path for row in rows), *(folder.path for folder in folders)}}
        self._make_findable(folders, rows)
        self._db.executemany(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", [(keys[row.path], row.part, row.rows) for row in rows]
        )
        ends = [(keys[path], summary.parts) for path, summary, *_ in folders]
        self._db.executemany("DELETE FROM records WHERE folder = ? AND part >= ?", ends)
        stale = [(keys[row.path], row.part) for row in rows], ends
        self._store_in(
            "hard_link",
            [(inode_key(inode), keys[row.path], row.part, name) for row in rows for inode, name in row.linked],
            stale,
        )
        self._store_in(
            "unheld", [(keys[row.path], row.part, row.unsupported) for row in rows if row.unsupported], stale
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO folder VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*place_of(path), *summary, size) for path, summary, size, _ in folders],
        )

    def _make_findable(self, folders: list[FolderDone], rows: list[RowsDone]) -> None:
        finished = {folder.path for folder in folders}
        for path in finished:
            if path:
                self._tree.make_findable(path.rpartition(b"/")[0], finished)
        for row in rows:
            self._tree.make_findable(row.path, finished)
            if row.linked:
                self._tree.store_way(row.path)

    def _store_in(
        self, table: str, values: list[tuple[Any, ...]], stale: tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]
    ) -> None:
        """Replace the rows of `stale` parts, and of all parts from a number on, by new values.

        These tables are mostly empty: then no folder is checked up.
        """
        parts, ends = stale
        if self._row(f"SELECT 1 FROM {table} LIMIT 1"):  # noqa: S608  # constant names
            self._db.executemany(f"DELETE FROM {table} WHERE folder = ? AND part = ?", parts)  # noqa: S608
            self._db.executemany(f"DELETE FROM {table} WHERE folder = ? AND part >= ?", ends)  # noqa: S608
        if values:
            format_marks = ", ".join("?" * len(values[0]))
            self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({format_marks})", values)  # noqa: S608


def _is_damage(error: Exception) -> bool:
    """Return whether an error is damage, not a lock, a full disk or a read error."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in {sqlite3.SQLITE_ERROR, *DAMAGED}


def _errno_of(error: sqlite3.Error) -> int:
    return errno.ENOSPC if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL else errno.EIO


def _summary_of(row: tuple[Any, ...]) -> FolderSummary | None:
    if (*map(type, row),) != _TYPES:
        return None
    *_, entries, specials, _, parts = row
    return FolderSummary._make(row) if 0 <= specials <= entries and 1 <= parts <= MOST_PARTS else None
