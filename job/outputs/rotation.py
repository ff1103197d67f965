"""One process at a time rotates a log, by a lock on a file beside it that nobody else can open.

A log itself may be readable for others, and whoever can open a file, for reading too, can lock it.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from job.fs.private import open_file
from job.locking.lock import is_held

_OTHERS = 0o077
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def alone(name: bytes, folder: int) -> Iterator[None]:
    """Keep other processes of ours from rotating the log `name` in an open folder; its lock is removed at the end.

    Raises `BlockingIOError` if another process rotates it. Where somebody else took the name of the lock, or there are
    no locks, nobody is kept from anything: two instances that write one log are rare, and a log that grows is not.
    """
    lock = b".%s.lock" % name
    descriptor = _opened(lock, folder)
    if descriptor is None:
        yield
        return
    try:
        _take(descriptor)
        if not is_held(descriptor, folder, lock):
            raise BlockingIOError(errno.EAGAIN, "another process has just rotated it")
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(lock, dir_fd=folder)
    finally:
        os.close(descriptor)


def _opened(lock: bytes, folder: int) -> int | None:
    try:
        descriptor = open_file(lock, folder, os.O_RDWR | os.O_CREAT)
    except OSError:
        return None
    seen = os.fstat(descriptor)
    if seen.st_uid == os.geteuid() and not seen.st_mode & _OTHERS:
        return descriptor
    os.close(descriptor)
    return None


def _take(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
