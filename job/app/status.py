"""The recorded status of each pair, read without starting a cycle; nothing is created or changed."""

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from job.app.pair_setup import history_of, index_to_read, open_state
from job.config.settings import Config, Pair
from job.core.counts import PairHistory
from job.core.file_systems import NO_MOUNTS, Capabilities, KnownMounts, LeftOutReason
from job.core.outcome import Result
from job.engine.preflight import presence
from job.engine.preflight.identity import is_made_by_next_cycle
from job.engine.preflight.mirror_facts import id_of
from job.errors import Refused
from job.fs import probe
from job.fs.dircursor import closing_fd
from job.fs.free_space import free_bytes
from job.fs.mounts import is_read_only, mounts_below
from job.fs.trusted_path import open_trusted_folder
from job.store import temp_journal
from job.store.memory import Memory
from job.system.sandbox import abi, why_unavailable


class DiskStatus(NamedTuple):
    """One of the mirrors of a pair, which may take turns."""

    mirror_id: str
    adopted: str
    """RFC 3339, UTC."""
    last_success: float
    """In seconds since the epoch, to the hour; 0 for never."""
    is_here: bool


class PairStatus(NamedTuple):
    """One pair by its state folder."""

    name: str
    source: str
    mirror: str
    history: PairHistory
    able: Capabilities | None
    """Capabilities of the mirror's file system; None if not probed, or if the mirror is missing."""
    mounts: list[tuple[bytes, str]]
    """Mounts in the source that `cross_mounts` leaves out: path below it, and type of the file system."""
    mirror_state: str
    """`present`, `read_only`, `missing`, or `first_use` if it is missing and the next cycle makes it."""
    trouble: str
    """Error of reading the history; empty if it was read or does not exist yet."""
    extent: tuple[int, int | None] | None = None
    """Entries in the mirror that are not folders, and their bytes, by the index; None for unknown."""
    free: int | None = None
    """Free bytes on the mirror's disk; None for unknown."""
    disks: tuple[DiskStatus, ...] = ()
    """The adopted mirrors, the one seen last at the end."""
    versions: tuple[int, int] = (0, 0)
    """Files and bytes of the versions in the mirror, by the index."""
    has_brake: bool = True
    """Whether the brake is on."""

    @property
    def result(self) -> Result | None:
        """Result of the last cycle; None before the first.

        `REFUSED` for a read-only mirror after a success: a refusal since then may not have been recorded.
        """
        result = self.history.result
        return Result.REFUSED if self.mirror_state == "read_only" and result is Result.SUCCESS else result


class SandboxStatus(NamedTuple):
    """The kernel's sandbox (Landlock) for the work on a pair, as available in this process."""

    landlock: str
    """The value of `landlock` in the configuration."""
    abi: int | None
    """The kernel's Landlock version; None without a sandbox."""
    missing: str
    """Why the sandbox is unavailable; empty if it is available."""

    @property
    def denied(self) -> tuple[str, ...]:
        """Actions that the sandbox denies, in words."""
        return () if self.missing else _DENIED


_DENIED = ("write anything but the mirror and the state of the pair", "read other data than its source")


def sandbox_status(config: Config) -> SandboxStatus:
    """Check whether the work is sandboxed."""
    if config.landlock == "off":
        return SandboxStatus(config.landlock, None, "landlock is off")
    missing = why_unavailable()
    return SandboxStatus(config.landlock, None if missing else abi(), missing)


def expected_gap(config: Config, durations: list[float]) -> float:
    """Return the longest expected time between two successes in seconds, as in the alert rule.

    `durations` are those of the last cycle of each pair.
    """
    return 2 * (config.longest_interval + sum(durations)) + _GRACE_SECONDS


_GRACE_SECONDS = 900.0


def pair_statuses(config: Config, environ: Mapping[str, str] = os.environ) -> list[PairStatus]:
    """Read the history of every pair; nothing is written, and a missing mirror is no error."""
    memory = Memory.of(config, environ)
    return [_status_of(config, pair, memory) for pair in config.effective_pairs]


def _status_of(config: Config, pair: Pair, memory: Memory) -> PairStatus:
    troubles: list[str] = []
    history = history_of(config, pair, memory, failed=lambda _, error: troubles.append(error)).read()
    able = extent = free = here = None
    versions = 0, 0
    place, known = "present", NO_MOUNTS
    with contextlib.ExitStack() as tidy:
        mirror = _opened(tidy, partial(open_trusted_folder, pair.dest))
        if mirror is not None:
            free = free_bytes(mirror)
            here = id_of(mirror)
            place = "read_only" if is_read_only(mirror) else place
            state = _opened(tidy, partial(open_state, config, pair, mirror))
            if state is not None:
                able = probe.load_capabilities(mirror, state, to_write=False)
                extent, versions = _extent(state)
                known = temp_journal.load_known_mounts(state)
        source = None if pair.cross_mounts else _opened(tidy, partial(open_trusted_folder, pair.source))
        mounts = [] if pair.cross_mounts else _left_out(known, source)
    if presence.is_missing(pair):
        place = "first_use" if is_made_by_next_cycle(pair, memory, config.state_dir) else "missing"
    trouble = "; ".join(troubles)
    disks = tuple(
        DiskStatus(each.mirror_id, each.adopted, each.last_success, each.mirror_id == here)
        for each in memory.mirrors_of(pair)
    )
    return PairStatus(
        pair.name,
        pair.source,
        pair.dest,
        history,
        able,
        mounts,
        place,
        trouble,
        extent,
        free,
        disks,
        versions,
        pair.brake is not None,
    )


def _opened(tidy: contextlib.ExitStack, opening: Callable[[], int]) -> int | None:
    """Open a folder until the end of the block; None if it cannot be opened."""
    try:
        return tidy.enter_context(closing_fd(opening()))
    except OSError:
        return None


def _extent(state: int) -> tuple[tuple[int, int | None] | None, tuple[int, int]]:
    """Return the entries and bytes in the index of an open state folder, None if it cannot be read; so of versions."""
    try:
        with contextlib.closing(index_to_read(f"/proc/self/fd/{state}")) as index:
            return index.extent(), index.version_table.extent()
    except (OSError, Refused):
        return None, (0, 0)


def expected_extent(config: Config, pair: Pair, mirror: int) -> tuple[int, int]:
    """Estimate entries and bytes by the index of an open mirror, for progress; 0 for unknown."""
    with contextlib.ExitStack() as tidy:
        state = _opened(tidy, partial(open_state, config, pair, mirror))
        entries, count = (None if state is None else _extent(state)[0]) or (0, None)
    return entries, count or 0


def _left_out(known: KnownMounts, source: int | None) -> list[tuple[bytes, str]]:
    """Return the mounts that the last cycle left out, and those in the mount table, which has no subvolumes."""
    found = {each.path: each.kind for each in known.left_out if each.why is LeftOutReason.MOUNT}
    return sorted((found | dict(mounts_below(source) if source is not None else ())).items())
