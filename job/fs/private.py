"""Open what is ours: a folder or a file that nobody else can have put there, and never what a link leads to."""

import errno
import os
import stat

REMOVE_IT = "; remove it"
"""How the text of an error ends that goes away with what is in the place of a file of ours."""
NO_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO})
"""What `open_file` raises for something that is no regular file."""


class NotOurs(PermissionError):
    """A folder that must be ours belongs to another user."""

    def __init__(self, owner: int) -> None:
        us = os.geteuid()
        expected = "root" if us == 0 else f"user {us} or root"
        super().__init__(errno.EPERM, f"it belongs to user {owner}, not to {expected}")
        self.owner = owner


def open_ours(name: bytes, parent: int | None = None) -> int:
    """Open a folder of ours or of root's, by its name in an open folder or by a whole path; the last name is no link.

    Raises `OSError`, PermissionError if it belongs to somebody else.
    """
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    owner = os.fstat(folder).st_uid
    if owner not in {os.geteuid(), 0}:
        os.close(folder)
        raise NotOurs(owner)
    return folder


def described(name: bytes, parent: int) -> str:
    """Say what has a name in an open folder, and whose it is: `a file of user 1000`. Raises nothing."""
    try:
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        return f"something that cannot be looked at ({error.strerror})"
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link"}
    return f"{kinds.get(stat.S_IFMT(seen.st_mode), 'a special file')} of user {seen.st_uid}"


def open_file(name: bytes | str, folder: int, flags: int) -> int:
    """Open a file of ours in an open folder, for us alone if it is made; never a link, and never waiting for anybody.

    Raises `OSError`, also for what is no regular file.
    """
    how = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(name, how, 0o600, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"the {os.fsdecode(name)} is not a regular file")
