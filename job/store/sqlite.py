"""Open a SQLite file of ours in an open folder, and nothing that lies elsewhere (invariants 12 and 13).

SQLite resolves every link in a path once and goes by the text from then on: whoever renames the folder meanwhile would
have it read, write and delete in another one. So it is told that there are no links: then `/proc/self/fd/N/name` means
the open folder for as long as that is open. What has the last name is never followed, as SQLite opens with O_NOFOLLOW.

A journal that was left is played back at the first look. It may name one more file, which SQLite reads and then
deletes, wherever that lies. Ours never do: they are about one file each. What the file itself can have SQLite do is
bounded by `sqlite_bounds.py`.
"""

import _sqlite3
import ctypes
import errno
import os
import sqlite3
import stat
import sys
import time
from contextlib import nullcontext, suppress
from functools import cache
from itertools import count

from job.store.sqlite_bounds import HostileFileError, Schema, check_header, objects_in, restrain

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

    def marks(self) -> tuple[int, int]:
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
    goes_by_descriptors()
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
        restrain(connection)
        connection.marks()
        _check_content(name, folder)  # a journal that was played back may have brought another header
    except BaseException:
        connection.close()
        raise
    return connection


def nowhere(address: str = ":memory:") -> Connection:
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
def goes_by_descriptors() -> bool:
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
