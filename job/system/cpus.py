"""How many cores this process may really use, which in a container is less than the machine has."""

import os
from collections.abc import Iterator

MOST_BY_DEFAULT = 8
"""More processes only pay on fast disks that nobody else needs; who has those writes `workers`."""


def default_workers() -> int:
    """Tell how many processes should share a cycle when nobody said."""
    return min(usable_cores(), MOST_BY_DEFAULT)


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
