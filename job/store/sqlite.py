"""Open a SQLite file of ours in an open folder, and nothing that lies elsewhere (invariants 12 and 13).

SQLite resolves every link in a path once and goes by the text from then on: whoever renames the folder meanwhile would
have it read, write and delete in another one. So it is told that there are no links: then `/proc/self/fd/N/name` means
the open folder for as long as that is open. What has the last name is never followed, as SQLite opens with O_NOFOLLOW.

A journal that was left is played back at the first look. It may name one more file, which SQLite reads and then
deletes, wherever that lies. Ours never do: they are about one file each. What the file itself can have SQLite do is
bounded by `sqlite_bounds.py`.

Bounds on what a SQLite file can do to the process that opens it (invariant 13).

A file that comes back from other hands may have the marks of ours and tables that are views without an end, triggers,
one value of gigabytes, or a tree of pages that leads round and round. So its schema has to be exactly one of those that
we make, and SQLite counts its steps: no question of ours needs more than four for each byte of the file, for a row has
some hundred bytes. Steps and not seconds, because a slow disk takes long over a file without a fault.
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


def restrict(connection: sqlite3.Connection) -> None:
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


def lift_limits(connection: sqlite3.Connection, longest: int) -> None:
    """Allow a connection, whose schema was checked, values of so many bytes, and any number of steps."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    connection.set_progress_handler(None, 0)


@cache
def schema_of(*scripts: str) -> Schema:
    """Give the schema that some SQL text makes."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in scripts:
            connection.executescript(script)
        return objects_in(connection)


def limit_steps(connection: sqlite3.Connection, size: int) -> None:
    """End what is asked from now on once it took more steps than a file of `size` bytes has use for.

    SQLite says then that it was interrupted, which is one of the codes in `DAMAGED`.
    """
    looks = iter(range((_SOME_STEPS + min(_STEPS_A_BYTE * size, _MOST_STEPS)) // _CHUNK))
    connection.set_progress_handler(lambda: next(looks, None) is None, _CHUNK)


@contextlib.contextmanager
def step_limit(connection: sqlite3.Connection, size: int) -> Iterator[None]:
    """End what is asked within once it took more steps than a file of `size` bytes has use for."""
    limit_steps(connection, size)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def fetch_bounded(cursor: sqlite3.Cursor, size: int) -> list[tuple[Any, ...]]:
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


_SUFFIXES = ("", "-journal", "-wal", "-shm")
_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")
"""What a journal ends with that names another file."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BLOCK = 512


class HostileJournalError(HostileFileError):
    """A journal was left that no version of Truecopy has written."""


class Connection(sqlite3.Connection):
    """A connection that keeps the folder of its file open."""

    home = -1
    name = ""
    copied = 0
    """Size of the file that this is a copy of, in memory or among temporary files."""

    def format_marks(self) -> tuple[int, int]:
        """Give what the file says of itself: whose it is, and in which format. Raises `sqlite3.Error`."""
        (application,) = self.execute("PRAGMA application_id").fetchone()
        (version,) = self.execute("PRAGMA user_version").fetchone()
        return application, version

    def objects(self) -> Schema:
        """Give the schema; empty for a new file. Raises `HostileFileError` and `sqlite3.Error`."""
        return objects_in(self)

    def size(self) -> int:
        """Give the bytes that the file takes on the disk; holes, which cost nothing, are not counted."""
        if self.home < 0:
            return self.copied
        with suppress(OSError):
            seen = os.stat(self.name, dir_fd=self.home, follow_symlinks=False)
            return min(seen.st_size, seen.st_blocks * _BLOCK or seen.st_size)
        return 0

    def close(self) -> None:
        """Close both."""
        super().close()
        if self.home >= 0:
            home, self.home = self.home, -1
            os.close(home)


