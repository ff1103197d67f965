"""Who works on a mirror, as a small record in a file: what another instance is told that finds it taken."""

import json
import os
import time
from typing import Any

from job.core.stored import UNUSABLE, number_of, seconds_of
from job.health import boot_id

MOST_BYTES = 1000


def owner(started: float) -> dict[str, str | int | float]:
    """Describe this process, at work since `started`."""
    return {
        "host": os.uname().nodename,
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "pid_namespace": _pid_namespace(),
        "since_timestamp_seconds": started,
    }


def _pid_namespace() -> str:
    """Name what process numbers mean anything in: another one for each container."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def read(record: bytes) -> dict[str, Any]:
    """Read a record; empty if it is none, whatever it is."""
    try:
        found = json.loads(record)
    except UNUSABLE:
        return {}
    return found if isinstance(found, dict) else {}


def described(record: bytes) -> str:
    """Say who is meant, to be put behind a sentence; empty for a record that does not tell."""
    found = read(record)
    try:
        who = f"process {number_of(found['pid'])} on {str(found['host'])[:200]!r}"
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds_of(found["since_timestamp_seconds"])))
    except UNUSABLE:
        return ""
    return f" ({who}{_whereabouts(found)}, since {since})"


def _whereabouts(found: dict[str, Any]) -> str:
    if found.get("boot_id") != boot_id():
        return ", on another machine" if found.get("boot_id") else ""
    return "" if found.get("pid_namespace") == _pid_namespace() else ", in another container of this machine"
