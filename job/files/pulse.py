"""The heartbeat file seen from outside: where it lies and whether it speaks of a living service.

It lies in a folder of its own, below the folder for temporary files, so that it is found although the config is broken
at the moment and although every other folder is mounted read-only. Health means "the loop is alive and not overdue",
never "the last backup succeeded": a restart does not mend a full disk.

Every health check of a container imports this file, so it imports nothing heavy: no config, no events.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from typing import Any

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
    # Not tempfile.gettempdir(): it tries folders by writing to them, so two processes need not agree.
    return os.path.join(environ.get("TMPDIR") or "/tmp", f"truecopy-{os.geteuid()}", f"{digest[:12]}.json")  # noqa: S108


def open_folder(path: str) -> int:
    """Open the folder of the heartbeat file `path`, and keep others out of it.

    Raises PermissionError when it belongs to somebody else: anybody may make any name where temporary files lie.
    """
    folder = os.path.dirname(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "Folder belongs to somebody else, remove it", folder)
    if status.st_mode & 0o077:
        os.fchmod(descriptor, 0o700)
    return descriptor


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
        silent = abs(now - float(beat["beat_timestamp_seconds"]))
        due = float(beat["next_due_timestamp_seconds"] or now)
        in_cycle = beat["cycle_started_timestamp_seconds"] is not None
        booted = str(beat["boot_id"])
    except FileNotFoundError:
        return False, f"not running: there is no heartbeat at {path}"
    except OSError as error:
        return False, f"unknown: the heartbeat cannot be read: {error}"
    except (ValueError, KeyError, TypeError):
        return False, f"unknown: {path} is not a heartbeat"
    if booted != boot_id():
        return False, "not running: the last sign of life is from before the machine started"
    # abs(): a clock that was set back makes the sign of life lie in the future until the next one.
    if silent > (SILENT_IN_CYCLE_SECONDS if in_cycle else SILENT_SECONDS):
        return False, f"hanging: the last sign of life is {silent:.0f} seconds old"
    if in_cycle:
        return True, "healthy: a cycle is in progress"
    if now - due > OVERDUE_SECONDS:
        return False, f"hanging: the next cycle is overdue by {now - due:.0f} seconds"
    return True, f"healthy: the next cycle is due in {max(0.0, due - now):.0f} seconds"


def next_due(path: str) -> float | None:
    """Tell when the service behind the heartbeat file starts its next cycle; None if that is not known."""
    try:
        return float(_read(path)["next_due_timestamp_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: str) -> dict[str, Any]:
    folder = open_folder(path)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(os.path.basename(path), flags, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise ValueError("not a file of ours")
        content = json.loads(os.read(descriptor, _MOST_BYTES))
    finally:
        os.close(descriptor)
    if not isinstance(content, dict):
        raise TypeError("not a table")
    return content
