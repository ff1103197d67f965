"""Processes seen from outside, by /proc: who works for whom, on what, and in what state."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """List the processes that a process started and that are still there, dead or alive; threads and all."""
    found = []
    with suppress(OSError):  # it is gone
        for task in os.listdir(f"/proc/{pid}/task"):
            found += [int(each) for each in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def workers_of(pid: int) -> list[int]:
    """List the worker processes of a job; a helper of Python's own that fresh interpreters have is none."""
    return [child for child in children(pid) if "resource_tracker" not in command_of(child)]


def command_of(pid: int) -> str:
    """Give the command line of a process; empty for one that is gone or dead."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    """Give the letter of a process's state, such as `Z` or `T`; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and not dead."""
    return state_of(pid) not in {"", "Z", "X"}


def open_files(pid: int) -> Iterator[str]:
    """Give the paths of what a process holds open."""
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{number}")


def who_writes(pid: int, text: str) -> int | None:
    """Find the worker of a job that has a file open whose path holds a text."""
    for worker in workers_of(pid):
        if any(text in path for path in open_files(worker)):
            return worker
    return None
