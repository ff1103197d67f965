"""Read nothing but what was listed, a regular file first of all, and know whether it moved meanwhile."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from job.core.entry import Entry, kind_of
from job.errors import ChangedWhileReadError
from job.fs.dircursor import Place, at_place, open_name


def open_file(listed: Entry, folder: int) -> tuple[int, os.stat_result]:
    """Open a listed regular file for reading: never a link, never blocking, and only if it is the one listed.

    Raises `OSError`, or `ChangedWhileReadError` if something else has the name now.
    """
    descriptor = open_name(listed.name, folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_ino != listed.inode:
        os.close(descriptor)
        raise ChangedWhileReadError("something else has its name now")
    os.set_blocking(descriptor, True)
    return descriptor, found


@contextmanager
def at_listed(listed: Entry, folder: int) -> Iterator[tuple[Place, os.stat_result]]:
    """Hold on to a listed symlink or special file without opening it; gives its lstat, too. Raises as `open_file`."""
    with at_place(listed.name, folder) as place:
        found = os.fstat(place)
        if kind_of(found.st_mode) is not listed.kind or found.st_ino != listed.inode:
            raise ChangedWhileReadError("something else has its name now")
        yield place, found


def unmoved(before: os.stat_result, after: os.stat_result) -> bool:
    """Tell whether two stats of one open file say that it was left alone in between."""
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
        and before.st_mode == after.st_mode
        and before.st_uid == after.st_uid
        and before.st_gid == after.st_gid
    )
