"""Get what was written onto the disk, and hear about it when that fails (invariant 2).

`syncfs` on a descriptor opened before the first write reports every write-back error since then (Linux 5.8). Where it
may return 0 without reaching the server (FUSE, network file systems) each file and folder is synced by itself.
"""

import ctypes
import errno
import os

from job.fs import mounts

_LIBC = ctypes.CDLL(None, use_errno=True)
_OF_A_DISK = "fuseblk"
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def syncfs(descriptor: int) -> None:
    """Write out the file system that holds `descriptor`. Raises `OSError` if anything on it failed to be written."""
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def syncfs_means_something(descriptor: int) -> bool:
    """Tell whether `syncfs` on this file system is more than a polite no-op."""
    kind = mounts.file_system_type(os.fstat(descriptor).st_dev)
    return not kind.startswith(mounts.SERVERS)


def others_may_reach(descriptor: int) -> bool:
    """Tell whether another machine may have this file system mounted at the same time."""
    kind = mounts.file_system_type(os.fstat(descriptor).st_dev)
    return kind.startswith(mounts.SERVERS) and kind != _OF_A_DISK


def fsync_folder(descriptor: int) -> None:
    """Sync a folder's names; file systems that cannot sync folders do their folder work at once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
