"""The tables of the index, and how an index of an older format is brought to this one: in one transaction, or not."""

import sqlite3
from collections.abc import Iterable

from job.store.codec import without
from job.store.index_tree import Tree, key_of, place_of
from job.store.sqlite_bounds import Schema, made_by

FORMAT = 5
OLDEST = 3
"""The oldest format that is migrated; older ones are made anew."""
_OF_INODES_ALONE = 3
"""The format when hard links were put together by inode without the device: what had links may hold other content."""

TABLES = """
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
"""What format 5 has beside the table `fact`: `folder` and `parent` are keys, see `index_tree.py`; `way` is for the
folders of hard links alone."""
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
"""What formats 3 and 4 had there."""
_WITHOUT_SIZES = _WITH_PATHS.replace(",\n  bytes INTEGER NOT NULL DEFAULT -1", "")
_ADD_SIZES = "ALTER TABLE folder ADD COLUMN bytes INTEGER NOT NULL DEFAULT -1"
FACTS = "CREATE TABLE fact (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;"

_NAMES = "SELECT name FROM hard_link WHERE path = ? AND part = ?"
_OF_PATHS = ("folder", "records", "hard_link", "unheld")
"""Tables that had whole paths for keys up to format 4."""
_SUMMARY = "fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts, bytes"
_COPIES = (
    f"INSERT INTO folder SELECT parent_of(path), name_of(path), {_SUMMARY} FROM old_folder",  # noqa: S608  # ours
    "INSERT INTO records SELECT key_of(path), part, rows FROM old_records",
    "INSERT INTO hard_link SELECT inode, key_of(path), part, name FROM old_hard_link",
    "INSERT INTO unheld SELECT key_of(path), part, rows FROM old_unheld",
)
"""They are not sorted: that would need room for temporary files, of which there may be little."""
_KNOWN_PATHS = """
SELECT path FROM old_folder UNION SELECT path FROM old_records UNION SELECT path FROM old_hard_link
UNION SELECT path FROM old_unheld ORDER BY path
"""


def older() -> tuple[Schema, ...]:
    """Give the schemas that an index of an older format can have."""
    return tuple(
        made_by(*scripts, FACTS) for scripts in ((_WITH_PATHS,), (_WITHOUT_SIZES,), (_WITHOUT_SIZES, _ADD_SIZES))
    )


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring an index of an older format to this one; it stays as it was where that fails. Raises `sqlite3.Error`.

    Of format 3 the records of names that had hard links are forgotten, so that they are read again, and only they.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == _OF_INODES_ALONE:
            _forget_links(connection)
        _give_keys(connection)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _forget_links(connection: sqlite3.Connection) -> None:
    for place in connection.execute("SELECT DISTINCT path, part FROM hard_link"):
        names = {name for (name,) in connection.execute(_NAMES, place)}
        row = connection.execute("SELECT rows FROM records WHERE path = ? AND part = ?", place).fetchone()
        kept = without(row[0], names) if row and isinstance(row[0], str) else ""
        connection.execute("UPDATE records SET rows = ? WHERE path = ? AND part = ?", (kept, *place))
    connection.execute("UPDATE folder SET fingerprint = x'' WHERE path IN (SELECT path FROM hard_link)")


def _give_keys(connection: sqlite3.Connection) -> None:
    """Put keys where whole paths were, and rows for folders above others that had none."""
    if not connection.execute("SELECT 1 FROM pragma_table_info('folder') WHERE name = 'bytes'").fetchone():
        # Made before sizes were kept; a folder has its own from its next visit on.
        connection.execute(_ADD_SIZES)
    connection.create_function("key_of", 1, key_of, deterministic=True)
    connection.create_function("parent_of", 1, lambda path: place_of(path)[0], deterministic=True)
    connection.create_function("name_of", 1, lambda path: place_of(path)[1], deterministic=True)
    _each(connection, (f"ALTER TABLE {table} RENAME TO old_{table}" for table in _OF_PATHS))
    _each(connection, TABLES.strip().removesuffix(";").split(";"))
    _each(connection, _COPIES)
    _make_findable(connection)
    # Row by row first: of a DROP SQLite counts no steps, and it follows a tree round and round.
    _each(connection, (f"DELETE FROM old_{table} WHERE true" for table in _OF_PATHS))  # noqa: S608  # names of ours
    _each(connection, (f"DROP TABLE old_{table}" for table in _OF_PATHS))


def _each(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    # `executescript` would commit first.
    for statement in statements:
        connection.execute(statement)


def _make_findable(connection: sqlite3.Connection) -> None:
    """Add rows for folders above others that have none, and the ways to those with hard links."""
    tree = Tree(connection)
    for (path,) in connection.execute(_KNOWN_PATHS):
        tree.make_findable(path, ())
        if path:
            tree.make_findable(path.rpartition(b"/")[0], ())
    for (path,) in connection.execute("SELECT DISTINCT path FROM old_hard_link"):
        tree.note_way(path)
