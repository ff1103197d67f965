"""What is known of each pair without starting anything: for `truecopy status`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from job.app.pair_setup import history_of, known_capabilities, known_extent, mounts_of
from job.config.settings import Config, Pair
from job.core.capabilities import Capabilities
from job.core.counts import PairHistory
from job.core.mounts import NO_MOUNTS, LeftOutReason
from job.core.outcome import Result
from job.engine.preflight import presence
from job.engine.preflight.guards import is_read_only
from job.fs.free_space import free_bytes
from job.fs.mounts import mounts_below
from job.fs.trusted_path import open_trusted_folder
from job.store.pair_records import PairRecords
from job.system.sandbox import abi, why_unavailable

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class PairStatus:
    """One pair as its state folder tells it."""

    name: str
    source: str
    mirror: str
    history: PairHistory
    able: Capabilities | None
    """What the mirror's file system can hold, if it was found out and the mirror is there."""
    mounts: list[tuple[bytes, str]]
    """What `cross_mounts` leaves out of the source: path below it, and the type of the file system."""
    mirror_state: str
    """`present`, `read_only`, `missing`, or `first_use` if it is missing and the next cycle makes it."""
    trouble: str
    """Why the history could not be read; empty where it could, or where there is none yet."""
    extent: tuple[int, int | None] | None = None
    """Entries in the mirror that are not folders, and their bytes, as the index knows them; None for unknown."""
    free: int | None = None
    """Bytes that are free on the mirror's disk; None if that is not known."""

    @property
    def result(self) -> Result | None:
        """How the last cycle ended, as far as is known; None before the first.

        `REFUSED` on a read-only mirror after a success: a refusal since may have found no place to be noted.
        """
        result = self.history.result
        return Result.REFUSED if self.mirror_state == "read_only" and result is Result.SUCCESS else result


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """The kernel's sandbox (Landlock) for the work on a pair, as available in this process."""

    landlock: str
    """The value of `landlock` in the configuration."""
    abi: int | None
    """The kernel's Landlock version; None without a sandbox."""
    missing: str
    """Why there is no sandbox; empty if there is one."""

    @property
    def denied(self) -> tuple[str, ...]:
        """What sandboxed work cannot do, in words."""
        return () if self.missing else _DENIED


_DENIED = ("write anything but the mirror and the state of the pair", "read other data than its source")


def sandbox_status(config: Config) -> SandboxStatus:
    """Check whether the work is sandboxed."""
    if config.landlock == "off":
        return SandboxStatus(config.landlock, None, "landlock is off")
    missing = why_unavailable()
    return SandboxStatus(config.landlock, None if missing else abi(), missing)


def expected_gap(config: Config, durations: list[float]) -> float:
    """Give the longest time between two successes that is no reason to worry, in seconds, as the alert rule has it.

    `durations` are those of the last cycle of each pair.
    """
    return 2 * (config.longest_interval + sum(durations)) + _GRACE_SECONDS


_GRACE_SECONDS = 900.0


def pair_statuses(config: Config, environ: Mapping[str, str] = os.environ) -> list[PairStatus]:
    """Read the history of every pair; nothing is written, and a missing mirror is no error."""
    found = []
    records = PairRecords.of(config, environ)
    for pair in config.effective_pairs:
        troubles = _Troubles()
        history = history_of(config, pair, records, failed=troubles).read()
        able = _opened(pair.dest, partial(known_capabilities, config, pair))
        mounts = [] if pair.cross_mounts else _left_out(config, pair)
        trouble = "; ".join(troubles.reported)
        state = _mirror_state(config, pair, records)
        extent = _opened(pair.dest, partial(known_extent, config, pair))
        free = _opened(pair.dest, free_bytes)
        found.append(PairStatus(pair.name, pair.source, pair.dest, history, able, mounts, state, trouble, extent, free))
    return found


def _left_out(config: Config, pair: Pair) -> list[tuple[bytes, str]]:
    """Give what the last cycle left out; before the first one, what the mount table says, which has no subvolumes."""
    known = _opened(pair.dest, partial(mounts_of, config, pair)) or NO_MOUNTS
    found = dict(_opened(pair.source, mounts_below) or [])
    return sorted(
        ({each.path: each.kind for each in known.left_out if each.why is LeftOutReason.MOUNT} | found).items()
    )


def _mirror_state(config: Config, pair: Pair, records: PairRecords) -> str:
    if not presence.is_missing(pair):
        return "read_only" if _opened(pair.dest, is_read_only) else "present"
    return "first_use" if presence.will_be_created(pair, config.state_dir, records) else "missing"


def _opened(path: str, ask: Callable[[int], _Answer]) -> _Answer | None:
    """Ask something of a folder; None if it is not there."""
    try:
        folder = open_trusted_folder(path)
    except OSError:
        return None
    try:
        return ask(folder)
    finally:
        os.close(folder)


class _Troubles:
    def __init__(self) -> None:
        self.reported: list[str] = []

    def __call__(self, output: str, error: str) -> None:
        del output
        self.reported.append(error)
