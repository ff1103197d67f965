"""Open a SQLite file of Truecopy in an open folder, and limit what its content can do (invariants 12 and 13).

Paths. SQLite resolves all links of a path once and then uses the text: a renamed folder would redirect its reads,
writes and deletions. `disable_link_resolution` makes `/proc/self/fd/N/name` refer to the open folder wherever that is
moved. The last name is never followed, as SQLite opens with O_NOFOLLOW.

Journals. SQLite rolls back a left journal when it first reads the file. A journal may name a super-journal, which
SQLite reads and then deletes, wherever it lies. Truecopy's transactions have one file, so such a journal is refused.

Content. A file from elsewhere can have Truecopy's marks and hold endless views, triggers, values of gigabytes or pages
that refer to each other. So its schema must equal one that Truecopy makes, and steps are counted: no query needs more
than four for each byte of the file. Steps rather than seconds, as a slow disk is no fault.
"""

import _sqlite3
import contextlib
import ctypes
import errno
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import nullcontext, suppress
from functools import cache
from itertools import count
from typing import Any, TypeAlias

from job.core.entry import printable
from job.fs.dircursor import closing_fd

Schema: TypeAlias = frozenset[tuple[Any, ...]]
"""Type, name, table and SQL text of each object in a database."""

_SUFFIXES = ("", "-journal", "-wal", "-shm")
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BLOCK = 512
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""Ends a journal that names a super-journal."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_VERSIONS = slice(18, 20)
"""Write and read version: 1 means a rollback journal."""
_FIXED = {
    "its size of a page's reserved end": (20, 21, b"\0"),
    "its limits of payload": (21, 24, b"\x40\x20\x20"),
    "its size of the cache": (48, 52, bytes(4)),
    "its way to shrink": (52, 56, bytes(4)),
    "its encoding": (56, 60, b"\0\0\0\1"),
}
"""Header fields with one value in all files of Truecopy: first byte, end, value.

Source: https://www.sqlite.org/fileformat2.html#the_database_header
"""

_OPENING_BYTES = 16 << 10
"""Longest SQL text while the schema is read."""
_OPENING_STEPS = 20_000
"""Steps for reading the schema; Truecopy's takes some hundred."""
_MOST_OBJECTS = 50
_SOME_STEPS = 16 << 20
"""Steps of a statement or transaction, however small the file is: about half a second."""
_STEPS_A_BYTE = 4
_MOST_STEPS = 8 << 30
_STEPS_A_CALL = 1 << 20
"""Steps between two calls of the progress handler."""
_SOME_BYTES = 4 << 20
"""Bytes of a result, however small the file is."""
_ROW_BYTES = 64
"""Assumed cost of a row besides its values."""
_SHOWN = 60
_OBJECTS = "SELECT type, name, tbl_name, sql, rootpage FROM sqlite_master"

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_TOOBIG}
"""Error codes of a file with wrong content, or one that exceeded the limits of this module."""


class HostileFileError(Exception):
    """The file has Truecopy's marks, and it or its journal has content that no version of Truecopy writes."""


class TooMuchError(sqlite3.DataError):
    """A result is larger than its file."""

    sqlite_errorcode = sqlite3.SQLITE_TOOBIG


class Connection(sqlite3.Connection):
    """A connection that keeps the folder of its file open."""

    folder = -1
    name = ""
    copied = 0
    """Size in bytes of the file that an unnamed database was copied from."""

    def format_marks(self) -> tuple[int, int]:
        """Return the application id and the format version in the file. Raises `sqlite3.Error`."""
        (application,) = self.execute("PRAGMA application_id").fetchone()
        (version,) = self.execute("PRAGMA user_version").fetchone()
        return application, version

    def size(self) -> int:
        """Return the bytes that the file occupies; holes are not counted."""
        if self.folder < 0:
            return self.copied
        with suppress(OSError):
            seen = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
            return min(seen.st_size, seen.st_blocks * _BLOCK or seen.st_size)
        return 0

    def close(self) -> None:
        """Close the file and its folder."""
        super().close()
        if self.folder >= 0:
            folder, self.folder = self.folder, -1
            os.close(folder)


