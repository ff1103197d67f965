"""Keep a little of the mirror's disk free: an index that cannot be written would make good copies count as failed."""

import errno
import os

_LEAST_BYTES = 8 << 20
_LEAST_SHARE = 8
"""On small disks the reserve is only such a part of the whole."""
_LEAST_NAMES = 8


def check_room(descriptor: int) -> None:
    """Raise `OSError` (ENOSPC) if the file system of an open file is down to the reserve. Quotas are not seen."""
    found = os.fstatvfs(descriptor)
    # Root may use the blocks that the file system keeps for it.
    free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    if found.f_blocks and free * found.f_frsize < min(_LEAST_BYTES, found.f_blocks * found.f_frsize // _LEAST_SHARE):
        raise OSError(errno.ENOSPC, "No space left but what is kept for the index")
    if found.f_files and found.f_ffree < _LEAST_NAMES:
        raise OSError(errno.ENOSPC, "No file names left but what is kept for the index")
