"""The file of the index: opened as ours and in the one format, or refused. What is in it: `adapters/index.py`."""

import contextlib
import os
import sqlite3
import stat

from job.errors import IndexUnusable

FILE_NAME = "index.sqlite3"
APPLICATION_ID, FORMAT = 0x54525543, 3  # "TRUC"

_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE folder (
  path BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, stamp BLOB NOT NULL, mirror_fingerprint BLOB NOT NULL,
  entries INTEGER NOT NULL, specials INTEGER NOT NULL, recheck INTEGER NOT NULL, parts INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE records (path BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (path, part));
CREATE TABLE hard_link (
  inode BLOB NOT NULL, path BLOB NOT NULL, part INTEGER NOT NULL, name BLOB NOT NULL, PRIMARY KEY (inode, path, name)
) WITHOUT ROWID;
CREATE INDEX hard_link_by_path ON hard_link (path, part);
CREATE TABLE unheld (
  path BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (path, part)
) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
COMMIT;
"""
_LOOK_AT_IT = "Look at the state folder and the disk that holds it; the index may be moved away, it is rebuilt then."


class IndexTorn(IndexUnusable):
    """The file is damaged, or an older version made it. It can be moved away with `set_aside` and is made anew then."""


def connect(folder: str) -> sqlite3.Connection:
    """Open the index in a state folder, making a new one where there is none.

    Raises `IndexTorn` if the file there is torn or of an older format, `IndexUnusable` if it is of a newer one, not
    ours, or cannot be read.
    """
    place = os.path.join(folder, FILE_NAME)
    _ensure_file(place)
    return _opened(place, make=True)


def connect_read_only(folder: str) -> sqlite3.Connection | None:
    """Open the index for looking only; None where there is none. Raises as `connect` does."""
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
    return _opened(address, make=False)


def connect_to_nothing() -> sqlite3.Connection:
    """Give an index that lies nowhere."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(_SCHEMA)
    return connection


def set_aside(folder: str) -> None:
    """Move a torn index out of the way, one old one kept; the next `open` makes a new one."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(os.path.join(folder, FILE_NAME), os.path.join(folder, FILE_NAME + ".torn"))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, FILE_NAME + "-journal"))


def _opened(address: str, *, make: bool) -> sqlite3.Connection:
    with contextlib.ExitStack() as undo:
        try:
            connection = sqlite3.connect(address, uri=not make, isolation_level=None, timeout=10)
            undo.callback(connection.close)
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                if not make:
                    return connect_to_nothing()  # its maker was killed, and what it had begun is rolled back
                connection.executescript(_SCHEMA)
            _check(connection)
            # EXTRA: a commit ends with a sync of the folder. A journal that a power cut brings back would undo it.
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = EXTRA"):
                connection.execute(f"PRAGMA {pragma}")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise _unusable(error) from None
        undo.pop_all()
        return connection


def _check(connection: sqlite3.Connection) -> None:
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


def _unusable(error: Exception) -> IndexUnusable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # SQLite quotes a damaged schema in its complaint, which then is no text.
    torn = isinstance(error, UnicodeDecodeError) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return (IndexTorn if torn else IndexUnusable)(f"{FILE_NAME} cannot be read: {error}", hint=_LOOK_AT_IT)
