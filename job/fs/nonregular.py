"""Create symlinks with the same text, and special files of the same kind; their targets are not opened."""

import errno
import os
import stat
from contextlib import suppress

from job.core.entry import Entry, kind_of
from job.core.record import Copied
from job.fs.dircursor import listed_handle, path_handle, single
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from job.fs.xattrs import for_new


def copy_link(listed: Entry, source: int, mirror: int, temp: bytes, metadata_writer: MetadataWriter) -> Copied:
    """Make a symlink with the same text at `temp` in the open folder `mirror`, with its metadata.

    Raises `OSError`, or `ChangedWhileReadError`; no temp is left then.
    """
    with listed_handle(listed, source) as (handle, seen):
        target = os.readlink(b"", dir_fd=handle)
        attributes = for_new(metadata_writer.of_source(handle))
    os.symlink(target, single(temp), dir_fd=mirror)
    return _set_metadata(listed, seen, attributes, temp, mirror, metadata_writer)


def copy_special(listed: Entry, source: int, mirror: int, temp: bytes, metadata_writer: MetadataWriter) -> Copied:
    """Make a FIFO, socket or device of the same kind at `temp`. Raises as `copy_link` does."""
    with listed_handle(listed, source) as (handle, seen):
        attributes = for_new(metadata_writer.of_source(handle))
    try:
        os.mknod(single(temp), stat.S_IFMT(seen.st_mode) | 0o600, seen.st_rdev, dir_fd=mirror)
    except FileExistsError:
        raise
    except OSError:
        with suppress(OSError):  # the file system may have made a plain file before it refused
            os.unlink(temp, dir_fd=mirror)
        raise
    return _set_metadata(listed, seen, attributes, temp, mirror, metadata_writer)


def _set_metadata(
    listed: Entry,
    seen: os.stat_result,
    attributes: dict[bytes, bytes],
    temp: bytes,
    mirror: int,
    metadata_writer: MetadataWriter,
) -> Copied:
    try:
        with path_handle(temp, mirror) as handle:
            _check(os.fstat(handle), seen)
            metadata_writer.apply_at(handle, seen, attributes)
            made = os.fstat(handle)
    except BaseException:
        with suppress(OSError):
            os.unlink(temp, dir_fd=mirror)
        raise
    return Copied(entry_of(listed.name, seen), "", made.st_ino, made.st_mtime_ns)


def _check(made: os.stat_result, wanted: os.stat_result) -> None:
    if kind_of(made.st_mode) is not kind_of(wanted.st_mode) or made.st_nlink > 1:
        raise OSError(errno.ESTALE, "it is no longer in the mirror as it was just made")
