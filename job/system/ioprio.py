"""Let the disks serve others first: this process's I/O priority, which its threads and children inherit.

`ioprio_set` has no wrapper in any C library, so it is called by number. The kernel heeds it where the disk's scheduler
knows priorities (bfq, mq-deadline), and always in what it tells of the process.
"""

import ctypes
import os
import sys
from functools import cache

_CALLS = {
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "loongarch64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}
"""Numbers of ioprio_set and ioprio_get, by machine, for programs of 64 bits."""
_THIS_PROCESS = (1, 0)
_CLASS_SHIFT = 13
_LEVELS = {"low": (2 << _CLASS_SHIFT) + 7, "idle": 3 << _CLASS_SHIFT}
"""Best effort, the last of its eight; and only when nobody else wants the disk."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def set_io_priority(level: str) -> bool:
    """Set the I/O priority to "low", to "idle", or to "normal": what it was at the first call. False if it cannot be.

    Threads that run already keep theirs: call it before any is started.
    """
    before = _inherited()
    wanted = _LEVELS.get(level, before)
    if before is None or wanted is None:
        return level == "normal"
    return _call(1) == wanted or _call(0, wanted) == 0


@cache
def _inherited() -> int | None:
    """Tell what this process was started with, such as by ionice."""
    found = _call(1)
    if found < 0:
        return None
    # Some kernels tell a level with "no class", but take none.
    return found if found >> _CLASS_SHIFT else 0


def _call(which: int, *value: int) -> int:
    numbers = _CALLS.get(os.uname().machine) if sys.maxsize > 2**32 else None
    if numbers is None:
        return -1
    return int(_LIBC.syscall(ctypes.c_long(numbers[which]), *map(ctypes.c_long, (*_THIS_PROCESS, *value))))
