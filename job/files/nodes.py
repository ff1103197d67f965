"""Make what has no content: symlinks with the same text, special files of the same kind; nothing is opened for it."""

import os
import stat
from contextlib import suppress

from job.core.entry import Entry, Kind, kind_of
from job.core.record import Copied
from job.errors import ChangedWhileReadError
from job.files.attributes import place_of
from job.files.listing import entry_of
from job.files.metadata import Keeper
from job.files.trail import single


def copy_link(listed: Entry, source: int, mirror: int, temp: bytes, keeper: Keeper) -> Copied:
    """Make a symlink with the same text at `temp` in the open folder `mirror`, with its metadata.

    Raises `OSError`, or `ChangedWhileReadError`; no temp is left then.
    """
    target = os.readlink(single(listed.name), dir_fd=source)
    seen = os.stat(listed.name, dir_fd=source, follow_symlinks=False)
    if not stat.S_ISLNK(seen.st_mode):
        raise ChangedWhileReadError("it is no symlink any more")
    attributes = keeper.attributes_of(place_of(listed.name, source))
    os.symlink(target, single(temp), dir_fd=mirror)
    return _dressed(listed, seen, attributes, temp, mirror, keeper)


def copy_special(listed: Entry, source: int, mirror: int, temp: bytes, keeper: Keeper) -> Copied:
    """Make a FIFO, socket or device of the same kind at `temp`. Raises as `copy_link` does."""
    seen = os.stat(single(listed.name), dir_fd=source, follow_symlinks=False)
    if kind_of(seen.st_mode) is not Kind.SPECIAL:
        raise ChangedWhileReadError("it is no special file any more")
    attributes = keeper.attributes_of(place_of(listed.name, source))
    try:
        os.mknod(single(temp), stat.S_IFMT(seen.st_mode) | 0o600, seen.st_rdev, dir_fd=mirror)
    except FileExistsError:
        raise
    except OSError:
        with suppress(OSError):  # what cannot hold it may have made a plain file before it said so
            os.unlink(temp, dir_fd=mirror)
        raise
    return _dressed(listed, seen, attributes, temp, mirror, keeper)


def _dressed(
    listed: Entry, seen: os.stat_result, attributes: dict[bytes, bytes], temp: bytes, mirror: int, keeper: Keeper
) -> Copied:
    try:
        keeper.apply_by_name(temp, mirror, seen, attributes)
        made = os.stat(temp, dir_fd=mirror, follow_symlinks=False)
    except BaseException:
        with suppress(OSError):
            os.unlink(temp, dir_fd=mirror)
        raise
    return Copied(entry_of(listed.name, seen), "", made.st_ino, made.st_mtime_ns)
