"""Keep a reserve of disk space and inodes free in the mirror: a full index would make good copies count as failed.

Implausible counts are ignored: some file systems report nothing free and accept everything.
"""

import errno
import os
from contextlib import suppress
from typing import NamedTuple

from job.core.entry import TEMP_PREFIX
from job.fs.dircursor import closing_fd
from job.fs.own_files import create, write_all

_LEAST_BYTES = 8 << 20
_LEAST_SHARE = 8
"""On a small disk the reserve is this fraction of its size: one eighth."""
_LEAST_NAMES = 8

_AMPLE_BYTES = 64 << 20
_AMPLE_NAMES = 4096
"""With this much above the reserve, free space is not measured for every file."""
_UNCHECKED_BYTES = 128 << 10
_UNCHECKED_FILES = 32
BLOCK_BYTES = 4096
_TRIAL_BYTES = 64 << 10
_TRIAL = TEMP_PREFIX + b"room-"


def check_size(size: int, most: int) -> None:
    """Raise `OSError` (EFBIG) for a file that is larger than the file system holds; `most` is 0 for no limit."""
    if most and size > most:
        raise OSError(errno.EFBIG, f"it has {size} bytes, and the mirror's file system holds {most} in a file")


def free_bytes(descriptor: int) -> int | None:
    """Return the free bytes of the file system of an open file, as `df` does; None if it reports no size."""
    found = os.fstatvfs(descriptor)
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def check_space(descriptor: int, size: int) -> None:
    """Raise `OSError` (ENOSPC) if a file system has less than `size` bytes free."""
    found = os.fstatvfs(descriptor)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if 0 < free <= total and free < size:
        why = f"the file system has no holes, so that it needs {size:,} bytes, and {free:,} are free"
        raise OSError(errno.ENOSPC, why)


class Shortage(NamedTuple):
    """What a file system lacks."""

    bytes: int
    names: int


def shortage(descriptor: int, size: int) -> Shortage:
    """Return what the file system of an open file lacks for a file of `size` bytes and some names beside the reserve.

    Implausible counts lack nothing.
    """
    found = os.fstatvfs(descriptor)
    is_root = os.geteuid() == 0
    free, total = (found.f_bfree if is_root else found.f_bavail) * found.f_frsize, found.f_blocks * found.f_frsize
    wanted = size + BLOCK_BYTES + min(_LEAST_BYTES, total // _LEAST_SHARE)
    names = 2 * _LEAST_NAMES
    return Shortage(
        max(0, wanted - free) if total > 0 and free <= total else 0,
        max(0, names - found.f_ffree) if found.f_files > 0 and found.f_ffree <= found.f_files else 0,
    )


class FreeSpace:
    """Watches the reserve for one writer.

    While space is ample, at most `_UNCHECKED_BYTES` in `_UNCHECKED_FILES` files are written between two checks: even 64
    workers, each with its checks behind it, cannot use up more than the reserve without noticing.
    """

    def __init__(self, *, keeps_reserve: bool = True) -> None:
        """Without a reserve nothing is checked: the file system tells when it is full."""
        self._keeps_reserve = keeps_reserve
        # Root may use the reserved blocks of the file system.
        self._root = os.geteuid() == 0
        self._no_names: set[int] = set()
        """Devices whose count of free inodes proved to be wrong."""
        self._no_blocks: set[int] = set()
        self.bytes_left = self.files_left = 0
        """Bytes, in whole blocks, and files that may be written to `device` before the next check."""
        self.device = -1

    def take(self, descriptor: int, written: os.stat_result, folder: int) -> None:
        """Count the file just written to an open folder; check the reserve when it is time. Raises as `check` does."""
        self.bytes_left -= written.st_size + BLOCK_BYTES
        self.files_left -= 1
        if self.bytes_left < 0 or self.files_left < 0 or self.device != written.st_dev:
            self.check(descriptor, written, folder)

    def check(self, descriptor: int, written: os.stat_result, folder: int) -> None:
        """Set what may be written before the next check.

        Raises `OSError` (ENOSPC) if the file just written to a folder leaves less than the reserve; ignores quotas.
        """
        if self._keeps_reserve:
            ample = self._measure(descriptor, written, folder)
            self.bytes_left, self.files_left = (_UNCHECKED_BYTES, _UNCHECKED_FILES) if ample else (0, 0)
        self.device = written.st_dev

    def _measure(self, descriptor: int, written: os.stat_result, folder: int) -> bool:
        found, device = os.fstatvfs(descriptor), written.st_dev
        free, total = self._free(found), found.f_blocks * found.f_frsize
        reserve = min(_LEAST_BYTES, total // _LEAST_SHARE)
        counts_blocks = total > 0 and free <= total and device not in self._no_blocks
        # An empty file takes no blocks, and may replace a file that has many.
        short = written.st_size > 0 and counts_blocks and free < reserve
        if short and not (free == 0 and self._accepts_more(device, folder)):
            raise OSError(errno.ENOSPC, "No space left but the reserve for the index")
        counts_names = found.f_files > 0 and found.f_ffree <= found.f_files and device not in self._no_names
        if counts_names and found.f_ffree < _LEAST_NAMES and self._counts(device, folder, found.f_ffree):
            raise OSError(errno.ENOSPC, "No file names left but the reserve for the index")
        enough = not counts_blocks or free >= reserve + _AMPLE_BYTES
        return enough and (not counts_names or found.f_ffree >= _AMPLE_NAMES)

    def _free(self, found: os.statvfs_result) -> int:
        return (found.f_bfree if self._root else found.f_bavail) * found.f_frsize

    def _accepts_more(self, device: int, folder: int) -> bool:
        """Return whether a file system that reports no free block still accepts content."""
        after = _try_new_file(folder, os.urandom(_TRIAL_BYTES))
        if after is None or self._free(after) > 0:
            return False
        self._no_blocks.add(device)
        return True

    def _counts(self, device: int, folder: int, before: int) -> bool:
        """Return whether the count of free inodes is real: a new file changes it, or cannot be made."""
        after = _try_new_file(folder, b"")
        if after is None or after.f_ffree != before:
            return True
        self._no_names.add(device)
        return False


def _try_new_file(folder: int, content: bytes) -> os.statvfs_result | None:
    """Return statvfs with one more file in an open folder; None if the file cannot be made."""
    name = _TRIAL + os.urandom(4).hex().encode("ascii")
    try:
        with closing_fd(create(name, folder)) as file:
            write_all(file, content)
            os.fsync(file)
            return os.fstatvfs(file)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
