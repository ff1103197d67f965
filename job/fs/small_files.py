"""Replace small files of our own as a whole: state, heartbeat, notes. Mirror files go through `fs/copier.py`.

Get what was written onto the disk, and hear about it when that fails (invariant 2).

`syncfs` on a descriptor opened before the first write reports every write-back error since then (Linux 5.8). Where it
may return 0 without reaching the server (FUSE, network file systems) each file and folder is synced by itself.

Open what is ours: a folder or a file that nobody else can have put there, and never what a link leads to.
"""

import ctypes
import errno
import os
import stat
from contextlib import suppress

from job.fs import mounts
from job.fs.dircursor import single
from job.fs.xattrs import REFUSED

_UNSYNCABLE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS}


def replace_file(folder: int, name: bytes, content: bytes, mode: int = 0o600, *, synced: bool = False) -> None:
    """Write `content` under `name` in the open folder: readers see the old file or the new one, never a part.

    Survives a crash of the program; a power cut only if it is to be `synced`. Raises `OSError`, leaving the old file.
    """
    temp = b"." + single(name) + b"." + os.urandom(4).hex().encode()
    descriptor = create(temp, folder)
    try:
        try:
            write_all(descriptor, content)
            _set_mode(descriptor, mode)
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


def _set_mode(descriptor: int, mode: int) -> None:
    # Where there are no modes, it has the one that the mount gives to everything.
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in REFUSED:
            raise


NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that create a file for writing: `FileExistsError` if anything, even a dangling link, has the name."""


def create(name: bytes, folder: int) -> int:
    """Create a new file for writing, 0600; `FileExistsError` if anything, even a dangling link, has the name."""
    return os.open(name, NEW_FILE, 0o600, dir_fd=folder)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write everything, however little a single call takes."""
    done = os.write(descriptor, content) if content else 0
    if done < len(content):
        rest = memoryview(content)[done:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


_LIBC = ctypes.CDLL(None, use_errno=True)
_OF_A_DISK = "fuseblk"
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def syncfs(descriptor: int) -> None:
    """Write out the file system that holds `descriptor`. Raises `OSError` if anything on it failed to be written."""
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def syncfs_is_reliable(descriptor: int) -> bool:
    """Tell whether `syncfs` on this file system is more than a polite no-op."""
    kind = mounts.file_system_type(os.fstat(descriptor).st_dev)
    return not kind.startswith(mounts.SERVED_TYPES)


class MirrorSync:
    """Syncs one file system of a mirror, by a descriptor that was open before the first write."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.each = not syncfs_is_reliable(root)
        """Whether each file and folder has to be synced by itself, because `all` does nothing here."""

    def all(self) -> None:
        """Sync everything; raises `OSError` if any of it was not written since the root was opened."""
        syncfs(self._root)


def is_shared(descriptor: int) -> bool:
    """Tell whether another machine may have this file system mounted at the same time."""
    kind = mounts.file_system_type(os.fstat(descriptor).st_dev)
    return kind.startswith(mounts.SERVED_TYPES) and kind != _OF_A_DISK


def fsync_folder(descriptor: int) -> None:
    """Sync a folder's names; file systems that cannot sync folders do their folder work at once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


REMOVE_IT = "; remove it"
"""How the text of an error ends that goes away with what is in the place of a file of ours."""
NOT_A_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO})
"""What `open_own_file` raises for something that is no regular file."""


class ForeignOwnerError(PermissionError):
    """A folder that must be ours belongs to another user."""

    def __init__(self, owner: int) -> None:
        us = os.geteuid()
        expected = "root" if us == 0 else f"user {us} or root"
        super().__init__(errno.EPERM, f"it belongs to user {owner}, not to {expected}")
        self.owner = owner


def open_own_folder(name: bytes, parent: int | None = None) -> int:
    """Open a folder of ours or of root's, by its name in an open folder or by a whole path; the last name is no link.

    Raises `OSError`, PermissionError if it belongs to somebody else.
    """
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    owner = os.fstat(folder).st_uid
    if owner not in {os.geteuid(), 0}:
        os.close(folder)
        raise ForeignOwnerError(owner)
    return folder


def describe_entry(name: bytes, parent: int) -> str:
    """Say what has a name in an open folder, and whose it is: `a file of user 1000`. Raises nothing."""
    try:
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        return f"something that cannot be looked at ({error.strerror})"
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link"}
    return f"{kinds.get(stat.S_IFMT(seen.st_mode), 'a special file')} of user {seen.st_uid}"


def open_own_file(name: bytes | str, folder: int, flags: int) -> int:
    """Open a file of ours in an open folder, for us alone if it is made; never a link, and never waiting for anybody.

    Raises `OSError`, also for what is no regular file.
    """
    how = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(name, how, 0o600, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"the {os.fsdecode(name)} is not a regular file")
