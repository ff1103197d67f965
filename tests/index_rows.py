"""An index as a stranger reads it: which folder a key stands for, and how an index of an older format was laid out."""

import sqlite3
from contextlib import closing
from pathlib import Path

from job.core.entry import join
from job.store.index_schema import FACTS, FORMAT
from job.store.index_tree import key_of

OLD_TABLES = """
CREATE TABLE folder (
  path BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, stamp BLOB NOT NULL, mirror_fingerprint BLOB NOT NULL,
  entries INTEGER NOT NULL, specials INTEGER NOT NULL, recheck INTEGER NOT NULL, parts INTEGER NOT NULL{size}
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
WITHOUT_VERSIONS = 5
"""The last format without versions; it was the first with keys in place of paths."""
SIZE = ",\n  bytes INTEGER NOT NULL DEFAULT -1"


def paths_of(index: sqlite3.Connection) -> dict[bytes, bytes]:
    """Give the paths of all folders that have rows by their keys, found from the root down."""
    below: dict[bytes, list[bytes]] = {}
    for parent, name in index.execute("SELECT parent, name FROM folder WHERE name != x''"):
        below.setdefault(parent, []).append(name)
    paths, waiting = {}, [b""]
    while waiting:
        path = waiting.pop()
        paths[key_of(path)] = path
        waiting += [join(path, name) for name in below.get(key_of(path), [])]
    return paths


def without_versions(place: Path) -> None:
    """Lay an index out as format 5 was, with the same facts in it."""
    with closing(sqlite3.connect(place, isolation_level=None)) as index:
        assert index.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        for table in ("version", "version_folder", "orphan", "held"):
            index.execute(f"DROP TABLE {table}")
        index.execute(f"PRAGMA user_version = {WITHOUT_VERSIONS}")


def make_older(place: Path, version: int, *, sizes: bool = True) -> None:
    """Lay an index out as an older Truecopy did, with the same facts in it; without the column for `sizes` if so."""
    old = place.with_name("older")
    with closing(sqlite3.connect(place)) as new, closing(sqlite3.connect(old)) as made:
        (application,) = new.execute("PRAGMA application_id").fetchone()
        made.executescript(OLD_TABLES.format(size=SIZE if sizes else "") + FACTS)
        made.execute(f"PRAGMA application_id = {application}")
        made.execute(f"PRAGMA user_version = {version}")
        paths = paths_of(new)
        summary = "fingerprint, stamp, mirror_fingerprint, entries, specials, recheck, parts, bytes"
        for parent, name, *rest in new.execute(f"SELECT parent, name, {summary} FROM folder WHERE parts"):
            values = (join(paths[parent], name), *(rest if sizes else rest[:-1]))
            made.execute(f"INSERT INTO folder VALUES ({', '.join('?' * len(values))})", values)
        for folder, part, rows in new.execute("SELECT folder, part, rows FROM records"):
            made.execute("INSERT INTO records VALUES (?, ?, ?)", (paths[folder], part, rows))
        for inode, folder, part, name in new.execute("SELECT inode, folder, part, name FROM hard_link"):
            made.execute("INSERT INTO hard_link VALUES (?, ?, ?, ?)", (inode, paths[folder], part, name))
        for folder, part, rows in new.execute("SELECT folder, part, rows FROM unheld"):
            made.execute("INSERT INTO unheld VALUES (?, ?, ?)", (paths[folder], part, rows))
        made.executemany("INSERT INTO fact VALUES (?, ?)", new.execute("SELECT name, value FROM fact"))
        made.commit()
    old.chmod(0o600)
    old.replace(place)
