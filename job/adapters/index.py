"""The index: one row a folder, in SQLite. What it says is believed only as far as the files agree (invariant 13).

Two tables, so that the look reads small rows only. Records are text that `core/rows.py` reads: no hostile bytes can do
more than make no sense. The records of a huge folder are spread over several rows, so that no transaction is huge.
Rollback journal with full sync: a committed row survives a power cut, and is written after the files it speaks of.
"""

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Self

from job.core.record import FolderDone, FolderSummary, RowsDone
from job.errors import IndexUnusable

FILE_NAME = "index.sqlite3"
APPLICATION_ID, FORMAT = 0x54525543, 2  # "TRUC"
MOST_PARTS = 1 << 16
"""More is nonsense."""

_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE folder (
  path BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, stamp BLOB NOT NULL, mirror_fingerprint BLOB NOT NULL,
  entries INTEGER NOT NULL, specials INTEGER NOT NULL, recheck INTEGER NOT NULL, parts INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE records (path BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (path, part));
CREATE TABLE fact (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
COMMIT;
"""
_SUMMARY = "SELECT fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts FROM folder WHERE path = ?"
_KINDS = (bytes, bytes, bytes, int, int, int, int)
_LOOK_AT_IT = "Look at the state folder and the disk that holds it; the index may be moved away, it is rebuilt then."
_AUDITED = "audited_timestamp_seconds"


class IndexTorn(IndexUnusable):
    """The file is damaged, or an older version made it. It can be moved away with `set_aside` and is made anew then."""


class Index:
    """What is known of one mirror. Open it with `Index.open` or `Index.open_read_only`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._cursor = connection.cursor()
        self.torn = ""
        """What SQLite said when it met damage in mid-run; the caller sets such an index aside after closing it."""
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @classmethod
    def open(cls, folder: str) -> Self:
        """Open the index in a state folder, making a new one where there is none.

        Raises `IndexTorn` if the file there is torn or of an older format, `IndexUnusable` if it is of a newer one, not
        ours, or cannot be read.
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
        if version < FORMAT:
            raise IndexTorn(f"{FILE_NAME} was made by an older version (format {version})", hint=_LOOK_AT_IT)
        if version > FORMAT:
            raise IndexUnusable(
                f"{FILE_NAME} has format {version}; this version reads format {FORMAT}",
                hint="Use the newer Truecopy, or move the index away to have it rebuilt from the files.",
            )
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def summary(self, path: bytes) -> FolderSummary | None:
        """Give what is known of a folder; None if nothing usable is. Raises `OSError`."""
        row = self._row(_SUMMARY, path)
        return None if row is None else _summarised(row)

    def rows(self, path: bytes, part: int = 0) -> str:
        """Give one row of a folder's records; empty if there is none. Raises `OSError`."""
        row = self._row("SELECT rows FROM records WHERE path = ? AND part = ?", path, part)
        return row[0] if row and isinstance(row[0], str) else ""

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Read everything within in one transaction: no call takes a lock of its own. Raises `OSError`.

        Meanwhile nobody can commit, in this process or another.
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

    def commit(self, folders: Iterable[FolderDone], rows: Iterable[RowsDone]) -> None:
        """Store finished folders and rows of records in one transaction. Raises `OSError` if the disk does not take it.

        Rows may come in earlier transactions than their folder: each is true by itself.
        """
        try:
            with self._transaction():
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

    def _store(self, folders: list[FolderDone], rows: Iterable[RowsDone]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
        self._db.executemany(
            "DELETE FROM records WHERE path = ? AND part >= ?", [(path, summary.parts) for path, summary in folders]
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO folder VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(path, *summary) for path, summary in folders],
        )


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


def _summarised(row: tuple[Any, ...]) -> FolderSummary | None:
    fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts = row
    if (*map(type, row),) != _KINDS or not (0 <= specials <= entries and 1 <= parts <= MOST_PARTS):
        return None
    return FolderSummary(fingerprint, stamp, mirror_fingerprint, entries, specials, recheck == 1, parts)
