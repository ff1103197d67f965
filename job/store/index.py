"""The index: one row a folder, in SQLite. What it says is believed only as far as the files agree (invariant 13).

Folders are found by keys of a fixed size (`store/index_tree.py`). What is in folders has a table of its own, so that
the look reads small rows only. Records are text that `store/codec.py` reads: no hostile bytes can do more than make no
sense. The records of a huge folder are spread over several rows, so that no transaction is huge. Two more say which
names of the source share a file, and what the mirror cannot hold.
Rollback journal, synced with its folder: a committed row survives a power cut, and is written after the files it
speaks of.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from math import inf, isfinite
from typing import Any, Self

from job.core.entry import inode_key
from job.core.mounts import ByMount, FileSystemId, decode_file_system_id, encode_file_system_id
from job.core.record import FolderDone, FolderSummary, RowsDone
from job.store import schema
from job.store.index_tree import Tree, key_of, place_of
from job.store.sqlite import DAMAGED, Connection, fetch_bounded, step_limit

MOST_PARTS = 1 << 16
"""More is nonsense."""

_SUMMARY = (
    "SELECT fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts FROM folder "
    "WHERE parent = ? AND name = ?"
)
_TYPES = (bytes, bytes, bytes, int, int, int, int)
_AUDITED = "audited_timestamp_seconds"
_IDENTITY = "identity of "
"""Facts about file systems: this, and the path of the mount point below the mirror's root, in hexadecimal."""


