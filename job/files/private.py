"""The private folder for small files that are not worth a place of their own: the heartbeat, the last good config.

It lies below the folder for temporary files, so that it can be had although every other folder is mounted read-only.
There anybody may make any name, so nothing is believed that is not ours alone.
"""

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress

from job.files import trail


class NotOurs(PermissionError):
    """A folder that must be ours belongs to another user."""

    def __init__(self, owner: int) -> None:
        us = os.geteuid()
        expected = "root" if us == 0 else f"user {us} or root"
        super().__init__(errno.EPERM, f"it belongs to user {owner}, not to {expected}")
        self.owner = owner


def private_path(name: str, environ: Mapping[str, str]) -> str:
    """Name a file in the private folder: the same for every process of this user."""
    # Not tempfile.gettempdir(): it tries folders by writing to them, so two processes need not agree.
    return os.path.join(environ.get("TMPDIR") or "/tmp", f"truecopy-{os.geteuid()}", name)  # noqa: S108


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


def scratch_folder(environ: Mapping[str, str]) -> tuple[str, int]:
    """Give, open, a folder of ours for large files without a name; they are made where SQLite would make them.

    Raises `OSError` where none is to be had.
    """
    # Not where the small files are: a config that is believed lies there, and this may be all that work can write to.
    last = "/tmp"  # noqa: S108
    for base in (environ.get("SQLITE_TMPDIR"), environ.get("TMPDIR"), "/var/tmp", last):  # noqa: S108
        if base and (base == last or os.access(base, os.W_OK | os.X_OK, effective_ids=True)):
            break
    path = os.path.join(base or last, f"truecopy-{os.geteuid()}", "scratch")
    with suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), 0o700)
    folder = open_folder(path)
    try:
        with suppress(FileExistsError):
            os.mkdir(b"scratch", 0o700, dir_fd=folder)
        return path, trail.open_folder(b"scratch", folder)
    finally:
        os.close(folder)


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


def open_folder(path: str, *, mend: bool = True) -> int:
    """Open the folder of the private file `path`, and keep others out of it.

    Raises PermissionError when it belongs to somebody else, or, unless it is to be mended, when it is open to others.
    """
    folder = os.path.dirname(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"the folder {folder} belongs to somebody else; remove it", folder)
        if status.st_mode & 0o077:
            if not mend:
                raise PermissionError(errno.EPERM, f"the folder {folder} is open to others", folder)
            os.fchmod(descriptor, 0o700)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: str, *, most_bytes: int, mend: bool = True) -> bytes:
    """Read a private file; raises `OSError`, and `ValueError` for what is no file of ours."""
    folder = open_folder(path, mend=mend)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(os.path.basename(path), flags, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise ValueError("not a file of ours")
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)
