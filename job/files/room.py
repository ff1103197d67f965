"""Keep a little of the mirror's disk free: an index that cannot be written would make good copies count as failed."""

import errno
import os

_LEAST_BYTES = 8 << 20
_LEAST_SHARE = 8
"""On small disks the reserve is only such a part of the whole."""
_LEAST_NAMES = 8

_AMPLE_BYTES = 64 << 20
_AMPLE_NAMES = 4096
"""With so much above the reserve not every file is worth a look."""
_UNSEEN_BYTES = 128 << 10
_UNSEEN_FILES = 32
_BLOCK_BYTES = 4096


def free_bytes(descriptor: int) -> int | None:
    """Tell how many bytes are free on the file system of an open file, as `df` does; None if it does not say."""
    found = os.fstatvfs(descriptor)
    return found.f_bavail * found.f_frsize if found.f_blocks else None


class Room:
    """Watches the reserve for one writer.

    While there is ample room, at most `_UNSEEN_BYTES` in `_UNSEEN_FILES` files are written between two looks: even 64
    workers, each with its looks behind it, cannot use up more than the reserve without noticing.
    """

    def __init__(self) -> None:
        # Root may use the blocks that the file system keeps for it.
        self._root = os.geteuid() == 0
        self._device = -1
        self._bytes = 0
        self._files = 0

    def check(self, descriptor: int, written: os.stat_result) -> None:
        """Raise `OSError` (ENOSPC) if a file just written leaves less than the reserve. Quotas are not seen."""
        self._bytes -= written.st_size + _BLOCK_BYTES
        self._files -= 1
        if self._bytes >= 0 and self._files >= 0 and written.st_dev == self._device:
            return
        ample = self._look(descriptor)
        self._device = written.st_dev if ample else -1
        self._bytes, self._files = _UNSEEN_BYTES, _UNSEEN_FILES

    def _look(self, descriptor: int) -> bool:
        found = os.fstatvfs(descriptor)
        free = (found.f_bfree if self._root else found.f_bavail) * found.f_frsize
        reserve = min(_LEAST_BYTES, found.f_blocks * found.f_frsize // _LEAST_SHARE)
        if found.f_blocks and free < reserve:
            raise OSError(errno.ENOSPC, "No space left but what is kept for the index")
        if found.f_files and found.f_ffree < _LEAST_NAMES:
            raise OSError(errno.ENOSPC, "No file names left but what is kept for the index")
        return free >= reserve + _AMPLE_BYTES and (not found.f_files or found.f_ffree >= _AMPLE_NAMES)