class Index:
    """What is known of one mirror. Open it with `Index.open` or `Index.open_read_only`."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._cursor = connection.cursor()
        self._tree = Tree(connection)
        self._doubted: ByMount[bool] | None = None
        self.torn = ""
        """What SQLite said when it met damage in mid-run; the caller sets such an index aside after closing it."""

    @classmethod
    def open(cls, folder: str) -> Self:
        """Open the index in a state folder, making a new one where there is none.

        Raises `IndexTorn` if the file there is torn or of an older format, `IndexUnusable` if it is of a newer one, not
        ours, or cannot be read.
        """
        return cls(schema.connect(folder))

    @classmethod
    def open_read_only(cls, folder: str) -> Self | None:
        """Open the index for looking only; None where there is none. Raises as `open` does."""
        connection = schema.connect_read_only(folder)
        return None if connection is None else cls(connection)

    @classmethod
    def empty(cls) -> Self:
        """Return an index that knows nothing and lies nowhere."""
        return cls(schema.connect_in_memory())

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def doubt(self, points: Collection[bytes]) -> None:
        """Say nothing from now on of file systems by their mount points, without forgetting it."""
        others = {point: True for point in points if point}
        self._doubted = ByMount(b"" in points, others) if points else None

    def summary(self, path: bytes) -> FolderSummary | None:
        """Return what is known of a folder; None if nothing usable is. Raises `OSError`."""
        if self._doubted is not None and self._doubted.at(path):
            return None
        try:
            # sqlite3 looks for a way to adapt bytes each time; it takes a bytearray as it is.
            row = self._cursor.execute(_SUMMARY, [*map(bytearray, place_of(path))]).fetchone()
        except sqlite3.DatabaseError as error:
            self._note(error)
            return None
        return None if row is None else _summarised(row)

    def rows(self, path: bytes, part: int = 0) -> str:
        """Return one row of a folder's records; empty if there is none. Raises `OSError`."""
        return self._text("SELECT rows FROM records WHERE folder = ? AND part = ?", path, part)

    def unsupported(self, path: bytes, part: int = 0) -> str:
        """Return what the mirror cannot hold of a folder's entries, one part of it. Raises `OSError`."""
        return self._text("SELECT rows FROM unheld WHERE folder = ? AND part = ?", path, part)

    def _text(self, query: str, path: bytes, part: int) -> str:
        if self._doubted is not None and self._doubted.at(path):
            return ""
        row = self._row(query, key_of(path), part)
        return row[0] if row and isinstance(row[0], str) else ""

    def linked(self, inode: int) -> list[tuple[bytes, int, bytes]]:
        """Return names that files of such an inode number had when they were last copied: folder, part, name.

        They are hints: rows of names that are gone, and of files on other devices, are among them. Raises `OSError`.
        """
        query = "SELECT folder, part, name FROM hard_link WHERE inode = ?"
        try:
            with self._counted():
                found = fetch_bounded(self._cursor.execute(query, (inode_key(inode),)), self._db.size())
                found = [row for row in found if (*map(type, row),) == (bytes, int, bytes)]
                paths = self._tree.paths_of({key for key, _, _ in found})
        except sqlite3.DatabaseError as error:
            self._note(error)
            return []
        return [(paths[key], part, name) for key, part, name in found if key in paths]

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read everything within in one transaction: no call takes a lock of its own. Raises `OSError`.

        Meanwhile nobody can commit, in this process or another; nor may this process fork, for SQLite in the child
        would take the parent's lock for its own.
        """
        self._row("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):  # nothing was written; some errors end a transaction by themselves
                self._db.execute("ROLLBACK")

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._cursor.execute(query, values).fetchone()
        except sqlite3.DatabaseError as error:
            self._note(error)
            return None
        return row

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of an answer, of which a hostile file may have no end. Raises `sqlite3.Error`."""
        size = self._db.size()
        with step_limit(self._db, size):
            return fetch_bounded(self._cursor.execute(query, values), size)

    def _counted(self) -> AbstractContextManager[None]:
        """End what a damaged or hostile file would have go on for ever; what finds one row by its key needs none."""
        return step_limit(self._db, self._db.size())

    def _note(self, error: sqlite3.DatabaseError) -> None:
        if not _means_damage(error):
            # Locked or unreadable at the moment: giving up is right, throwing a good index away is not.
            raise OSError(_errno_of(error), f"the index cannot be read: {error}") from error
        self.torn = str(error)

    def entry_count(self) -> int:
        """Count the entries that are not folders."""
        with self._counted():
            row = self._row("SELECT total(entries) FROM folder")
        return max(0, int(row[0])) if row and isfinite(row[0]) else 0

    def extent(self) -> tuple[int, int | None]:
        """Return the number of entries that are not folders, and their bytes; None for bytes that are not known.

        Raises `OSError`.
        """
        with self._counted():
            row = self._row("SELECT total(bytes), min(bytes) FROM folder")
        if row is None or not all(isinstance(value, int | float) and 0 <= value < inf for value in row):
            return self.entry_count(), None
        return self.entry_count(), int(row[0])

    def commit(self, folders: Iterable[FolderDone], rows: Iterable[RowsDone], gone: Iterable[bytes] = ()) -> None:
        """Store finished folders and rows of records in one transaction. Raises `OSError` if the disk does not take it.

        What is known of folders that are `gone`, and of all below them, is forgotten first. Rows may come in earlier
        transactions than their folder: each is true by itself.
        """
        try:
            with self._transaction():
                for path in gone:
                    self._tree.forget(path)
                self._store(list(folders), rows)
        except sqlite3.Error as error:
            if _means_damage(error):
                self.torn = str(error)
            raise OSError(_errno_of(error), f"the index could not be written: {error}") from error

    @property
    def audited(self) -> float:
        """When every mirror file was last held against the index, in seconds since the epoch; 0 if never."""
        row = self._row("SELECT value FROM fact WHERE name = ?", _AUDITED)
        return row[0] if row and isinstance(row[0], float) and isfinite(row[0]) else 0.0

    def set_audited(self, when: float) -> None:
        """Remember a finished audit."""
        with contextlib.suppress(sqlite3.Error):  # at worst the next cycle audits once more
            self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_AUDITED, when))

    @property
    def file_systems(self) -> dict[bytes, FileSystemId]:
        """Return the file systems that the index speaks of, by the path of their mount point; the root's is empty.

        Raises `OSError`.
        """
        query = "SELECT name, value FROM fact WHERE name LIKE ?"
        try:
            rows = self._all(query, _IDENTITY + "%")
        except sqlite3.DatabaseError as error:
            self._note(error)
            return {}
        found: dict[bytes, FileSystemId] = {}
        for name, value in rows:
            with contextlib.suppress(ValueError, TypeError):
                identity = decode_file_system_id(value)
                if identity is not None:
                    found[bytes.fromhex(name.removeprefix(_IDENTITY))] = identity
        return found

    def set_file_systems(self, file_systems: Mapping[bytes, FileSystemId | None], forgotten: Collection[bytes]) -> None:
        """Note file systems by their mount points, None for one that is no more, and forget what is known of some.

        To forget that of the root's file system, whose path is empty, is to forget everything. Raises `OSError`.
        """
        try:
            with self._transaction():
                for path in forgotten:
                    self._tree.forget(path)
                for point, identity in file_systems.items():
                    name = _IDENTITY + point.hex()
                    if identity is None:
                        self._db.execute("DELETE FROM fact WHERE name = ?", (name,))
                    else:
                        fact = (name, encode_file_system_id(identity))
                        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", fact)
        except sqlite3.Error as error:
            if _means_damage(error):
                self.torn = str(error)
            raise OSError(_errno_of(error), f"the index could not be written: {error}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            with self._counted():
                yield
            self._db.execute("COMMIT")
        except BaseException:
            self._tree.doubt()
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _store(self, folders: list[FolderDone], rows: Iterable[RowsDone]) -> None:
        rows = list(rows)
        keys = {path: key_of(path) for path in {*(row.path for row in rows), *(folder.path for folder in folders)}}
        self._make_findable(folders, rows)
        self._db.executemany(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", [(keys[row.path], row.part, row.rows) for row in rows]
        )
        ends = [(keys[path], summary.parts) for path, summary, _ in folders]
        self._db.executemany("DELETE FROM records WHERE folder = ? AND part >= ?", ends)
        stale = [(keys[row.path], row.part) for row in rows], ends
        self._store_aside(
            "hard_link",
            [(inode_key(inode), keys[row.path], row.part, name) for row in rows for inode, name in row.linked],
            stale,
        )
        self._store_aside(
            "unheld", [(keys[row.path], row.part, row.unsupported) for row in rows if row.unsupported], stale
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO folder VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*place_of(path), *summary, size) for path, summary, size in folders],
        )

    def _make_findable(self, folders: list[FolderDone], rows: list[RowsDone]) -> None:
        finished = {folder.path for folder in folders}
        for path in finished:
            if path:
                self._tree.make_findable(path.rpartition(b"/")[0], finished)
        for row in rows:
            self._tree.make_findable(row.path, finished)
            if row.linked:
                self._tree.note_way(row.path)

    def _store_aside(
        self, table: str, values: list[tuple[Any, ...]], stale: tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]
    ) -> None:
        """Exchange what a table has of stale parts, and of parts from some number on, for new values.

        Most mirrors have nothing there: then nothing is looked for, folder by folder.
        """
        parts, ends = stale
        if self._row(f"SELECT 1 FROM {table} LIMIT 1"):  # noqa: S608  # names of ours
            self._db.executemany(f"DELETE FROM {table} WHERE folder = ? AND part = ?", parts)  # noqa: S608
            self._db.executemany(f"DELETE FROM {table} WHERE folder = ? AND part >= ?", ends)  # noqa: S608
        if values:
            format_marks = ", ".join("?" * len(values[0]))
            self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({format_marks})", values)  # noqa: S608


def _means_damage(error: Exception) -> bool:
    """Tell damage from what may pass by itself: a lock, a full disk, an error of reading."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in {sqlite3.SQLITE_ERROR, *DAMAGED}


def _errno_of(error: sqlite3.Error) -> int:
    return errno.ENOSPC if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL else errno.EIO


def _summarised(row: tuple[Any, ...]) -> FolderSummary | None:
    if (*map(type, row),) != _TYPES:
        return None
    *_, entries, specials, _, parts = row
    return FolderSummary._make(row) if 0 <= specials <= entries and 1 <= parts <= MOST_PARTS else None