def connect(name: str, folder: int, mode: str, *, timeout: float) -> Connection:
    """Open an existing file in an open folder, which may be closed afterwards; `mode` is `rw` or `ro`.

    Only the schema can be read before `lift_limits`. Raises `OSError` if the file, or one that SQLite keeps beside it,
    is not a regular file of this user or root, `HostileFileError`, and `sqlite3.Error`. No other connection of this
    process may be in a transaction on the file: the header is read by a descriptor whose closing drops all its locks.
    """
    disable_link_resolution()
    for suffix in _SUFFIXES:
        _check_file(name + suffix, folder)
    _check_header_at(name, folder)
    kept = os.dup(folder)
    try:
        address = f"file:/proc/self/fd/{kept}/{name}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, factory=Connection)
    except BaseException:
        os.close(kept)
        raise
    connection.folder, connection.name = kept, name
    try:
        restrict(connection)
        connection.format_marks()
        _check_header_at(name, folder)  # a journal that was rolled back may have brought another header
    except BaseException:
        connection.close()
        raise
    return connection


def connect_unnamed(address: str = ":memory:") -> Connection:
    """Open a new database without a name: in memory, or with an empty address among temporary files."""
    return sqlite3.connect(address, isolation_level=None, factory=Connection)


def make(name: str, folder: int) -> None:
    """Create an empty file with mode 600 unless the name exists; SQLite would use the umask. Raises `OSError`."""
    with suppress(FileExistsError):
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=folder))


def set_aside(name: str, folder: int, ending: str, *, kept: int) -> str:
    """Rename a file in an open folder, with the time in its new name, which is returned. Raises `OSError`.

    The newest `kept` files with this ending stay, this one included: a disk that tears every file must not be filled.
    """
    taken = os.listdir(folder)
    aside = f"{name}.{ending}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    if aside in taken:
        aside = next(each for number in count(2) if (each := f"{aside}-{number}") not in taken)
    # The journal first: if it stayed, SQLite would roll it back into the new file.
    for suffix in (*_SUFFIXES[1:], ""):
        with suppress(FileNotFoundError) if suffix else nullcontext():
            os.rename(name + suffix, aside + suffix, src_dir_fd=folder, dst_dir_fd=folder)
    before = [each for each in taken if each.startswith(f"{name}.{ending}") and not each.endswith(_SUFFIXES[1:])]
    timed = len(f"{name}.{ending}-20260101T000000Z")
    before.sort(key=lambda each: (each[:timed], len(each), each))  # names without a time are older
    for old in before[: max(0, len(before) - kept + 1)]:
        for suffix in _SUFFIXES:
            with suppress(OSError):
                os.unlink(old + suffix, dir_fd=folder)
    return aside


def _check_file(name: str, folder: int) -> None:
    try:
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)
    if seen.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EPERM, f"it belongs to user {seen.st_uid}", name)
    if name.endswith("-journal") and seen.st_size:
        with _opened_for_check(name, folder) as journal:
            size = os.fstat(journal).st_size if journal >= 0 else 0  # its writer may have committed meanwhile
            if size and os.pread(journal, 8, max(0, size - 8)) == _JOURNAL_MAGIC:
                raise HostileFileError(f"{name} is not its own: it names another file")


def _check_header_at(name: str, folder: int) -> None:
    with _opened_for_check(name, folder) as descriptor:
        if descriptor >= 0:  # SQLite reports a missing file itself
            check_header(descriptor)


@contextlib.contextmanager
def _opened_for_check(name: str, folder: int) -> Iterator[int]:
    """Open a file for reading; -1 if it does not exist."""
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        yield -1
        return
    with closing_fd(descriptor):
        yield descriptor


def check_header(descriptor: int) -> None:
    """Check the fixed fields of a header; an empty file passes. Raises `HostileFileError` and `OSError`.

    A file with a write-ahead log makes SQLite create more files, and a file can demand a cache of any size.
    """
    header = os.pread(descriptor, _HEADER_BYTES, 0)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return  # SQLite makes a new file of an empty one, and refuses other content
    if header[_VERSIONS] != b"\1\1":
        raise HostileFileError("its header says that it must not be written to, or not with a rollback journal")
    for field, (begin, end, value) in _FIXED.items():
        if header[begin:end] not in {value, bytes(end - begin)}:
            raise HostileFileError(f"{field} is not one that Truecopy chooses")


def restrict(connection: sqlite3.Connection) -> None:
    """Allow only what is needed to read the schema; called before anything is read."""
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
            with suppress(sqlite3.Error):  # the library may be older than the option
                connection.setconfig(option, value)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_progress_handler(lambda: True, _OPENING_STEPS)