def connect(name: str, folder: int, mode: str, *, timeout: float) -> Connection:
    """Open a file that is there, in an open folder, which may be closed then; `mode` is `rw` or `ro`.

    Nothing but the schema can be read before `sqlite_bounds.release`. Raises `OSError` if the file, or anything that
    SQLite keeps beside it, is not a regular file of ours or root's, `HostileFileError`, and `sqlite3.Error`. No other
    connection of this process may be in a transaction on the file: the header is read by a descriptor of its own, and
    when one is closed the kernel drops all locks that a process has on a file.
    """
    disable_link_resolution()
    for suffix in _SUFFIXES:
        _check(name + suffix, folder)
    _check_content(name, folder)
    home = os.dup(folder)
    try:
        address = f"file:/proc/self/fd/{home}/{name}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, factory=Connection)
    except BaseException:
        os.close(home)
        raise
    connection.home, connection.name = home, name
    try:
        restrict(connection)
        connection.format_marks()
        _check_content(name, folder)  # a journal that was played back may have brought another header
    except BaseException:
        connection.close()
        raise
    return connection


def connect_unnamed(address: str = ":memory:") -> Connection:
    """Open a new database that has no name: in memory, or with an empty address among temporary files."""
    return sqlite3.connect(address, isolation_level=None, factory=Connection)


def make(name: str, folder: int) -> None:
    """Make the file, for us alone, unless something has its name; SQLite would let all read it. Raises `OSError`."""
    with suppress(FileExistsError):
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=folder))


def set_aside(name: str, folder: int, ending: str, *, kept: int) -> str:
    """Give a file in an open folder another name, with the time in it, and tell which. Raises `OSError`.

    Of those with the same ending the newest are kept, this one among them: a disk that tears a file every time would be
    filled up.
    """
    taken = os.listdir(folder)
    aside = f"{name}.{ending}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    if aside in taken:
        aside = next(each for number in count(2) if (each := f"{aside}-{number}") not in taken)
    # What lies beside it first: left behind, it would be played into the new file.
    for suffix in (*_SUFFIXES[1:], ""):
        with suppress(FileNotFoundError) if suffix else nullcontext():
            os.rename(name + suffix, aside + suffix, src_dir_fd=folder, dst_dir_fd=folder)
    before = [each for each in taken if each.startswith(f"{name}.{ending}") and not each.endswith(_SUFFIXES[1:])]
    before.sort(key=lambda each: (len(each), each))  # names without a time are older
    for old in before[: max(0, len(before) - kept + 1)]:
        for suffix in _SUFFIXES:
            with suppress(OSError):
                os.unlink(old + suffix, dir_fd=folder)
    return aside


def has_journal(name: str, folder: int) -> bool:
    """Tell whether a commit is going on or was cut off; what was cut off can only be read after it is rolled back."""
    try:
        os.stat(name + "-journal", dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _check(name: str, folder: int) -> None:
    try:
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)
    if seen.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EPERM, f"it belongs to user {seen.st_uid}", name)
    if name.endswith("-journal") and seen.st_size:
        _check_journal(name, folder)


def _check_content(name: str, folder: int) -> None:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return  # which SQLite tells in its own words
    try:
        check_header(descriptor)
    finally:
        os.close(descriptor)


def _check_journal(name: str, folder: int) -> None:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return  # its writer has just committed
    try:
        end = max(0, os.fstat(descriptor).st_size - len(_NAMES_ANOTHER))
        if os.pread(descriptor, len(_NAMES_ANOTHER), end) == _NAMES_ANOTHER:
            raise HostileJournalError(f"{name} is not its own: it names another file")
    finally:
        os.close(descriptor)


class _Vfs(ctypes.Structure):
    """SQLite's `sqlite3_vfs`, version 3; its layout is a promise of theirs."""

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
    """Have SQLite take no part of a path for a link; False where its library cannot be reached.

    There, in interpreters with a SQLite of their own inside, it goes by the text of the path as it always did.
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
    # `lstat` serves for nothing else there: where it follows links, it finds none.
    return bool(vfs.contents.set_call(ctypes.addressof(vfs.contents), b"lstat", follows) == 0)
