"""The errors Truecopy shows to people, and the exit codes they end with.

Every `JobError` is one sentence with the numbers in it, plus a hint that names the next step. Only the command
line prints them. Anything that is not a `JobError` is a bug and keeps its traceback.
"""

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes: a public contract (design 2.1). Only `OK` moves `last_success`."""

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
    """Something a person has to know: what, where, with numbers, and what to do next."""

    exit: ClassVar[Exit] = Exit.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(JobError):
    """The configuration cannot be used; `faults` holds every fault found, one line each."""

    exit = Exit.USAGE

    def __init__(self, message: str, *, hint: str = "", faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class Refused(JobError):
    """A guard refused the pair before any write. `reason` is a `core.outcome.Refusal` value."""

    exit = Exit.REFUSED

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Busy(JobError):
    """Another instance holds the lock of a mirror."""

    exit = Exit.BUSY


class Stopped(JobError):
    """The run was asked to stop; what was in flight is finished or dropped."""

    exit = Exit.TERMINATED


class IndexUnusable(JobError):
    """The index is torn, foreign or from a newer version. It is never guessed at (invariant 13)."""


class ChangedWhileReadError(Exception):
    """A source file kept changing, or was swapped, while it was read. A matter of one entry; never shown as it is."""
