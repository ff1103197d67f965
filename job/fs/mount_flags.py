"""What the mount that a folder of a source was reached by takes from files: devices (nodev), set-ID bits (nosuid).

A device or setuid program without effect in the source must have none in the mirror, which may be mounted otherwise.
"""

import os

NODEV, NOSUID = "d", "s"


def restrictions_of(folder: int) -> str:
    """Give the letters `NODEV` and `NOSUID` as they hold for what is in an open folder; both if it does not say.

    By the mount and not by the device: one file system may be mounted at several places in different ways.
    """
    try:
        flags = os.fstatvfs(folder).f_flag
    except OSError:
        return NODEV + NOSUID
    return (NODEV if flags & os.ST_NODEV else "") + (NOSUID if flags & os.ST_NOSUID else "")
