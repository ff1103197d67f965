"""A kernel lock that allows one instance at a time on a mirror, and ends with its process.

The lock is on the file `lock` in two private folders: `.truecopy` of the mirror, which excludes instances with other
state folders, and the state folder. Only this user and root can open it, because any process that opens a file can lock
it. The file holds a record of the holder, for the message of an instance that finds the mirror locked.
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from typing import Any

from job.core.stored_values import UNUSABLE, number_of, seconds_of
from job.errors import Busy
from job.fs.mounts import boot_id
from job.fs.own_files import NOT_A_FILE, REMOVE_IT, describe_entry, open_own_file, write_all

MOST_HOLDER_BYTES = 1000


def holder_record(started: float) -> dict[str, str | int | float]:
    """Return a record of this process, which runs since `started`."""
    return {
        "host": os.uname().nodename,
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "pid_namespace": _pid_namespace(),
        "since_timestamp_seconds": started,
    }


def _pid_namespace() -> str:
    """Return the name of the PID namespace, which differs between containers; empty without /proc."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def parse_holder(record: bytes) -> dict[str, Any]:
    """Parse a record; empty if it is invalid."""
    try:
        found = json.loads(record)
    except UNUSABLE:
        return {}
    return found if isinstance(found, dict) else {}


def describe_holder(record: bytes) -> str:
    """Return the holder in parentheses, to append to a sentence; empty for an invalid record."""
    found = parse_holder(record)
    try:
        process = f"process {number_of(found['pid'])} on {str(found['host'])[:200]!r}"
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds_of(found["since_timestamp_seconds"])))
    except UNUSABLE:
        return ""
    return f" ({process}{_other_place(found)}, since {since})"


def _other_place(found: dict[str, Any]) -> str:
    if found.get("boot_id") != boot_id():
        return ", on another machine" if found.get("boot_id") else ""
    return "" if found.get("pid_namespace") == _pid_namespace() else ", in another container of this machine"


NAME = b"lock"
_OTHERS = 0o077
_TAKEN = {errno.EAGAIN, errno.EACCES}
_CANNOT = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
_CANNOT_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}
_TRIES = 5
_WAIT = "Wait for it to end, or stop it; a lock never outlives its process."
_WAS_OPEN = f"{_WAIT} Others could open the file until now: if no instance is at work, remove it."


def acquire(folder: int, name: str, started: float) -> int:
    """Take the lock in an open private folder, or raise `Busy` with its holder; `name` is the pair's.

    The lock lasts until the returned descriptor is closed. Raises `OSError`, with a full message for an unusable file.
    """
    for _ in range(_TRIES):
        descriptor, writable = _open(folder)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            _lock(descriptor, name, _WAS_OPEN if _check(descriptor) else _WAIT)
            if is_held(descriptor, folder):  # otherwise it was removed or replaced after it was opened
                if writable:
                    _write_holder(descriptor, started)
                undo.pop_all()
                return descriptor
    raise Busy(f"others come and go at the mirror of {name}", hint="Try again.")


def is_held(descriptor: int, folder: int, name: bytes = NAME) -> bool:
    """Return whether a locked file still has this name in the open folder. Raises nothing."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        return error.errno not in {errno.ENOENT, errno.ENOTDIR}
    return os.path.samestat(there, os.fstat(descriptor))


def _open(folder: int) -> tuple[int, bool]:
    """Open the lock file; also return whether it is writable."""
    try:
        return open_own_file(NAME, folder, os.O_RDWR | os.O_CREAT), True
    except OSError as error:
        if error.errno in NOT_A_FILE:
            message = f"{describe_entry(NAME, folder)} has the name of the lock{REMOVE_IT}"
            raise OSError(error.errno, message) from None
        if error.errno not in _CANNOT_WRITE:
            raise
        # A file that is immutable or on a read-only file system can still be locked.
        with contextlib.suppress(OSError):
            return open_own_file(NAME, folder, os.O_RDONLY), False
        raise


def _check(descriptor: int) -> bool:
    """Close the lock file to others; return whether they could open it. Raises `OSError` for a file made by others."""
    seen = os.fstat(descriptor)
    if seen.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EPERM, f"the lock belongs to user {seen.st_uid}{REMOVE_IT}")
    if seen.st_nlink > 1:
        raise OSError(errno.EMLINK, f"the lock is a file with {seen.st_nlink} names{REMOVE_IT}")
    if seen.st_mode & _OTHERS:
        with contextlib.suppress(OSError):  # without modes, the mount sets it
            os.fchmod(descriptor, stat.S_IMODE(seen.st_mode) & ~_OTHERS)
    return bool(seen.st_mode & _OTHERS)


def _lock(descriptor: int, name: str, hint: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            message = f"another instance works on the mirror of {name}{_holder(descriptor)}"
            raise Busy(message, hint=hint) from None
        if error.errno in _CANNOT:
            why = f"its file system cannot lock a file ({error.strerror}), so nothing keeps two instances apart"
            raise OSError(error.errno, why) from None
        raise


def _write_holder(descriptor: int, started: float) -> None:
    with contextlib.suppress(OSError):  # the record is for messages only, and a full disk must not prevent the lock
        os.ftruncate(descriptor, 0)
        write_all(descriptor, json.dumps(holder_record(started)).encode("ascii"))


def _holder(descriptor: int) -> str:
    try:
        return describe_holder(os.pread(descriptor, MOST_HOLDER_BYTES, 0))
    except OSError:
        return ""
