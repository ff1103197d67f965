"""Replace small files of our own as a whole: state, heartbeat, notes. Mirror files go through `fs/copier.py`."""

import errno
import os
from contextlib import suppress

from job.fs.dircursor import single
from job.fs.xattrs import REFUSED

_UNSYNCABLE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS}


def replace_file(folder: int, name: bytes, content: bytes, mode: int = 0o600, *, synced: bool = False) -> None:
    """Write `content` under `name` in the open folder: readers see the old file or the new one, never a part.

    Survives a crash of the program; a power cut only if it is to be `synced`. Raises `OSError`, leaving the old file.
    """
    temp = b"." + single(name) + b"." + os.urandom(4).hex().encode()
    descriptor = os.open(
        temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        try:
            write_all(descriptor, content)
            _give_mode(descriptor, mode)
            if synced:
                _sync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(temp, dir_fd=folder)
        raise
    if synced:
        _sync(folder)


def _sync(descriptor: int) -> None:
    # Where it cannot be synced, it is written at once, or not kept over a power cut whatever is called.
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise


def _give_mode(descriptor: int, mode: int) -> None:
    # Where there are no modes, it has the one that the mount gives to everything.
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in REFUSED:
            raise


def create(name: bytes, folder: int) -> int:
    """Create a new file for writing, 0600; `FileExistsError` if anything, even a dangling link, has the name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=folder)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write everything, however little a single call takes."""
    done = os.write(descriptor, content) if content else 0
    if done < len(content):
        rest = memoryview(content)[done:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
