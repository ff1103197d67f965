"""Limits of this process: usable cores, open descriptors, I/O priority.

A container may use fewer cores than the machine has. HTTP clients and workers cost descriptors; clients get a fixed
share, so that the backup always has enough.

`ioprio_set` has no wrapper in the C library and is called by number. It has an effect with disk schedulers that support
priorities (bfq, mq-deadline); threads and children inherit it.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from job.fs.mounts import kernel_text

MAX_DEFAULT_WORKERS = 8
"""More processes are useful only on fast, otherwise idle disks; the option `workers` sets them."""


def default_workers() -> int:
    """Return the default number of worker processes."""
    return min(usable_cores(), MAX_DEFAULT_WORKERS)


def usable_cores(membership: str = "/proc/self/cgroup", groups: str = "/sys/fs/cgroup") -> int:
    """Count the cores that affinity and all CPU quotas allow, rounded up, at least 1.

    `membership` lists the control groups of this process, `groups` is their mount point. Unreadable files set no limit.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas(membership, groups)]))


def _quotas(membership: str, groups: str) -> Iterator[int]:
    for line in kernel_text(membership).splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            for folder in _upwards(groups, group):
                yield from _cores(kernel_text(f"{folder}/cpu.max").split())
        elif "cpu" in controllers.split(","):
            # Version 1 mounts controllers separately, under the joined names of those that share a mount.
            for folder in _upwards(f"{groups}/{controllers}", group):
                quota = [kernel_text(f"{folder}/cpu.cfs_{part}_us") for part in ("quota", "period")]
                yield from _cores(quota)


def _upwards(mount: str, group: str) -> Iterator[str]:
    """Yield the folder of `group` and its parents up to the mount.

    The folder of a group of another cgroup namespace does not exist; then the mount itself is the group's.
    """
    parts = [part for part in group.split("/") if part not in {"", ".."}]
    for length in range(len(parts), -1, -1):
        yield "/".join([mount, *parts[:length]])


def _cores(quota: list[str]) -> Iterator[int]:
    """Yield the cores of a quota and its period in microseconds, rounded up; nothing if unlimited."""
    if len(quota) == len(("used", "period")) and all(part.isdecimal() and int(part) for part in quota):
        yield -(-int(quota[0]) // int(quota[1]))


MAIN_DESCRIPTORS = 100
"""Descriptors of the main process: both roots, state, logs, folder cursors, files being copied."""
WORKER_DESCRIPTORS = 4
"""Descriptors of the main process for each worker."""
_LEAST_FOR_CLIENTS = 4
"""A probe, a scraper and a user, even under a very low limit."""
_MOST_FOR_CLIENTS = 300
_PART_FOR_CLIENTS = 4
"""Clients get 1/4 of the descriptors that the main process does not need."""
_NO_LIMIT = 1 << 20


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard limit if the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return the maximum number of open descriptors of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def client_limit() -> int:
    """Return the maximum number of concurrent HTTP clients."""
    share = (descriptor_limit() - MAIN_DESCRIPTORS) // _PART_FOR_CLIENTS
    return max(_LEAST_FOR_CLIENTS, min(_MOST_FOR_CLIENTS, share))


def worker_limit() -> int:
    """Return the number of workers that the descriptors suffice for beside all HTTP clients."""
    return max(0, (descriptor_limit() - MAIN_DESCRIPTORS - client_limit()) // WORKER_DESCRIPTORS)


_CALLS = {
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "loongarch64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}
"""Numbers of ioprio_set and ioprio_get, by machine, for 64-bit programs."""
_THIS_PROCESS = (1, 0)
_CLASS_SHIFT = 13
_LEVELS = {"low": (2 << _CLASS_SHIFT) + 7, "idle": 3 << _CLASS_SHIFT}
"""Best effort with the lowest of its eight priorities, and idle."""
_LIBC = ctypes.CDLL(None, use_errno=True)


def set_io_priority(level: str) -> bool:
    """Set the I/O priority: "low", "idle", or "normal", the priority at the first call. False on failure.

    Running threads keep theirs, so call it before any is started.
    """
    before = _inherited()
    wanted = _LEVELS.get(level, before)
    if before is None or wanted is None:
        return level == "normal"
    return _call(1) == wanted or _call(0, wanted) == 0


@cache
def _inherited() -> int | None:
    """Return the priority with which this process was started, such as by ionice; None if unknown."""
    found = _call(1)
    if found < 0:
        return None
    # Some kernels return a level with "no class", but do not accept one.
    return found if found >> _CLASS_SHIFT else 0


def _call(which: int, *value: int) -> int:
    numbers = _CALLS.get(os.uname().machine) if sys.maxsize > 2**32 else None
    if numbers is None:
        return -1
    return int(_LIBC.syscall(ctypes.c_long(numbers[which]), *map(ctypes.c_long, (*_THIS_PROCESS, *value))))
