"""One instance at a time on a mirror, by a kernel lock, which ends with its process.

The lock is on the file `lock` in a private folder: in `.truecopy` of the mirror, where instances with different state
folders meet, and in the state folder. Only this user and root can open it, because any process that opens a file can
lock it. The file holds a small record of the holder, for the message of an instance that finds the mirror locked.
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from typing import Any

from job.core.stored import UNUSABLE, number_of, seconds_of
from job.errors import Busy
from job.fs.small_files import NOT_A_FILE, REMOVE_IT, describe_entry, open_own_file, write_all
from job.health import boot_id

MOST_HOLDER_BYTES = 1000


def holder_record(started: float) -> dict[str, str | int | float]:
    """Describe this process, at work since `started`."""
    return {
        "host": os.uname().nodename,
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "pid_namespace": _pid_namespace(),
        "since_timestamp_seconds": started,
    }


def _pid_namespace() -> str:
    """Name what process numbers mean anything in: another one for each container."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def parse_holder(record: bytes) -> dict[str, Any]:
    """Read a record; empty if it is none, whatever it is."""
    try:
        found = json.loads(record)
    except UNUSABLE:
        return {}
    return found if isinstance(found, dict) else {}


def describe_holder(record: bytes) -> str:
    """Say who is meant, to be put behind a sentence; empty for a record that does not tell."""
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
    """Take the lock in an open folder of ours, or raise `Busy` naming who holds it; `name` is the pair's.

    The lock lasts until the given-back descriptor is closed. Raises `OSError`, in words for what is no lock of ours.
    """
    for _ in range(_TRIES):
        descriptor, writable, was_open = _open(folder)
        try:
            _lock(descriptor, name, _WAS_OPEN if was_open else _WAIT)
            if is_held(descriptor, folder):
                if writable:
                    _write_holder(descriptor, started)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed or replaced after it was opened
    raise Busy(f"others come and go at the mirror of {name}", hint="Try again.")


def is_held(descriptor: int, folder: int, name: bytes = NAME) -> bool:
    """Tell whether a lock that was taken is still the file with that name in the open folder; raises nothing."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        return error.errno not in {errno.ENOENT, errno.ENOTDIR}
    return os.path.samestat(there, os.fstat(descriptor))


def _open(folder: int) -> tuple[int, bool, bool]:
    """Open the file of the lock, for us alone; tell whether it can be written to, and whether others could open it."""
    try:
        descriptor, writable = _opened(folder)
    except OSError as error:
        if error.errno not in NOT_A_FILE:
            raise
        raise OSError(error.errno, f"{describe_entry(NAME, folder)} has the name of the lock{REMOVE_IT}") from None
    try:
        return descriptor, writable, _check(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _opened(folder: int) -> tuple[int, bool]:
    try:
        return open_own_file(NAME, folder, os.O_RDWR | os.O_CREAT), True
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        # On a file system that turned read-only, and for an immutable file: it can be locked all the same.
        with contextlib.suppress(OSError):
            return open_own_file(NAME, folder, os.O_RDONLY), False
        raise


def _check(descriptor: int) -> bool:
    """Raise `OSError` for a file that others may have put there; take the right to open it from everybody else.

    Tells whether they had that right.
    """
    seen = os.fstat(descriptor)
    if seen.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EPERM, f"the lock belongs to user {seen.st_uid}{REMOVE_IT}")
    if seen.st_nlink > 1:
        raise OSError(errno.EMLINK, f"the lock is a file with {seen.st_nlink} names{REMOVE_IT}")
    if seen.st_mode & _OTHERS:
        with contextlib.suppress(
            OSError
        ):  # where there are no modes, it has the one that the mount gives to everything
            os.fchmod(descriptor, stat.S_IMODE(seen.st_mode) & ~_OTHERS)
    return bool(seen.st_mode & _OTHERS)


def _lock(descriptor: int, name: str, hint: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise Busy(
                f"another instance works on the mirror of {name}{_holder(descriptor)}",
                hint=hint,
            ) from None
        if error.errno in _CANNOT:
            why = f"its file system cannot lock a file ({error.strerror}), so nothing keeps two instances apart"
            raise OSError(error.errno, why) from None
        raise


def _write_holder(descriptor: int, started: float) -> None:
    with contextlib.suppress(OSError):  # the note says who holds it; the lock holds on a full disk, too
        os.ftruncate(descriptor, 0)
        write_all(descriptor, json.dumps(holder_record(started)).encode("ascii"))


def _holder(descriptor: int) -> str:
    try:
        return describe_holder(os.pread(descriptor, MOST_HOLDER_BYTES, 0))
    except OSError:
        return ""
