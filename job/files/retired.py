"""Retire a folder from a mirror: it is moved, with all that is in it, to where older versions are kept (design 2.3)."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count

from job.core.entry import STATE_FOLDER, printable
from job.files.durable import fsync_folder
from job.files.private import described
from job.files.trail import open_folder, single

VERSIONS = b"versions"
_PRIVATE = 0o700


class InTheWayError(NotADirectoryError):
    """Something else has the name of a folder of ours."""

    def __init__(self, name: bytes, parent: int) -> None:
        what = described(name, parent)
        shown = printable(name)
        super().__init__(
            errno.ENOTDIR,
            f"Truecopy keeps older contents in {printable(STATE_FOLDER)}/{printable(VERSIONS)} of the mirror, "
            f"but {shown} there is {what}, not a folder: move it away",
        )

    def __str__(self) -> str:
        """Give the sentence alone."""
        return self.strerror or ""


def remove_empty(name: bytes, folder: int) -> bool:
    """Remove a folder, if there is nothing in it; False if there is. Raises `OSError`."""
    try:
        os.rmdir(single(name), dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True


def retire(path: bytes, parent: int, mirror: int, moment: bytes) -> bytes:
    """Move the folder at `path`, which is in the open folder `parent`, out of the tree of the open root `mirror`.

    `moment` is a name for now. Gives its new path below the root; it and its old place are synced. Raises `OSError`.
    """
    *above, name = path.split(b"/")
    for stamp in _moments(moment):
        with ExitStack() as doors:
            folder = mirror
            for part in (STATE_FOLDER, VERSIONS, stamp, *above):
                folder = _made(part, folder)
                doors.callback(os.close, folder)
            if _is_there(name, folder):
                continue
            os.rename(single(name), name, src_dir_fd=parent, dst_dir_fd=folder)
            fsync_folder(folder)
            fsync_folder(parent)
        return b"/".join((STATE_FOLDER, VERSIONS, stamp, path))
    raise AssertionError


def _moments(moment: bytes) -> Iterator[bytes]:
    yield moment
    for number in count(2):
        yield b"%s-%d" % (moment, number)


def _made(name: bytes, parent: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(single(name), _PRIVATE, dir_fd=parent)
        fsync_folder(parent)
    try:
        return open_folder(name, parent)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise InTheWayError(name, parent) from error
        raise


def _is_there(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
