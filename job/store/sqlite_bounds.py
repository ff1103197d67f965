"""Bounds on what a SQLite file can do to the process that opens it (invariant 13).

A file that comes back from other hands may have the marks of ours and tables that are views without an end, triggers,
one value of gigabytes, or a tree of pages that leads round and round. So its schema has to be exactly one of those that
we make, and SQLite counts its steps: no question of ours needs more than four for each byte of the file, for a row has
some hundred bytes. Steps and not seconds, because a slow disk takes long over a file without a fault.
"""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, TypeAlias

from job.core.entry import printable

Schema: TypeAlias = frozenset[tuple[Any, ...]]
"""Type, name, table and SQL text of everything in a database."""

_OPENING_BYTES = 16 << 10
"""The longest text of a schema, and of a statement of ours."""
_OPENING_STEPS = 20_000
"""Steps for reading a schema; ours takes some hundred."""
_MOST_OBJECTS = 50
_SOME_STEPS = 16 << 20
"""Steps that any statement or transaction may take: about half a second."""
_STEPS_A_BYTE = 4
_MOST_STEPS = 8 << 30
_CHUNK = 1 << 20
"""Steps between two looks at their number."""
_SOME_BYTES = 4 << 20
"""Bytes of an answer, however small the file is."""
_ROW_BYTES = 64
"""What a row is taken to need beside its texts."""
_SHOWN = 60
_OBJECTS = "SELECT type, name, tbl_name, sql, rootpage FROM sqlite_master"
_HEADER_BYTES = 100
_FIXED = {
    "its size of a page's reserved end": (20, 21, b"\0"),
    "its limits of payload": (21, 24, b"\x40\x20\x20"),
    "its size of the cache": (48, 52, bytes(4)),
    "its way to shrink": (52, 56, bytes(4)),
    "its encoding": (56, 60, b"\0\0\0\1"),
}
"""Fields of the header that have one value in all files of ours: place, end, value.

Source: https://www.sqlite.org/fileformat2.html#the_database_header
"""
_MAGIC = b"SQLite format 3\0"
_VERSIONS = slice(18, 20)
"""How the file is written and read: 1 means with a rollback journal."""


class HostileFileError(Exception):
    """The file says that it is ours, and holds what no version of Truecopy writes."""


class TooMuchError(sqlite3.DataError):
    """An answer is larger than the file it was read from."""

    sqlite_errorcode = sqlite3.SQLITE_TOOBIG


DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_TOOBIG,
}
"""What SQLite says of a file of wrong content, and of one that went beyond these bounds."""


def check_header(descriptor: int) -> None:
    """Compare what is fixed in the header of an open file; an empty one passes. Raises `HostileFileError`, `OSError`.

    A file with a write-ahead log has SQLite make more files, and a file can ask for a cache of any size.
    """
    header = os.pread(descriptor, _HEADER_BYTES, 0)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return  # SQLite makes a new file of an empty one, and refuses what is no database
    if header[_VERSIONS] != b"\1\1":
        raise HostileFileError("its header says that it must not be written to, or not with a rollback journal")
    for what, (begin, end, value) in _FIXED.items():
        if header[begin:end] not in {value, bytes(end - begin)}:
            raise HostileFileError(f"{what} is not one that Truecopy chooses")


def restrain(connection: sqlite3.Connection) -> None:
    """Allow a connection only what is needed to read the schema; to be called before anything is read."""
    for category, most in (
        (sqlite3.SQLITE_LIMIT_LENGTH, _OPENING_BYTES),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, _OPENING_BYTES),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    ):
        connection.setlimit(category, most)
    if sys.version_info >= (3, 12):
        for option, value in (
            (sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True),
            (sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False),
            (sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False),
        ):
            with contextlib.suppress(sqlite3.Error):  # a library that is older than the option
                connection.setconfig(option, value)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_progress_handler(_end, _OPENING_STEPS)


def objects_in(connection: sqlite3.Connection) -> Schema:
    """Give the schema of an open file; empty for a new one. Raises `HostileFileError` and `sqlite3.Error`."""
    connection.text_factory = bytes  # hostile text may be no UTF-8
    rows = connection.execute(_OBJECTS).fetchmany(_MOST_OBJECTS + 1)
    connection.text_factory = str
    if len(rows) > _MOST_OBJECTS:
        raise HostileFileError(f"it has more than {_MOST_OBJECTS} tables, indexes, views and triggers")
    if len({root for *_, root in rows}) < len(rows):
        raise HostileFileError("two of its tables lie in one place")
    return _schema(rows)


def check_objects(found: Schema, known: Collection[Schema]) -> None:
    """Raise `HostileFileError` unless a schema is one of those that we make."""
    if found in known:
        return
    nearest = min(known, key=lambda schema: len(schema ^ found))
    if found > nearest:
        kind, name, *_ = min(found - nearest, key=_tables_first)
        raise HostileFileError(f"it has the {_shown(kind)} {_shown(name)}, which no version of Truecopy makes")
    kind, name, *_ = min(nearest - found, key=_tables_first)
    raise HostileFileError(f"it does not have the {_shown(kind)} {_shown(name)} as Truecopy makes it")


def release(connection: sqlite3.Connection, longest: int) -> None:
    """Allow a connection, whose schema was checked, values of so many bytes, and any number of steps."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    connection.set_progress_handler(None, 0)


@cache
def made_by(*scripts: str) -> Schema:
    """Give the schema that some SQL text makes."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in scripts:
            connection.executescript(script)
        return objects_in(connection)


def count(connection: sqlite3.Connection, size: int) -> None:
    """End what is asked from now on once it took more steps than a file of `size` bytes has use for.

    SQLite says then that it was interrupted, which is one of the codes in `DAMAGED`.
    """
    looks = iter(range((_SOME_STEPS + min(_STEPS_A_BYTE * size, _MOST_STEPS)) // _CHUNK))
    connection.set_progress_handler(lambda: next(looks, None) is None, _CHUNK)


@contextlib.contextmanager
def counted(connection: sqlite3.Connection, size: int) -> Iterator[None]:
    """End what is asked within once it took more steps than a file of `size` bytes has use for."""
    count(connection, size)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def fetched(cursor: sqlite3.Cursor, size: int) -> list[tuple[Any, ...]]:
    """Give all rows of an answer, which cannot be larger than the file of `size` bytes. Raises `TooMuchError`."""
    found, left = [], _SOME_BYTES + size
    for row in cursor:
        left -= _ROW_BYTES + sum(len(value) for value in row if isinstance(value, bytes | str))
        if left < 0:
            raise TooMuchError("it answers with more than it can hold")
        found.append(row)
    return found


def _schema(rows: list[tuple[Any, ...]]) -> Schema:
    # Space between words means nothing: no text of ours has any within quotes.
    return frozenset((*rest, b" ".join(text.split()) if isinstance(text, bytes) else text) for *rest, text, _ in rows)


def _tables_first(row: tuple[Any, ...]) -> tuple[bool, str]:
    return row[0] != b"table", repr(row)


def _shown(value: object) -> str:
    return printable(value if isinstance(value, bytes) else repr(value).encode("ascii", "replace"))[:_SHOWN]


def _end() -> bool:
    return True
