"""The file of the index: opened as ours and in the one format, or refused. What is in it: `store/index.py`."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator

from job.core.outcome import reason_text
from job.errors import IndexUnusable
from job.fs.dircursor import open_root
from job.store import index_schema, sqlite
from job.store.index_schema import FACTS, FORMAT, OLDEST, TABLES
from job.store.sqlite import Connection
from job.store.sqlite_bounds import DAMAGED, HostileFileError, Schema, check_objects, counted, made_by, release

FILE_NAME = "index.sqlite3"
APPLICATION_ID = 0x54525543  # "TRUC"
_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
{TABLES}
{FACTS}
COMMIT;
"""
_KEPT = 3
"""Torn files that stay; they can be large."""
_MOST_VALUE = 64 << 20
"""Bytes of one value: twice what the records of a folder take that is not yet huge, with names of the worst kind."""
_LOOK_AT_IT = "Look at the state folder and the disk that holds it; the index may be moved away, it is rebuilt then."


class IndexTorn(IndexUnusable):
    """The file is damaged, or an older version made it. It can be moved away with `set_aside` and is made anew then."""


def connect(folder: str) -> Connection:
    """Open the index in a state folder, making a new one where there is none.

    Raises `IndexTorn` if the file there is torn or of an older format, `IndexUnusable` if it is of a newer one, not
    ours, or cannot be read.
    """
    with _home(folder) as home:
        sqlite.make(FILE_NAME, home)
        return _opened(home, "rw", make=True)


def connect_read_only(folder: str) -> Connection | None:
    """Open the index for looking only; None where there is none. Raises as `connect` does."""
    with _home(folder) as home:
        try:
            seen = os.stat(FILE_NAME, dir_fd=home, follow_symlinks=False)
            if stat.S_ISREG(seen.st_mode) and seen.st_size == 0:
                return None  # its maker is at it, or was killed before anything was known
        except FileNotFoundError:
            return None
        return _opened(home, "rw" if sqlite.has_journal(FILE_NAME, home) else "ro", make=False)


@contextlib.contextmanager
def _home(folder: str) -> Iterator[int]:
    try:
        with contextlib.ExitStack() as doors:
            home = open_root(folder)
            doors.callback(os.close, home)
            yield home
    except OSError as error:
        raise IndexUnusable(f"{FILE_NAME} cannot be opened: {reason_text(error)}", hint=_LOOK_AT_IT) from None


def connect_to_nothing() -> Connection:
    """Give an index that lies nowhere."""
    connection = sqlite.nowhere()
    connection.executescript(_SCHEMA)
    return connection


def holds_anything(folder: str) -> bool:
    """Tell whether there is an index that is not an empty file."""
    try:
        return os.stat(os.path.join(folder, FILE_NAME), follow_symlinks=False).st_size > 0
    except OSError:
        return False


def set_aside(folder: str) -> str:
    """Move a torn index out of the way, and tell where it is; the next `connect` makes a new one. Raises `OSError`."""
    home = open_root(folder)
    try:
        return sqlite.set_aside(FILE_NAME, home, "torn", kept=_KEPT)
    except FileNotFoundError:
        return ""
    finally:
        os.close(home)


def _opened(home: int, mode: str, *, make: bool) -> Connection:
    with contextlib.ExitStack() as undo:
        try:
            connection = sqlite.connect(FILE_NAME, home, mode, timeout=10)
            undo.callback(connection.close)
            found = _objects(connection)
            if not found:
                if not make:
                    return connect_to_nothing()  # its maker was killed, and what it had begun is rolled back
                connection.executescript(_SCHEMA)
            version = _version(connection)
            if found:
                check_objects(found, (made_by(_SCHEMA),) if version == FORMAT else index_schema.older())
            release(connection, _MOST_VALUE)
            if version < FORMAT:
                connection = _migrated(connection if make else _copied(connection, undo), version)
            # EXTRA: a commit ends with a sync of the folder. A journal that a power cut brings back would undo it.
            connection.execute("PRAGMA synchronous = EXTRA")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise _unusable(error) from None
        except HostileFileError as error:
            raise IndexTorn(f"{FILE_NAME} cannot be believed: {error}", hint=_LOOK_AT_IT) from None
        undo.pop_all()
        return connection


def _objects(connection: Connection) -> Schema:
    """Give the schema; empty if nothing was written yet. Raises `IndexUnusable` for what is not an index of ours."""
    try:
        return connection.objects()
    except (HostileFileError, sqlite3.DataError):
        _version(connection)  # what belongs to another program is not moved away, whatever it looks like
        raise


def _version(connection: Connection) -> int:
    """Give the format of the file, which this version can read. Raises `IndexUnusable`, or `IndexTorn`."""
    application, version = connection.marks()
    if application != APPLICATION_ID:
        raise IndexUnusable(f"{FILE_NAME} is not an index of Truecopy", hint="Move that file away.")
    if version < OLDEST:
        raise IndexTorn(f"{FILE_NAME} was made by an older version (format {version})", hint=_LOOK_AT_IT)
    if version > FORMAT:
        raise IndexUnusable(
            f"{FILE_NAME} has format {version}; this version reads format {FORMAT}",
            hint="Use the newer Truecopy, or move the index away to have it rebuilt from the files.",
        )
    return version


def _copied(connection: Connection, undo: contextlib.ExitStack) -> Connection:
    """Give a copy that lies nowhere of an index that must not be changed."""
    copy = sqlite.nowhere("")
    undo.callback(copy.close)
    copy.copied = connection.size()
    connection.backup(copy)
    connection.close()
    return copy


def _migrated(connection: Connection, version: int) -> Connection:
    """Bring an index of an older format to this one, all at once.

    Raises `IndexUnusable` if there is no room for that, `sqlite3.DatabaseError` if the file is damaged.
    """
    try:
        with counted(connection, connection.size()):
            index_schema.migrate(connection, version)
    except sqlite3.OperationalError as error:
        torn = error.sqlite_errorcode in {sqlite3.SQLITE_ERROR, *DAMAGED}
        refusal = IndexTorn if torn else IndexUnusable
        raise refusal(f"{FILE_NAME} cannot be brought to format {FORMAT}: {error}", hint=_LOOK_AT_IT) from None
    return connection


def _unusable(error: Exception) -> IndexUnusable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # SQLite quotes a damaged schema in its complaint, which then is no text.
    # Rows that no statement of ours could have stored are met when older formats are brought to this one.
    torn = isinstance(error, UnicodeDecodeError | sqlite3.IntegrityError) or code in DAMAGED
    return (IndexTorn if torn else IndexUnusable)(f"{FILE_NAME} cannot be read: {error}", hint=_LOOK_AT_IT)
