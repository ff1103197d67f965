"""The health file of a service: its location, and whether it shows a live service.

It is a memory file among the open descriptors of the service and, for users without access to these, a file in a
private folder. So it is found even with a broken config or an unusable folder, other users cannot take its name, and
the memory file ends with its process. Healthy means that the loop is alive and not overdue, not that the last backup
succeeded: a restart does not free a full disk.

Every health check of a container imports this module, so it imports nothing heavy: no config, no events.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from job.core.outcome import reason_text
from job.core.stored_values import UNUSABLE, seconds_of, text_of
from job.fs.dircursor import closing_fd
from job.fs.mounts import boot_id
from job.fs.private_folders import PrivateFolder, places, read

_LINK = "/memfd:{name} (deleted)"
"""Target of the link in /proc to an open memory file."""
_NEVER_RUN = 0x8
"""MFD_NOEXEC_SEAL, new in Linux 6.3, which may require it (vm.memfd_noexec)."""


class MemoryFile:
    """A memory file of this process, whose content is replaced as a whole."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = -1

    def publish(self, content: bytes) -> None:
        """Replace the content. Raises `OSError`."""
        fresh = _create(self._name)
        try:
            os.fchmod(fresh, 0o600)
            os.write(fresh, content)
            if self._descriptor >= 0:
                os.dup2(fresh, self._descriptor, inheritable=False)  # atomic: readers find the old or the new content
            else:
                self._descriptor, fresh = fresh, -1
        finally:
            if fresh >= 0:
                os.close(fresh)

    def read(self, most_bytes: int) -> bytes | None:
        """Return the content; None before the first `publish`."""
        return os.pread(self._descriptor, most_bytes, 0) if self._descriptor >= 0 else None

    def close(self) -> None:
        """Close the file, which removes it."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _create(name: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _NEVER_RUN)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


def find_memory_files(name: str, most_bytes: int) -> Iterator[bytes]:
    """Yield the content of each memory file of this user with this name; unreadable ones are skipped."""
    with suppress(OSError):
        for process in filter(str.isdecimal, os.listdir("/proc")):
            if _is_ours(process):
                yield from _contents_of(process, _LINK.format(name=name), most_bytes)


def _is_ours(process: str) -> bool:
    """Return whether all user IDs of a process are this user's; other processes may have many descriptors."""
    # The owner of the folder in /proc does not show it: it is root for each process that must not be traced.
    ours = b"\t".join([b"Uid:", *[b"%d" % os.geteuid()] * 4])
    with suppress(OSError), open(f"/proc/{process}/status", "rb") as status:
        return ours in status.read().splitlines()
    return False


def _contents_of(process: str, link: str, most_bytes: int) -> Iterator[bytes]:
    folder = f"/proc/{process}/fd"
    with suppress(OSError):
        for number in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{number}") == link:
                    yield from _read_checked(f"{folder}/{number}", link, most_bytes)


def _read_checked(path: str, link: str, most_bytes: int) -> Iterator[bytes]:
    with closing_fd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)) as descriptor:
        # The number may belong to another file now, and a process may have received a file of another user.
        if os.readlink(f"/proc/self/fd/{descriptor}") == link and os.fstat(descriptor).st_uid == os.geteuid():
            yield os.read(descriptor, most_bytes)


SILENT_SECONDS = 120.0
"""A waiting loop writes a heartbeat every few seconds; two minutes without one mean that it hangs."""
SILENT_IN_CYCLE_SECONDS = 900.0
"""In a cycle one call may take minutes, such as a sync to a slow disk, which a restart would not speed up."""
OVERDUE_SECONDS = 300.0
"""Delay of a cycle after which the loop counts as stuck."""
_MOST_BYTES = 65536


class HealthFile:
    """Locations of the heartbeats of the service with one config, the same for the service and its checkers."""

    def __init__(self, config_path: str, environ: Mapping[str, str]) -> None:
        self.config_path = os.path.abspath(config_path)
        digest = hashlib.sha256(os.fsencode(self.config_path)).hexdigest()[:12]
        self.name = f"truecopy-pulse-{digest}"
        """Name of the memory file."""
        self.file = f"{digest}.json"
        """Name of the file in a private folder."""
        self.places: list[PrivateFolder] = places(environ)
        """Candidates for the private folder."""
        self.memory = MemoryFile(self.name)
        """The service's own memory file."""


