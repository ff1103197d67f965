"""Errors that are shown to the user, and the exit codes of the commands.

The message of a `JobError` is one sentence with its numbers, its hint the next step. Only the command line prints them.
An exception of another kind is a bug and keeps its traceback.
"""

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes, a public contract (README.md). Only `OK` moves `last_success`."""

    OK = 0
    """Everything in scope is copied and checked."""
    FAILED = 1
    """The work could not be done."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    PARTIAL = 3
    """Some entries failed; the rest is done."""
    REFUSED = 4
    """A guard refused or held the cycle."""
    BUSY = 75
    """Another instance holds the lock."""
    INTERRUPTED = 130
    """Stopped by SIGINT."""
    TERMINATED = 143
    """Stopped by SIGTERM, or by another signal that ends a run, such as SIGHUP."""


class JobError(Exception):
    """An error for the user: a message with place and numbers, and a hint with the next step."""

    exit: ClassVar[Exit] = Exit.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(JobError):
    """The configuration cannot be used; `faults` has all faults, one line each."""

    exit = Exit.USAGE

    def __init__(self, message: str, *, hint: str = "", faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class Refused(JobError):
    """A guard refused the pair before it changed an entry of the mirror. `reason` is a `core.outcome.Refusal` value."""

    exit = Exit.REFUSED

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Busy(JobError):
    """Another instance holds the lock of a mirror."""

    exit = Exit.BUSY


class Stopped(JobError):
    """The run was asked to stop; work in progress is finished or dropped."""

    exit = Exit.TERMINATED


class IndexUnusable(JobError):
    """The index is damaged, of another program or of a newer version (invariant 13)."""


class ChangedWhileReadError(Exception):
    """A source file kept changing, or was replaced, while it was read. It fails the entry; its message is not shown."""
