"""The heartbeat file seen from outside: where it lies and whether it speaks of a living service.

It lies in the private folder, so that it is found although the config is broken at the moment. Health means "the loop
is alive and not overdue", never "the last backup succeeded": a restart does not mend a full disk.

Every health check of a container imports this file, so it imports nothing heavy: no config, no events.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from job.core.outcome import reason_text
from job.files.private import private_path, read_private

SILENT_SECONDS = 120.0
"""A waiting loop gives a sign of life every few seconds; two minutes without one mean that it hangs."""
SILENT_IN_CYCLE_SECONDS = 900.0
"""In a cycle one call may rightly take minutes, such as a sync to a slow disk; a restart would not speed it up."""
OVERDUE_SECONDS = 300.0
"""How late a cycle may start before the loop counts as stuck."""

_MOST_BYTES = 65536


def heartbeat_path(config_path: str, environ: Mapping[str, str]) -> str:
    """Name the heartbeat file of the service that runs with this config: the same for the service and its checker."""
    digest = hashlib.sha256(os.fsencode(os.path.abspath(config_path))).hexdigest()
    return private_path(f"{digest[:12]}.json", environ)


def boot_id() -> str:
    """Give the kernel's name for this boot; empty where it tells none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def check(path: str, now: float) -> tuple[bool, str]:
    """Judge the service behind the heartbeat file: healthy or not, and one sentence why. `now` is the wall clock's."""
    try:
        beat = _read(path)
        # abs(): a clock that was set back makes the sign of life lie in the future until the next one.
        silent = abs(now - float(beat["beat_timestamp_seconds"]))
        due = float(beat["next_due_timestamp_seconds"] or now)
        in_cycle = beat["cycle_started_timestamp_seconds"] is not None
        booted = str(beat["boot_id"])
        stalled = float(beat["stalled_timestamp_seconds"] or 0)
    except FileNotFoundError:
        return False, f"not running: there is no heartbeat at {path}"
    except OSError as error:
        return False, f"unknown: the heartbeat cannot be read: {reason_text(error)}"
    except (ValueError, KeyError, TypeError):
        return False, f"unknown: {path} is not a heartbeat"
    if booted != boot_id():
        return False, "not running: the last sign of life is from before the machine started"
    if stalled:
        return False, f"hanging: nothing has moved in the cycle for {abs(now - stalled):.0f} seconds"
    return _judged(silent, now - due, in_cycle=in_cycle)


def _judged(silent: float, late: float, *, in_cycle: bool) -> tuple[bool, str]:
    if silent > (SILENT_IN_CYCLE_SECONDS if in_cycle else SILENT_SECONDS):
        return False, f"hanging: the last sign of life is {silent:.0f} seconds old"
    if in_cycle:
        return True, "healthy: a cycle is in progress"
    if late > OVERDUE_SECONDS:
        return False, f"hanging: the next cycle is overdue by {late:.0f} seconds"
    return True, f"healthy: the next cycle is due in {max(0.0, -late):.0f} seconds"


def next_due(path: str) -> float | None:
    """Tell when the service behind the heartbeat file starts its next cycle; None if that is not known."""
    try:
        return float(_read(path)["next_due_timestamp_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: str) -> dict[str, Any]:
    content = json.loads(read_private(path, most_bytes=_MOST_BYTES))
    if not isinstance(content, dict):
        raise TypeError("not a table")
    return content