class _Beat(NamedTuple):
    """One heartbeat."""

    at: float
    due: float | None
    in_cycle: bool
    boot_id: str
    stalled: float


def check(health_file: HealthFile, now: float) -> tuple[bool, str]:
    """Return whether a service is healthy, and one sentence with the reason. `now` is wall clock time."""
    own = health_file.memory.read(_MOST_BYTES)
    if own is not None:  # inside the service, such as for the HTTP port
        return _judge_latest(_beats([own]), now, "")
    trouble, written = _in_folders(health_file)
    verdict = _judge_latest(_beats(written), now, trouble)
    if not verdict[0] and (found := [*_beats(written), *_beats(find_memory_files(health_file.name, _MOST_BYTES))]):
        verdict = _judge_latest(found, now, trouble)
    if verdict[1]:
        return verdict
    return False, f"not running: no service with the configuration {health_file.config_path} gives a sign of life"


def _judge_latest(beats: list[_Beat], now: float, trouble: str) -> tuple[bool, str]:
    """Return the verdict of the latest heartbeat; without any, unhealthy with `trouble` as the reason."""
    if not beats:
        return False, trouble
    latest = max(beats, key=lambda beat: beat.at)
    if latest.boot_id != boot_id():
        return False, "not running: the last sign of life is from before the machine started"
    if latest.stalled:
        return False, f"hanging: nothing has moved in the cycle for {abs(now - latest.stalled):.0f} seconds"
    # abs(): after the clock was set back, the heartbeat is in the future until the next one.
    late = now - latest.due if latest.due else 0.0
    return _judge_times(abs(now - latest.at), late, in_cycle=latest.in_cycle)


def _judge_times(silent: float, late: float, *, in_cycle: bool) -> tuple[bool, str]:
    if silent > (SILENT_IN_CYCLE_SECONDS if in_cycle else SILENT_SECONDS):
        return False, f"hanging: the last sign of life is {silent:.0f} seconds old"
    if in_cycle:
        return True, "healthy: a cycle is in progress"
    if late > OVERDUE_SECONDS:
        return False, f"hanging: the next cycle is overdue by {late:.0f} seconds"
    return True, f"healthy: the next cycle is due in {max(0.0, -late):.0f} seconds"


def next_due(health_file: HealthFile) -> float | None:
    """Return when a service starts its next cycle; None if unknown."""
    beats = _beats([*_in_folders(health_file)[1], *find_memory_files(health_file.name, _MOST_BYTES)])
    return max(beats, key=lambda beat: beat.at).due if beats else None


def _in_folders(health_file: HealthFile) -> tuple[str, list[bytes]]:
    """Return why a health file in a private folder is unreadable or invalid, and the contents of the others."""
    trouble, found = "", []
    for place in health_file.places:
        try:
            content = read(place, health_file.file, most_bytes=_MOST_BYTES, tighten=True)
        except FileNotFoundError:
            continue
        except OSError as error:
            trouble = f"unknown: the heartbeat cannot be read: {reason_text(error)}"
        except ValueError:
            trouble = f"unknown: {place.path}/{health_file.file} is not a heartbeat"
        else:
            found.append(content)
            if not _beats([content]):
                trouble = f"unknown: {place.path}/{health_file.file} is not a heartbeat"
    return trouble, found


def _beats(contents: Iterable[bytes]) -> list[_Beat]:
    """Parse heartbeats; invalid ones are skipped."""
    found = []
    for content in contents:
        try:
            beat: dict[str, Any] = json.loads(content)
            due, stalled = beat["next_due_timestamp_seconds"], beat["stalled_timestamp_seconds"]
            found.append(
                _Beat(
                    at=seconds_of(beat["beat_timestamp_seconds"]),
                    due=None if due is None else seconds_of(due),
                    in_cycle=beat["cycle_started_timestamp_seconds"] is not None,
                    boot_id=text_of(beat["boot_id"]),
                    stalled=seconds_of(stalled or 0),
                )
            )
        except UNUSABLE:
            continue
    return found
