"""What a refusal by the kernel comes from: a right that this process lacks, or the file system."""

import errno
import os

from job.core.outcome import reason_text

_NEEDED = {"owner": ("CAP_CHOWN", 0), "mode": ("CAP_FOWNER", 3), "times": ("CAP_FOWNER", 3), "acl": ("CAP_FOWNER", 3)}
"""The capability by which each kind of metadata may be set on whatever belongs to somebody else, and its number."""


_OF_METADATA = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "SYS_ADMIN": 21,
    "MKNOD": 27,
    "SETFCAP": 31,
}
"""Capabilities that make a difference to what can be read of a source or kept in a mirror, and their numbers."""


def rights_of_metadata() -> list[str]:
    """Name the capabilities of this process that make a difference to what a mirror is like."""
    has = _now()
    return [name for name, number in _OF_METADATA.items() if has >> number & 1]


def why_not(what: str, error: OSError) -> str:
    """Say why metadata of a kind was refused: the right that is missing, or the words of the file system."""
    if error.errno not in {errno.EPERM, errno.EACCES}:
        return reason_text(error)
    name, number = _NEEDED.get(what, ("", -1))
    if not name or _has(number):
        return f"the file system does not allow it ({error.strerror})"
    return f"this needs root ({name}), and Truecopy runs as user {os.geteuid()} without it"


def _has(capability: int) -> bool:
    return bool(_now() >> capability & 1)


def _now() -> int:
    effective = _effective()
    return _AT_START if effective is None else effective


def _effective() -> int | None:
    """Give the capabilities of this thread as bits, of which root in a container has few; None if /proc is closed."""
    try:
        with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return None


_AT_START = _effective() or 0
"""Behind the wall around a cycle's work nothing in /proc can be read."""
