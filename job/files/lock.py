"""One instance at a time on a mirror, by a kernel lock: a dead process never leaves one behind."""

import contextlib
import errno
import fcntl
import json
import os

from job.errors import Busy
from job.files import owner
from job.files.atomic import write_all
from job.files.private import open_file

_TAKEN = {errno.EAGAIN, errno.EACCES}
_CANNOT = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


def hold(mirror: int, state: int, name: str, started: float) -> int:
    """Lock a mirror, or raise `Busy` naming who holds it. The lock lasts until the given-back descriptor is closed.

    Two locks are taken: one on the mirror's root itself, which also meets an instance that keeps its state elsewhere
    (where the file system can lock a folder), and one on the file `lock` in the state folder.
    """
    descriptor = open_file(b"lock", state, os.O_RDWR | os.O_CREAT)
    try:
        _lock(descriptor, descriptor, name)
        with contextlib.suppress(_Unlockable):
            _lock(mirror, descriptor, name)
        with contextlib.suppress(OSError):  # the note says who holds it; the lock holds on a full disk, too
            os.ftruncate(descriptor, 0)
            write_all(descriptor, json.dumps(owner.owner(started)).encode("ascii"))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class _Unlockable(Exception):  # never shown
    """The file system cannot lock such a thing."""


def _lock(target: int, record: int, name: str) -> None:
    try:
        fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            # Who holds the mirror with its state elsewhere has written no note here; ours would name the one before.
            holder = _holder(record) if target == record else ""
            raise Busy(
                f"another instance works on the mirror of {name}{holder}",
                hint="Wait for it to end, or stop it; a lock never outlives its process.",
            ) from None
        if error.errno in _CANNOT and target != record:
            raise _Unlockable from None
        raise


def _holder(record: int) -> str:
    try:
        return owner.described(os.pread(record, owner.MOST_BYTES, 0))
    except OSError:
        return ""
