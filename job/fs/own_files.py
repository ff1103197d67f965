"""Small files and folders of Truecopy itself: opened without following links, replaced atomically, synced.

Used for state, heartbeat, notes, lock and lease; files of the mirror are written by `fs/copier.py`.

`syncfs` on a descriptor opened before the first write reports every write-back error since then (Linux 5.8). On FUSE
and network file systems it may return 0 without reaching the server: there each file and folder is synced by itself
(invariant 2).
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from job.core.file_systems import LOCAL_TYPES
from job.fs import mounts
from job.fs.dircursor import single
from job.fs.xattrs import REFUSED

_UNSYNCABLE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS}


@contextmanager
def removed_on_error(temp: bytes, folder: int) -> Iterator[None]:
    """Remove a temp of an open folder if the block fails by an `OSError`."""
    try:
        yield
    except OSError:
        with suppress(OSError):
            os.unlink(temp, dir_fd=folder)
        raise


def replace_file(folder: int, name: bytes, content: bytes, mode: int = 0o600, *, synced: bool = False) -> None:
    """Replace the file `name` in the open folder atomically: readers see the old content or the new one.

    Survives a power cut only if `synced`. Raises `OSError`; the old file stays.
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
    # A file system without fsync writes at once, or does not survive a power cut anyway.
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise


def _set_mode(descriptor: int, mode: int) -> None:
    # On a file system without modes the mount sets them.
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in REFUSED:
            raise


NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that create a file for writing: `FileExistsError` if anything, even a dangling link, has the name."""


def create(name: bytes, folder: int) -> int:
    """Create a new file for writing, mode 0600; `FileExistsError` if anything, even a dangling link, has the name."""
    return os.open(name, NEW_FILE, 0o600, dir_fd=folder)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of `content`, also if single calls are short."""
    done = os.write(descriptor, content) if content else 0
    if done < len(content):
        rest = memoryview(content)[done:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


_LIBC = ctypes.CDLL(None, use_errno=True)
_FUSE_ON_DISK = "fuseblk"
_ONE_JOURNAL = frozenset({"ext4", "tmpfs", "xfs"})
"""File systems whose order of names was seen to survive power cuts; tmpfs survives none."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def syncfs(descriptor: int) -> None:
    """Sync the file system of `descriptor`. Raises `OSError` if a write to it failed since `descriptor` was opened."""
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def syncfs_is_reliable(descriptor: int) -> bool:
    """Return whether `syncfs` on this file system reaches the disk."""
    kind = mounts.file_system_type(os.fstat(descriptor).st_dev)
    return not kind.startswith(mounts.SERVED_TYPES)


class MirrorSync:
    """Syncs one file system of a mirror, by a descriptor that was open before the first write."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.each = not syncfs_is_reliable(root)
        """Whether each file and folder has to be synced by itself, because `all` does nothing here."""

    @cached_property
    def is_local(self) -> bool:
        """Whether the kernel of this machine alone keeps the file system."""
        mount = mounts.mount_of(self._root)
        return mount is not None and mount.type in LOCAL_TYPES

    @cached_property
    def orders_names(self) -> bool:
        """Whether of two changes of names a power cut never undoes the first alone, as one journal has both.

        Not on btrfs, where a sync of one folder makes its names durable before earlier ones elsewhere.
        """
        mount = mounts.mount_of(self._root)
        return mount is not None and mount.type in _ONE_JOURNAL

    def all(self) -> None:
        """Sync everything; raises `OSError` if any of it was not written since the root was opened."""
        syncfs(self._root)


def is_shared(descriptor: int) -> bool:
    """Return whether another machine may have this file system mounted at the same time."""
    kind = mounts.file_system_type(os.fstat(descriptor).st_dev)
    return kind.startswith(mounts.SERVED_TYPES) and kind != _FUSE_ON_DISK


def fsync_folder(descriptor: int) -> None:
    """Sync the names of a folder; file systems that cannot sync folders change them at once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


REMOVE_IT = "; remove it"
"""End of an error text where removing the named entry is the remedy."""
NOT_A_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO})
"""Error numbers of `open_own_file` for an entry that is no regular file."""


class ForeignOwnerError(PermissionError):
    """A folder of Truecopy belongs to another user."""

    def __init__(self, owner: int) -> None:
        us = os.geteuid()
        self.owner, self.expected = owner, "root" if us == 0 else f"user {us} or root"
        super().__init__(errno.EPERM, f"it belongs to user {owner}, not to {self.expected}")


def open_own_folder(name: bytes, parent: int | None = None) -> int:
    """Open a folder owned by this user or root, by name in `parent` or by path; the last component may not be a link.

    Raises `OSError`; `ForeignOwnerError` if it belongs to another user.
    """
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    owner = os.fstat(folder).st_uid
    if owner not in {os.geteuid(), 0}:
        os.close(folder)
        raise ForeignOwnerError(owner)
    return folder


def describe_entry(name: bytes, parent: int) -> str:
    """Describe the kind and owner of an entry of an open folder: `a file of user 1000`. Raises nothing."""
    try:
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        return f"an entry that cannot be examined ({error.strerror})"
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link"}
    return f"{kinds.get(stat.S_IFMT(seen.st_mode), 'a special file')} of user {seen.st_uid}"


def open_own_file(name: bytes | str, folder: int, flags: int) -> int:
    """Open a regular file in an open folder without following a link or blocking; a new one gets mode 0600.

    Raises `OSError`, also if the entry is no regular file.
    """
    how = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(name, how, 0o600, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"the {os.fsdecode(name)} is not a regular file")
