"""The signs of life of a service, seen from outside: where they are, and whether they speak of a living service.

They are in memory, among what the service has open, and, for those who may not look there, in a private folder. So they
are found although the config is broken at the moment, and whatever the folders are like. Health means "the loop is
alive and not overdue", never "the last backup succeeded": a restart does not mend a full disk.

Every health check of a container imports this file, so it imports nothing heavy: no config, no events.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from job.core.outcome import reason_text
from job.core.stored import UNUSABLE, seconds_of, text_of
from job.fs.memory_file import MemoryFile, find
from job.fs.private_folders import Place, places, read

SILENT_SECONDS = 120.0
"""A waiting loop gives a sign of life every few seconds; two minutes without one mean that it hangs."""
SILENT_IN_CYCLE_SECONDS = 900.0
"""In a cycle one call may rightly take minutes, such as a sync to a slow disk; a restart would not speed it up."""
OVERDUE_SECONDS = 300.0
"""How late a cycle may start before the loop counts as stuck."""

_MOST_BYTES = 65536


class Pulse:
    """Where the signs of life of the service that runs with one config are: the same for it and for its checkers."""

    def __init__(self, config_path: str, environ: Mapping[str, str]) -> None:
        self.config_path = os.path.abspath(config_path)
        digest = hashlib.sha256(os.fsencode(self.config_path)).hexdigest()[:12]
        self.name = f"truecopy-pulse-{digest}"
        """Of the file in memory."""
        self.file = f"{digest}.json"
        """In a private folder."""
        self.places: list[Place] = places(environ)
        """Where that may be."""
        self.memory = MemoryFile(self.name)
        """What the service itself writes to."""


class _Beat(NamedTuple):
    """One sign of life."""

    at: float
    due: float | None
    in_cycle: bool
    boot_id: str
    stalled: float


def boot_id() -> str:
    """Give the kernel's name for this boot; empty where it tells none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def check(pulse: Pulse, now: float) -> tuple[bool, str]:
    """Judge a service: healthy or not, and one sentence why. `now` is the wall clock's."""
    own = pulse.memory.read(_MOST_BYTES)
    if own is not None:  # asked in the service itself, perhaps by anybody over the HTTP port
        return _verdict(_beats([own]), now, "")
    trouble, written = _in_folders(pulse)
    verdict = _verdict(_beats(written), now, trouble)
    if not verdict[0] and (found := [*_beats(written), *_beats(find(pulse.name, _MOST_BYTES))]):
        verdict = _verdict(found, now, trouble)
    if verdict[1]:
        return verdict
    return False, f"not running: no service with the configuration {pulse.config_path} gives a sign of life"


def _verdict(beats: list[_Beat], now: float, trouble: str) -> tuple[bool, str]:
    """Judge by the latest sign of life; without any, give the trouble that there was."""
    if not beats:
        return False, trouble
    latest = max(beats, key=lambda beat: beat.at)
    if latest.boot_id != boot_id():
        return False, "not running: the last sign of life is from before the machine started"
    if latest.stalled:
        return False, f"hanging: nothing has moved in the cycle for {abs(now - latest.stalled):.0f} seconds"
    # abs(): a clock that was set back makes the sign of life lie in the future until the next one.
    late = now - latest.due if latest.due else 0.0
    return _judged(abs(now - latest.at), late, in_cycle=latest.in_cycle)


def _judged(silent: float, late: float, *, in_cycle: bool) -> tuple[bool, str]:
    if silent > (SILENT_IN_CYCLE_SECONDS if in_cycle else SILENT_SECONDS):
        return False, f"hanging: the last sign of life is {silent:.0f} seconds old"
    if in_cycle:
        return True, "healthy: a cycle is in progress"
    if late > OVERDUE_SECONDS:
        return False, f"hanging: the next cycle is overdue by {late:.0f} seconds"
    return True, f"healthy: the next cycle is due in {max(0.0, -late):.0f} seconds"


def next_due(pulse: Pulse) -> float | None:
    """Tell when a service starts its next cycle; None if that is not known."""
    beats = _beats([*_in_folders(pulse)[1], *find(pulse.name, _MOST_BYTES)])
    return max(beats, key=lambda beat: beat.at).due if beats else None


def _in_folders(pulse: Pulse) -> tuple[str, list[bytes]]:
    """Read what is in private folders; also say what cannot be read there, or is no sign of life."""
    trouble, found = "", []
    for place in pulse.places:
        try:
            content = read(place, pulse.file, most_bytes=_MOST_BYTES, mend=True)
        except FileNotFoundError:
            continue
        except OSError as error:
            trouble = f"unknown: the heartbeat cannot be read: {reason_text(error)}"
        except ValueError:
            trouble = f"unknown: {place.path}/{pulse.file} is not a heartbeat"
        else:
            found.append(content)
            if not _beats([content]):
                trouble = f"unknown: {place.path}/{pulse.file} is not a heartbeat"
    return trouble, found


def _beats(contents: Iterable[bytes]) -> list[_Beat]:
    """Read signs of life; what is none is left out."""
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
