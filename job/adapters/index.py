"""The index: one row a folder, in SQLite. What it says is believed only as far as the files agree (invariant 13).

Two tables, so that the look reads small rows only. Records are JSON, where hostile bytes can at most raise ValueError.
Rollback journal with full sync: a committed row survives a power cut, and is written after the files it speaks of.
"""

import contextlib
import errno
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Self

from job.core.entry import Entry
from job.core.record import FolderDone, FolderSummary, Record, Stamp
from job.errors import IndexUnusable

FILE_NAME = "index.sqlite3"
APPLICATION_ID, FORMAT = 0x54525543, 1  # "TRUC"

_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE folder (
  path BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, stamp TEXT NOT NULL, mirror_fingerprint BLOB NOT NULL,
  entries INTEGER NOT NULL, specials INTEGER NOT NULL, recheck INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE records (path BLOB PRIMARY KEY, rows TEXT NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
COMMIT;
"""
_SUMMARY = "SELECT fingerprint, stamp, mirror_fingerprint, entries, specials, recheck FROM folder WHERE path = ?"
_LOOK_AT_IT = "Look at the state folder and the disk that holds it; the index may be moved away, it is rebuilt then."
_AUDITED = "audited_timestamp_seconds"


class IndexTorn(IndexUnusable):
    """The file is damaged. It can be moved away with `set_aside`, and everything is compared anew."""


class Index:
    """What is known of one mirror. Open it with `Index.open` or `Index.open_read_only`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.torn = ""
        """What SQLite said when it met damage in mid-run; the caller sets such an index aside after closing it."""
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @classmethod
    def open(cls, folder: str) -> Self:
        """Open the index in a state folder, making a new one where there is none.

        Raises `IndexUnusable` if the file there is torn, not ours, or of a newer format.
        """
        place = os.path.join(folder, FILE_NAME)
        _ensure_file(place)
        return cls._opened(place, make=True)

    @classmethod
    def open_read_only(cls, folder: str) -> Self | None:
        """Open the index for looking only; None where there is none. Raises as `open` does."""
        place = os.path.join(folder, FILE_NAME)
        try:
            os.close(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IndexUnusable(f"{FILE_NAME} cannot be opened: {error.strerror}", hint=_LOOK_AT_IT) from None
        if os.stat(place).st_size == 0:
            return None  # its maker is at it, or was killed before anything was known
        mode = "rw" if _has_journal(place) else "ro"
        address = "file:" + place.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + f"?mode={mode}"
        return cls._opened(address, make=False)

    @classmethod
    def empty(cls) -> Self:
        """Give an index that knows nothing and lies nowhere."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.executescript(_SCHEMA)
        return cls(connection)

    @classmethod
    def _opened(cls, address: str, *, make: bool) -> Self:
        with contextlib.ExitStack() as undo:
            try:
                connection = sqlite3.connect(address, uri=not make, isolation_level=None, timeout=10)
                undo.callback(connection.close)
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    if not make:
                        return cls.empty()  # its maker was killed, and what it had begun is rolled back
                    connection.executescript(_SCHEMA)
                index = cls._checked(connection)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                raise _unusable(error) from None
            undo.pop_all()
            return index

    @classmethod
    def _checked(cls, connection: sqlite3.Connection) -> Self:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise IndexUnusable(f"{FILE_NAME} is not an index of Truecopy", hint="Move that file away.")
        if version != FORMAT:
            raise IndexUnusable(
                f"{FILE_NAME} has format {version}; this version reads format {FORMAT}",
                hint="Use the newer Truecopy, or move the index away to have it rebuilt from the files.",
            )
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def summary(self, path: bytes) -> FolderSummary | None:
        """Give what is known of a folder; None if nothing usable is."""
        row = self._row(_SUMMARY, path)
        if row is None:
            return None
        try:
            return _summarised(row)
        except (TypeError, ValueError):
            return None

    def records(self, path: bytes) -> dict[bytes, Record]:
        """Give the records of a folder by name; those that cannot be read are left out, and so compared again."""
        row = self._row("SELECT rows FROM records WHERE path = ?", path)
        if row is None:
            return {}
        try:
            records = [_decoded(each) for each in json.loads(row[0])]
        except (TypeError, ValueError, RecursionError):
            return {}
        return {record.source.name: record for record in records}

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        except sqlite3.DatabaseError as error:
            if not _means_damage(error):
                # Locked or unreadable at the moment: giving up is right, throwing a good index away is not.
                raise OSError(_errno_of(error), f"the index cannot be read: {error}") from error
            self.torn = str(error)
            return None
        return row

    def entries_known(self) -> int:
        """Count the entries that are not folders."""
        row = self._row("SELECT total(entries) FROM folder")
        return max(0, int(row[0])) if row and isfinite(row[0]) else 0

    def commit(self, folders: Iterable[FolderDone]) -> None:
        """Store finished folders in one transaction. Raises `OSError` if the disk does not take it."""
        try:
            with self._transaction():
                for folder in folders:
                    self._store(folder)
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

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _store(self, folder: FolderDone) -> None:
        summary = folder.summary
        stamp = " ".join(str(part) for part in summary.stamp)
        self._db.execute(
            "INSERT OR REPLACE INTO folder VALUES (?, ?, ?, ?, ?, ?, ?)",
            (folder.path, summary.fingerprint, stamp, *summary[2:]),
        )
        rows = json.dumps([_encoded(record) for record in folder.records.values()], separators=(",", ":"))
        self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", (folder.path, rows))


def _ensure_file(place: str) -> None:
    """Make the file, private; SQLite would follow a link that somebody planted, and make the file readable for all."""
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise IndexUnusable(f"{FILE_NAME} cannot be opened: {error.strerror}", hint=_LOOK_AT_IT) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IndexUnusable(f"{FILE_NAME} is not a regular file", hint=_LOOK_AT_IT)
    finally:
        os.close(descriptor)


def _has_journal(place: str) -> bool:
    """Tell whether a commit is going on or was cut off; what was cut off can only be read after it is rolled back."""
    try:
        os.stat(place + "-journal", follow_symlinks=False)
    except OSError:
        return False
    return True


def set_aside(folder: str) -> None:
    """Move a torn index out of the way, one old one kept; the next `open` makes a new one."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(os.path.join(folder, FILE_NAME), os.path.join(folder, FILE_NAME + ".torn"))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, FILE_NAME + "-journal"))


def _unusable(error: Exception) -> IndexUnusable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # SQLite quotes a damaged schema in its complaint, which then is no text.
    torn = isinstance(error, UnicodeDecodeError) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return (IndexTorn if torn else IndexUnusable)(f"{FILE_NAME} cannot be read: {error}", hint=_LOOK_AT_IT)


def _means_damage(error: Exception) -> bool:
    """Tell damage from what may pass by itself: a lock, a full disk, an error of reading."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def _errno_of(error: sqlite3.Error) -> int:
    return errno.ENOSPC if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL else errno.EIO


def _summarised(row: tuple[Any, ...]) -> FolderSummary:
    fingerprint, stamp, mirror_fingerprint, entries, specials, recheck = row
    kinds = [type(each) for each in row]
    if kinds != [bytes, str, bytes, int, int, int] or not 0 <= specials <= entries or recheck not in {0, 1}:
        raise ValueError
    left = Stamp(*(int(part) for part in stamp.split()))
    return FolderSummary(fingerprint, left, mirror_fingerprint, entries, specials, bool(recheck))


def _encoded(record: Record) -> list[object]:
    name, *source = record.source
    return [name.decode("utf-8", "surrogateescape"), source, list(record.mirror[1:]), record.checksum, int(record.racy)]


def _decoded(row: list[object]) -> Record:
    name, source, mirror, checksum, racy = row
    if not (isinstance(name, str) and isinstance(source, list) and isinstance(mirror, list)):
        raise TypeError
    raw = name.encode("utf-8", "surrogateescape")
    return Record(_entry(raw, source), _entry(raw, mirror), str(checksum), bool(racy))


def _entry(name: bytes, numbers: list[object]) -> Entry:
    inode, mode, uid, gid, size, mtime_ns, ctime_ns = (int(str(each)) for each in numbers)
    return Entry(name, inode, mode, uid, gid, size, mtime_ns, ctime_ns)
