"""Limits of this process: usable cores, open descriptors, I/O priority.

In a container fewer cores are usable than the machine has. Each HTTP client and each worker costs the service a
descriptor; the port gets a fixed share, so that the work always has the descriptors it needs.

`ioprio_set` has no wrapper in the C library and is called by number. It has an effect with disk schedulers that know
priorities (bfq, mq-deadline); threads and children inherit it.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

MAX_DEFAULT_WORKERS = 8
"""More processes only pay on fast disks that nobody else needs; who has those writes `workers`."""


def default_workers() -> int:
    """Tell how many processes should share a cycle when nobody said."""
    return min(usable_cores(), MAX_DEFAULT_WORKERS)


def usable_cores(membership: str = "/proc/self/cgroup", groups: str = "/sys/fs/cgroup") -> int:
    """Count the cores that affinity and every CPU quota above us leave, at least 1; half a core counts as one.

    `membership` tells the control groups of this process, `groups` is where they are mounted. What cannot be read
    limits nothing.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas(membership, groups)]))


def _quotas(membership: str, groups: str) -> Iterator[int]:
    for line in _text(membership).splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            for folder in _upwards(groups, group):
                yield from _cores(_text(f"{folder}/cpu.max").split())
        elif "cpu" in controllers.split(","):
            # Version 1 mounts each controller apart, under the name of all that share the mount.
            for folder in _upwards(f"{groups}/{controllers}", group):
                quota = [_text(f"{folder}/cpu.cfs_{part}_us").strip() for part in ("quota", "period")]
                yield from _cores(quota)


def _upwards(mount: str, group: str) -> Iterator[str]:
    """Yield the folder of `group` and all around it, up to the mount.

    Where the group was made in another namespace its folder is not there; then the mount itself is the group's.
    """
    parts = [part for part in group.split("/") if part not in {"", ".."}]
    for length in range(len(parts), -1, -1):
        yield "/".join([mount, *parts[:length]])


def _cores(quota: list[str]) -> Iterator[int]:
    """Turn microseconds of CPU in every so many microseconds into cores, rounded up; nothing if unlimited."""
    if len(quota) == len(("used", "period")) and all(part.isdecimal() and int(part) for part in quota):
        yield -(-int(quota[0]) // int(quota[1]))


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


MAIN_DESCRIPTORS = 100
"""What the main process needs for itself: both roots, state, logs, the way to a folder, files that are being copied."""
WORKER_DESCRIPTORS = 4
"""What the main process needs for each worker."""
_LEAST_FOR_CLIENTS = 4
"""A probe, a scraper and a person, where the limit is lower than what the main process may need."""
_MOST_FOR_CLIENTS = 300
_PART_FOR_CLIENTS = 4
"""One in so many of the descriptors that the main process does not need."""
_NO_LIMIT = 1 << 20


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard limit, where the system allows it; nothing is said where it does not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Give the number of descriptors that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def client_limit() -> int:
    """Give the number of clients that the HTTP port may serve at the same time; the rest is reserved for the work."""
    share = (descriptor_limit() - MAIN_DESCRIPTORS) // _PART_FOR_CLIENTS
    return max(_LEAST_FOR_CLIENTS, min(_MOST_FOR_CLIENTS, share))


def worker_limit() -> int:
    """Give the number of workers that there are descriptors for, with every place of the HTTP port taken."""
    return max(0, (descriptor_limit() - MAIN_DESCRIPTORS - client_limit()) // WORKER_DESCRIPTORS)


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
