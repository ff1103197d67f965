"""The file of the index: its tables, opening and checking it, and migration from older formats in one transaction."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from job.core.outcome import reason_text
from job.errors import IndexUnusable
from job.fs.dircursor import closing_fd, open_root
from job.fs.large_dir import name_exists
from job.store import sqlite
from job.store.index_tree import Tree, key_of, place_of
from job.store.sqlite import (
    DAMAGED,
    Connection,
    HostileFileError,
    Schema,
    check_objects,
    lift_limits,
    objects_in,
    schema_of,
    step_limit,
)

FORMAT = 6
OLDEST = 3
"""The oldest format that is migrated; older ones are rebuilt."""
_OF_INODES_ALONE = 3
"""The format that grouped hard links by inode without device: linked files may have wrong content."""
_WITH_KEYS = 5
"""The first format with keys in place of paths."""

_FOLDERS_AND_LINKS = """
CREATE TABLE folder (
  parent BLOB NOT NULL, name BLOB NOT NULL, fingerprint BLOB NOT NULL, stamp BLOB NOT NULL,
  mirror_fingerprint BLOB NOT NULL, entries INTEGER NOT NULL, specials INTEGER NOT NULL, recheck INTEGER NOT NULL,
  parts INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (parent, name)
) WITHOUT ROWID;
CREATE TABLE records (folder BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (folder, part));
CREATE TABLE hard_link (
  inode BLOB NOT NULL, folder BLOB NOT NULL, part INTEGER NOT NULL, name BLOB NOT NULL,
  PRIMARY KEY (inode, folder, name)
) WITHOUT ROWID;
CREATE INDEX hard_link_by_folder ON hard_link (folder, part);
CREATE TABLE way (folder BLOB PRIMARY KEY, parent BLOB NOT NULL, name BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unheld (
  folder BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (folder, part)
) WITHOUT ROWID;
"""
"""The tables of format 5: `folder` and `parent` are keys (`index_tree.py`); `way` is for hard links."""
_VERSIONS = """
CREATE TABLE version (
  folder BLOB NOT NULL, seconds INTEGER NOT NULL, number INTEGER NOT NULL, rows TEXT NOT NULL,
  PRIMARY KEY (folder, seconds, number)
) WITHOUT ROWID;
CREATE TABLE version_folder (
  seconds INTEGER NOT NULL, number INTEGER NOT NULL, ordinal INTEGER NOT NULL, files INTEGER NOT NULL,
  bytes INTEGER NOT NULL, settled INTEGER NOT NULL, PRIMARY KEY (seconds, number)
) WITHOUT ROWID;
CREATE TABLE orphan (
  folder BLOB NOT NULL, part INTEGER NOT NULL, oldest_ns INTEGER NOT NULL, last_scan INTEGER NOT NULL,
  files INTEGER NOT NULL, bytes INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (folder, part)
) WITHOUT ROWID;
CREATE TABLE held (folder BLOB PRIMARY KEY, digest BLOB NOT NULL, approved INTEGER NOT NULL) WITHOUT ROWID;
"""
"""The tables since format 6: versions by folder and moment (`version_table.py`), all moments, orphans
(`orphan_table.py`), held folders."""
TABLES = _FOLDERS_AND_LINKS + _VERSIONS
"""All tables but `fact`."""
_WITH_PATHS = """
CREATE TABLE folder (
  path BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, stamp BLOB NOT NULL, mirror_fingerprint BLOB NOT NULL,
  entries INTEGER NOT NULL, specials INTEGER NOT NULL, recheck INTEGER NOT NULL, parts INTEGER NOT NULL,
  bytes INTEGER NOT NULL DEFAULT -1
) WITHOUT ROWID;
CREATE TABLE records (path BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (path, part));
CREATE TABLE hard_link (
  inode BLOB NOT NULL, path BLOB NOT NULL, part INTEGER NOT NULL, name BLOB NOT NULL, PRIMARY KEY (inode, path, name)
) WITHOUT ROWID;
CREATE INDEX hard_link_by_path ON hard_link (path, part);
CREATE TABLE unheld (
  path BLOB NOT NULL, part INTEGER NOT NULL, rows TEXT NOT NULL, PRIMARY KEY (path, part)
) WITHOUT ROWID;
"""
"""The same tables in formats 3 and 4."""
_WITHOUT_SIZES = _WITH_PATHS.replace(",\n  bytes INTEGER NOT NULL DEFAULT -1", "")
_ADD_SIZES = "ALTER TABLE folder ADD COLUMN bytes INTEGER NOT NULL DEFAULT -1"
FACTS = "CREATE TABLE fact (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;"

_NAMES = "SELECT name FROM hard_link WHERE path = ? AND part = ?"
_OF_PATHS = ("folder", "records", "hard_link", "unheld")
"""Tables whose keys were paths up to format 4."""
_SUMMARY = "fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts, bytes"
_COPIES = (
    f"INSERT INTO folder SELECT parent_of(path), name_of(path), {_SUMMARY} FROM old_folder",  # noqa: S608  # ours
    "INSERT INTO records SELECT key_of(path), part, rows FROM old_records",
    "INSERT INTO hard_link SELECT inode, key_of(path), part, name FROM old_hard_link",
    "INSERT INTO unheld SELECT key_of(path), part, rows FROM old_unheld",
)
"""Not sorted, as that would need space for temporary files."""
_KNOWN_PATHS = """
SELECT path FROM old_folder UNION SELECT path FROM old_records UNION SELECT path FROM old_hard_link
UNION SELECT path FROM old_unheld ORDER BY path
"""


def older_schemas() -> tuple[Schema, ...]:
    """Return the possible schemas of the older formats."""
    return tuple(
        schema_of(*scripts, FACTS)
        for scripts in ((_FOLDERS_AND_LINKS,), (_WITH_PATHS,), (_WITHOUT_SIZES,), (_WITHOUT_SIZES, _ADD_SIZES))
    )


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Migrate an index to this format, or leave it unchanged. Raises `sqlite3.Error`.

    From format 3, the records of hard-linked names are dropped, so that these files are read again.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == _OF_INODES_ALONE:
            _forget_links(connection)
        if version < _WITH_KEYS:
            _give_keys(connection)
        else:
            _execute_all(connection, _statements(_VERSIONS))
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _forget_links(connection: sqlite3.Connection) -> None:
    from job.store.codec import without_records  # noqa: PLC0415  # once for an index of an older format

    for place in connection.execute("SELECT DISTINCT path, part FROM hard_link"):
        names = {name for (name,) in connection.execute(_NAMES, place)}
        row = connection.execute("SELECT rows FROM records WHERE path = ? AND part = ?", place).fetchone()
        kept = without_records(row[0], names) if row and isinstance(row[0], str) else ""
        connection.execute("UPDATE records SET rows = ? WHERE path = ? AND part = ?", (kept, *place))
    connection.execute("UPDATE folder SET fingerprint = x'' WHERE path IN (SELECT path FROM hard_link)")


def _give_keys(connection: sqlite3.Connection) -> None:
    """Replace paths by keys, and add the missing rows of ancestors."""
    if not connection.execute("SELECT 1 FROM pragma_table_info('folder') WHERE name = 'bytes'").fetchone():
        # Older than sizes; a folder gets its size when it is synced again.
        connection.execute(_ADD_SIZES)
    connection.create_function("key_of", 1, key_of, deterministic=True)
    connection.create_function("parent_of", 1, lambda path: place_of(path)[0], deterministic=True)
    connection.create_function("name_of", 1, lambda path: place_of(path)[1], deterministic=True)
    _execute_all(connection, (f"ALTER TABLE {table} RENAME TO old_{table}" for table in _OF_PATHS))
    _execute_all(connection, _statements(TABLES))
    _execute_all(connection, _COPIES)
    _make_findable(connection)
    # DELETE first: DROP counts no steps, so a cycle of pages would make it endless.
    _execute_all(connection, (f"DELETE FROM old_{table} WHERE true" for table in _OF_PATHS))  # noqa: S608  # constant names
    _execute_all(connection, (f"DROP TABLE old_{table}" for table in _OF_PATHS))


def _statements(script: str) -> list[str]:
    return script.strip().removesuffix(";").split(";")


def _execute_all(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    # `executescript` would commit first.
    for statement in statements:
        connection.execute(statement)


def _make_findable(connection: sqlite3.Connection) -> None:
    """Add the missing rows of ancestors, and the ways to folders with hard links."""
    tree = Tree(connection)
    for (path,) in connection.execute(_KNOWN_PATHS):
        tree.make_findable(path, ())
        if path:
            tree.make_findable(path.rpartition(b"/")[0], ())
    for (path,) in connection.execute("SELECT DISTINCT path FROM old_hard_link"):
        tree.store_way(path)


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
"""Damaged files that are kept; they can be large."""
_MOST_VALUE = 64 << 20
"""Bytes of one value: twice the records of the largest folder that is not huge, with the longest names."""
_HINT = "Check the state folder and its disk; the index may be moved away, it is rebuilt then."


class IndexTorn(IndexUnusable):
    """The file is damaged or too old. After `set_aside`, it is rebuilt."""


def connect(folder: str) -> Connection:
    """Open the index in a state folder; create it if it does not exist.

    Raises `IndexTorn` if it is damaged or too old, `IndexUnusable` if it is newer, another program's or unreadable.
    """
    with _state_folder(folder) as state:
        sqlite.make(FILE_NAME, state)
        return _opened(state, "rw", make=True)


def connect_read_only(folder: str) -> Connection | None:
    """Open the index for reading; None if it does not exist. Raises as `connect` does."""
    with _state_folder(folder) as state:
        try:
            seen = os.stat(FILE_NAME, dir_fd=state, follow_symlinks=False)
            if stat.S_ISREG(seen.st_mode) and seen.st_size == 0:
                return None  # it is being created, or its creator was killed
        except FileNotFoundError:
            return None
        # A commit is in progress, or was interrupted and must be rolled back before reading.
        has_journal = name_exists(state, f"{FILE_NAME}-journal".encode("ascii"))
        return _opened(state, "rw" if has_journal else "ro", make=False)


@contextlib.contextmanager
def _state_folder(folder: str) -> Iterator[int]:
    try:
        with closing_fd(open_root(folder)) as state:
            yield state
    except OSError as error:
        raise IndexUnusable(f"{FILE_NAME} cannot be opened: {reason_text(error)}", hint=_HINT) from None


def connect_in_memory() -> Connection:
    """Return an empty index in memory."""
    connection = sqlite.connect_unnamed()
    connection.executescript(_SCHEMA)
    return connection


def holds_anything(folder: str) -> bool:
    """Return whether an index exists that is not an empty file."""
    try:
        return os.stat(os.path.join(folder, FILE_NAME), follow_symlinks=False).st_size > 0
    except OSError:
        return False


def set_aside(folder: str) -> str:
    """Rename a damaged index, and return its new name; the next `connect` creates a new one. Raises `OSError`."""
    with closing_fd(open_root(folder)) as state, suppress(FileNotFoundError):
        return sqlite.set_aside(FILE_NAME, state, "torn", kept=_KEPT)
    return ""


def _opened(state: int, mode: str, *, make: bool) -> Connection:
    with contextlib.ExitStack() as undo:
        try:
            connection = sqlite.connect(FILE_NAME, state, mode, timeout=10)
            undo.callback(connection.close)
            found = _objects(connection)
            if not found:
                if not make:
                    return connect_in_memory()  # its creator was killed, and its transaction was rolled back
                connection.executescript(_SCHEMA)
            version = _version(connection)
            if found:
                check_objects(found, (schema_of(_SCHEMA),) if version == FORMAT else older_schemas())
            lift_limits(connection, _MOST_VALUE)
            if version < FORMAT:
                connection = _migrated(connection if make else _copied(connection, undo), version)
            # EXTRA syncs the folder at a commit: a journal that reappears after a power cut would undo it.
            connection.execute("PRAGMA synchronous = EXTRA")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise _unusable(error) from None
        except HostileFileError as error:
            raise IndexTorn(f"{FILE_NAME} cannot be believed: {error}", hint=_HINT) from None
        undo.pop_all()
        return connection


def _objects(connection: Connection) -> Schema:
    """Return the schema; empty for a new file. Raises `IndexUnusable` for a file of another program."""
    try:
        return objects_in(connection)
    except (HostileFileError, sqlite3.DataError):
        _version(connection)  # a file of another program is never moved away
        raise


def _version(connection: Connection) -> int:
    """Return the format of the file. Raises `IndexUnusable` or `IndexTorn` if this version cannot read it."""
    application, version = connection.format_marks()
    if application != APPLICATION_ID:
        raise IndexUnusable(f"{FILE_NAME} is not an index of Truecopy", hint="Move that file away.")
    if version < OLDEST:
        raise IndexTorn(f"{FILE_NAME} was made by an older version (format {version})", hint=_HINT)
    if version > FORMAT:
        raise IndexUnusable(
            f"{FILE_NAME} has format {version}; this version reads format {FORMAT}",
            hint="Use the newer Truecopy, or move the index away to have it rebuilt from the files.",
        )
    return version


def _copied(connection: Connection, undo: contextlib.ExitStack) -> Connection:
    """Return a temporary copy of an index that must not be changed."""
    copy = sqlite.connect_unnamed("")
    undo.callback(copy.close)
    copy.copied = connection.size()
    connection.backup(copy)
    connection.close()
    return copy


def _migrated(connection: Connection, version: int) -> Connection:
    """Migrate an index. Raises `IndexUnusable` if the disk is full, `sqlite3.DatabaseError` if the file is damaged."""
    try:
        with step_limit(connection, connection.size()):
            migrate(connection, version)
    except sqlite3.OperationalError as error:
        torn = error.sqlite_errorcode in {sqlite3.SQLITE_ERROR, *DAMAGED}
        refusal = IndexTorn if torn else IndexUnusable
        raise refusal(f"{FILE_NAME} cannot be brought to format {FORMAT}: {error}", hint=_HINT) from None
    return connection


def _unusable(error: Exception) -> IndexUnusable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # SQLite quotes a damaged schema in its message, which then is not UTF-8. A migration can find rows that no
    # statement of Truecopy stores.
    torn = isinstance(error, UnicodeDecodeError | sqlite3.IntegrityError) or code in DAMAGED
    return (IndexTorn if torn else IndexUnusable)(f"{FILE_NAME} cannot be read: {error}", hint=_HINT)
