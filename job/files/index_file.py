"""The file of the index: opened as ours and in the one format, or refused. What is in it: `adapters/index.py`."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator

from job.core.outcome import reason_text
from job.errors import IndexUnusable
from job.files import index_schema, sqlite_file
from job.files.index_schema import FACTS, FORMAT, OLDEST, TABLES
from job.files.trail import open_name, open_root

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
_VERSIONS = slice(18, 20)
"""Where SQLite's header says how a file is written and read: 1 means with a rollback journal.

Source: https://www.sqlite.org/fileformat2.html#the_database_header
"""
_LOOK_AT_IT = "Look at the state folder and the disk that holds it; the index may be moved away, it is rebuilt then."


class IndexTorn(IndexUnusable):
    """The file is damaged, or an older version made it. It can be moved away with `set_aside` and is made anew then."""


def connect(folder: str) -> sqlite3.Connection:
    """Open the index in a state folder, making a new one where there is none.

    Raises `IndexTorn` if the file there is torn or of an older format, `IndexUnusable` if it is of a newer one, not
    ours, or cannot be read.
    """
    with _home(folder) as home:
        sqlite_file.make(FILE_NAME, home)
        return _opened(home, "rw", make=True)


def connect_read_only(folder: str) -> sqlite3.Connection | None:
    """Open the index for looking only; None where there is none. Raises as `connect` does."""
    with _home(folder) as home:
        try:
            seen = os.stat(FILE_NAME, dir_fd=home, follow_symlinks=False)
            if stat.S_ISREG(seen.st_mode) and seen.st_size == 0:
                return None  # its maker is at it, or was killed before anything was known
        except FileNotFoundError:
            return None
        return _opened(home, "rw" if sqlite_file.has_journal(FILE_NAME, home) else "ro", make=False)


@contextlib.contextmanager
def _home(folder: str) -> Iterator[int]:
    try:
        with contextlib.ExitStack() as doors:
            home = open_root(folder)
            doors.callback(os.close, home)
            yield home
    except OSError as error:
        raise IndexUnusable(f"{FILE_NAME} cannot be opened: {reason_text(error)}", hint=_LOOK_AT_IT) from None


def connect_to_nothing() -> sqlite3.Connection:
    """Give an index that lies nowhere."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(_SCHEMA)
    return connection


def holds_anything(folder: str) -> bool:
    """Tell whether there is an index that is not an empty file."""
    try:
        return os.stat(os.path.join(folder, FILE_NAME), follow_symlinks=False).st_size > 0
    except OSError:
        return False


def set_aside(folder: str) -> None:
    """Move a torn index out of the way, one old one kept; the next `open` makes a new one."""
    place = os.path.join(folder, FILE_NAME)
    with contextlib.suppress(FileNotFoundError):
        try:
            os.replace(place, place + ".torn")
        except IsADirectoryError:  # somebody else's; a torn index is worth less
            os.unlink(place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place + "-journal")


def _opened(home: int, mode: str, *, make: bool) -> sqlite3.Connection:
    with contextlib.ExitStack() as undo:
        try:
            connection: sqlite3.Connection = sqlite_file.connect(FILE_NAME, home, mode, timeout=10)
            undo.callback(connection.close)
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                if not make:
                    return connect_to_nothing()  # its maker was killed, and what it had begun is rolled back
                connection.executescript(_SCHEMA)
            version = _version(connection)
            if make:
                _check_versions(home)
            if version < FORMAT:
                connection = _migrated(connection if make else _copied(connection, undo), version)
            # EXTRA: a commit ends with a sync of the folder. A journal that a power cut brings back would undo it.
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = EXTRA"):
                connection.execute(f"PRAGMA {pragma}")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise _unusable(error) from None
        except sqlite_file.HostileJournalError as error:
            raise IndexTorn(f"{FILE_NAME} cannot be believed: {error}", hint=_LOOK_AT_IT) from None
        undo.pop_all()
        return connection


def _version(connection: sqlite3.Connection) -> int:
    """Give the format of the file, which this version can read. Raises `IndexUnusable`, or `IndexTorn`."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise IndexUnusable(f"{FILE_NAME} is not an index of Truecopy", hint="Move that file away.")
    if version < OLDEST:
        raise IndexTorn(f"{FILE_NAME} was made by an older version (format {version})", hint=_LOOK_AT_IT)
    if version > FORMAT:
        raise IndexUnusable(
            f"{FILE_NAME} has format {version}; this version reads format {FORMAT}",
            hint="Use the newer Truecopy, or move the index away to have it rebuilt from the files.",
        )
    return int(version)


def _copied(connection: sqlite3.Connection, undo: contextlib.ExitStack) -> sqlite3.Connection:
    """Give a copy that lies nowhere of an index that must not be changed."""
    copy = sqlite3.connect("", isolation_level=None)
    undo.callback(copy.close)
    connection.backup(copy)
    connection.close()
    return copy


def _migrated(connection: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """Bring an index of an older format to this one, all at once.

    Raises `IndexUnusable` if there is no room for that, `sqlite3.DatabaseError` if the file is damaged.
    """
    try:
        index_schema.migrate(connection, version)
    except sqlite3.OperationalError as error:
        refusal = IndexTorn if error.sqlite_errorcode == sqlite3.SQLITE_ERROR else IndexUnusable
        raise refusal(f"{FILE_NAME} cannot be brought to format {FORMAT}: {error}", hint=_LOOK_AT_IT) from None
    return connection


def _check_versions(home: int) -> None:
    """See that the header lets the file be written: else SQLite opens it, and refuses each commit of every cycle."""
    descriptor = open_name(FILE_NAME.encode("ascii"), home)
    try:
        header = os.pread(descriptor, 100, 0)
    finally:
        os.close(descriptor)
    if header[_VERSIONS] not in {b"\1\1", b""}:
        raise IndexTorn(f"{FILE_NAME} says that it must not be written to", hint=_LOOK_AT_IT)


def _unusable(error: Exception) -> IndexUnusable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # SQLite quotes a damaged schema in its complaint, which then is no text.
    torn = isinstance(error, UnicodeDecodeError) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return (IndexTorn if torn else IndexUnusable)(f"{FILE_NAME} cannot be read: {error}", hint=_LOOK_AT_IT)
