"""Open a SQLite file of ours in an open folder, and nothing that lies elsewhere (invariants 12 and 13).

SQLite resolves every link in a path once and goes by the text from then on: whoever renames the folder meanwhile would
have it read, write and delete in another one. So it is told that there are no links: then `/proc/self/fd/N/name` means
the open folder for as long as that is open. What has the last name is never followed, as SQLite opens with O_NOFOLLOW.

A journal that was left is played back at the first look. It may name one more file, which SQLite reads and then
deletes, wherever that lies. Ours never do: they are about one file each.
"""

import _sqlite3
import ctypes
import errno
import os
import sqlite3
import stat
import sys
from contextlib import suppress
from functools import cache

_SUFFIXES = ("", "-journal", "-wal", "-shm")
_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")
"""What a journal ends with that names another file."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class HostileJournalError(Exception):
    """A journal was left that no version of Truecopy has written."""


class Connection(sqlite3.Connection):
    """A connection that keeps the folder of its file open."""

    home = -1

    def close(self) -> None:
        """Close both."""
        super().close()
        if self.home >= 0:
            home, self.home = self.home, -1
            os.close(home)


def connect(name: str, folder: int, mode: str, *, timeout: float) -> Connection:
    """Open a file that is there, in an open folder, which may be closed then; `mode` is `rw` or `ro`.

    Raises `OSError` if it, or anything that SQLite keeps beside it, is not a regular file of ours or root's,
    `HostileJournalError`, and `sqlite3.Error`.
    """
    goes_by_descriptors()
    for suffix in _SUFFIXES:
        _check(name + suffix, folder)
    home = os.dup(folder)
    try:
        address = f"file:/proc/self/fd/{home}/{name}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, factory=Connection)
    except BaseException:
        os.close(home)
        raise
    connection.home = home
    return connection


def make(name: str, folder: int) -> None:
    """Make the file, for us alone, unless something has its name; SQLite would let all read it. Raises `OSError`."""
    with suppress(FileExistsError):
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=folder))


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