def lift_limits(connection: sqlite3.Connection, longest: int) -> None:
    """Allow values of `longest` bytes and any number of steps, once the schema was checked."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    connection.set_progress_handler(None, 0)


def limit_steps(connection: sqlite3.Connection, size: int) -> None:
    """Interrupt later statements after more steps than a file of `size` bytes can need; see `DAMAGED`."""
    calls = iter(range((_SOME_STEPS + min(_STEPS_A_BYTE * size, _MOST_STEPS)) // _STEPS_A_CALL))
    connection.set_progress_handler(lambda: next(calls, None) is None, _STEPS_A_CALL)


@contextlib.contextmanager
def step_limit(connection: sqlite3.Connection, size: int) -> Iterator[None]:
    """Apply `limit_steps` to the statements in the block."""
    limit_steps(connection, size)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def fetch_bounded(cursor: sqlite3.Cursor, size: int) -> list[tuple[Any, ...]]:
    """Return all rows of a result, which cannot be larger than its file of `size` bytes. Raises `TooMuchError`."""
    found, left = [], _SOME_BYTES + size
    for row in cursor:
        left -= _ROW_BYTES + sum(len(value) for value in row if isinstance(value, bytes | str))
        if left < 0:
            raise TooMuchError("it answers with more than it can hold")
        found.append(row)
    return found


def objects_in(connection: sqlite3.Connection) -> Schema:
    """Return the schema of an open file; empty for a new one. Raises `HostileFileError` and `sqlite3.Error`."""
    connection.text_factory = bytes  # hostile text may not be UTF-8
    rows = connection.execute(_OBJECTS).fetchmany(_MOST_OBJECTS + 1)
    connection.text_factory = str
    if len(rows) > _MOST_OBJECTS:
        raise HostileFileError(f"it has more than {_MOST_OBJECTS} tables, indexes, views and triggers")
    if len({root for *_, root in rows}) < len(rows):
        raise HostileFileError("two of its tables lie in one place")
    # White space can be normalised: no statement of Truecopy has any within quotes.
    return frozenset((*rest, b" ".join(text.split()) if isinstance(text, bytes) else text) for *rest, text, _ in rows)


@cache
def schema_of(*scripts: str) -> Schema:
    """Return the schema that SQL scripts make."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in scripts:
            connection.executescript(script)
        return objects_in(connection)


def check_objects(found: Schema, known: Collection[Schema]) -> None:
    """Raise `HostileFileError` unless the schema is one of `known`."""
    if found in known:
        return
    nearest = min(known, key=lambda schema: len(schema ^ found))
    if found > nearest:
        kind, name, *_ = min(found - nearest, key=_tables_first)
        raise HostileFileError(f"it has the {_shown(kind)} {_shown(name)}, which no version of Truecopy makes")
    kind, name, *_ = min(nearest - found, key=_tables_first)
    raise HostileFileError(f"it does not have the {_shown(kind)} {_shown(name)} as Truecopy makes it")


def _tables_first(row: tuple[Any, ...]) -> tuple[bool, str]:
    return row[0] != b"table", repr(row)


def _shown(value: object) -> str:
    return printable(value if isinstance(value, bytes) else repr(value).encode("ascii", "replace"))[:_SHOWN]


class _Vfs(ctypes.Structure):
    """SQLite's `sqlite3_vfs`, version 3; its layout is part of SQLite's stable interface."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("methods", ctypes.c_void_p * 13),
        ("set_call", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)),
    )


@cache
def disable_link_resolution() -> bool:
    """Make SQLite resolve no links in paths; False if its library cannot be reached, as in a static interpreter.

    SQLite uses `lstat` only to find links: with `stat` in its place, it finds none (DECISIONS.md: why not checks).
    """
    path = getattr(_sqlite3, "__file__", None)
    if path is None or sys.maxsize <= 2**32:
        return False
    try:
        find = ctypes.CDLL(path).sqlite3_vfs_find
        follows = ctypes.cast(ctypes.CDLL(None).stat, ctypes.c_void_p)
    except (OSError, AttributeError):
        return False
    find.restype = ctypes.POINTER(_Vfs)
    vfs = find(b"unix")
    if not vfs or vfs.contents.version < 3:  # noqa: PLR2004  # the version of the structure
        return False
    return bool(vfs.contents.set_call(ctypes.addressof(vfs.contents), b"lstat", follows) == 0)
