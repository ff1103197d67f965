"""Every fact Truecopy tells, as frozen values. Logs, metrics, progress and the status are listeners on these.

`name` is the public event name in the logs; `level` the log level, None for events that are never logged.
Units live in field names. Paths are bytes below the root of the pair; the root itself is empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from job.core.entry import Kind
from job.core.outcome import Drift, Failure, Refusal, Result, Skip
from job.core.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact in the past tense."""

    name: ClassVar[str] = "event"
    level: ClassVar[str | None] = "info"


Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEvent(Event):
    """A fact about one pair in one cycle."""

    cycle_id: str
    pair: str


# The service ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted(Event):
    """The service began its loop."""

    name: ClassVar[str] = "service_started"

    version: str
    config: str
    pairs: int
    address: str
    """Where metrics are served, as `host:port`; empty when the port is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopped(Event):
    """The service ended its loop."""

    name: ClassVar[str] = "service_stopped"

    reason: str
    """The signal's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDisabled(Event):
    """`run_enabled` is not "Y": nothing was done."""

    name: ClassVar[str] = "run_disabled"

    config: str
    run_enabled: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded(Event):
    """The config file changed and the new one is in force."""

    name: ClassVar[str] = "config_reloaded"

    config: str
    pairs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRejected(Event):
    """The config file cannot be used; the last good one stays in force."""

    name: ClassVar[str] = "config_rejected"
    level: ClassVar[str | None] = "error"

    config: str
    error: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCycleDue(Event):
    """The next cycle has a time."""

    name: ClassVar[str] = "next_cycle_due"
    level: ClassVar[str | None] = "debug"

    due_timestamp_seconds: float
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceWaited(Event):
    """The loop is alive and waits for the next cycle: told every few seconds as a sign of life."""

    name: ClassVar[str] = "service_waited"
    level: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleCrashed(Event):
    """A cycle ended by an error nobody expected, which is a bug; the service goes on after the usual wait."""

    name: ClassVar[str] = "cycle_crashed"
    level: ClassVar[str | None] = "error"

    error: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFailed(Event):
    """A log file, the textfile, the Pushgateway or another listener failed; the cycle goes on."""

    name: ClassVar[str] = "output_failed"
    level: ClassVar[str | None] = "error"

    output: str
    """Which one; a value of `core.series.OUTPUTS`."""
    error: str


# Cycles and pairs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleStarted(Event):
    """A pass over all pairs began."""

    name: ClassVar[str] = "cycle_started"

    cycle_id: str
    pairs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleFinished(Event):
    """A pass over all pairs ended; `tally` sums its pairs."""

    name: ClassVar[str] = "cycle_finished"

    cycle_id: str
    result: Result
    tally: Tally
    duration_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStarted(PairEvent):
    """The gate was passed; looking begins."""

    name: ClassVar[str] = "pair_started"

    source: str
    mirror: str
    audit: bool
    """Whether every mirror file is held against the index in this cycle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRefused(PairEvent):
    """A guard refused the pair; nothing was written."""

    name: ClassVar[str] = "pair_refused"
    level: ClassVar[str | None] = "error"

    reason: Refusal
    error: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBusy(PairEvent):
    """Another instance works on this mirror; nothing was written."""

    name: ClassVar[str] = "pair_busy"
    level: ClassVar[str | None] = "warning"

    error: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFailed(PairEvent):
    """The pair had to be given up in mid-run; what was committed before stays valid."""

    name: ClassVar[str] = "pair_failed"
    level: ClassVar[str | None] = "error"

    error: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFinished(PairEvent):
    """The pair's part of the cycle ended, in whatever way."""

    name: ClassVar[str] = "pair_finished"

    result: Result
    tally: Tally
    duration_seconds: float
    finished_timestamp_seconds: float
    """When, in seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRebuilt(PairEvent):
    """The index was missing or unusable: contents are compared instead of believed."""

    name: ClassVar[str] = "index_rebuilt"
    level: ClassVar[str | None] = "warning"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataNotKept(PairEvent):
    """The mirror cannot hold one kind of metadata; told once a cycle, with the first path it was met at."""

    name: ClassVar[str] = "metadata_not_kept"
    level: ClassVar[str | None] = "warning"

    what: str
    """`owner`, `mode`, `times` or `xattr`."""
    path: bytes
    error: str


# Entries -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCopied(PairEvent):
    """A file or symlink is in the mirror, synced to the disk and in the index."""

    name: ClassVar[str] = "file_copied"

    path: bytes
    kind: Kind
    bytes: int
    checksum: str
    """`algorithm:hex` of the content; empty for a symlink."""
    permissions: str
    reason: str
    duration_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUpdated(PairEvent):
    """Metadata was mended; the content was right and was not copied."""

    name: ClassVar[str] = "file_updated"

    path: bytes
    kind: Kind
    permissions: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSkipped(PairEvent):
    """An entry was passed over."""

    name: ClassVar[str] = "file_skipped"
    level: ClassVar[str | None] = "debug"

    path: bytes
    reason: Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFailed(PairEvent):
    """An entry could not be mirrored; the cycle goes on without it and ends partial."""

    name: ClassVar[str] = "file_failed"
    level: ClassVar[str | None] = "error"

    path: bytes
    kind: Kind
    reason: Failure
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFound(PairEvent):
    """Somebody else changed the mirror: an entry is not as Truecopy left it. It is healed from the source."""

    name: ClassVar[str] = "drift_found"
    level: ClassVar[str | None] = "warning"

    path: bytes
    kind: Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedByFolder(PairEvent):
    """The source has a folder where it had a file, link or special file; the mirror's old entry gave way to it."""

    name: ClassVar[str] = "replaced_by_folder"
    level: ClassVar[str | None] = "warning"

    path: bytes
    kind: Kind
    """What the mirror had there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldersUnchanged(PairEvent):
    """So many entries lie in folders whose fingerprint did not move: skipped without a look at each."""

    name: ClassVar[str] = "folders_unchanged"
    level: ClassVar[str | None] = "debug"

    folders: int
    entries: int


# Counting and progress: never logged, many a second ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCommitted(PairEvent):
    """Work became durable: `tally` is what this batch adds. The sum over a pair is `PairFinished.tally`."""

    name: ClassVar[str] = "batch_committed"
    level: ClassVar[str | None] = None

    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed(PairEvent):
    """Work went on. `phase` is `look` or `act`; totals are 0 while unknown."""

    name: ClassVar[str] = "progressed"
    level: ClassVar[str | None] = None

    phase: str
    entries: int
    entries_total: int = 0
    bytes: int = 0
    bytes_total: int = 0


def every_event() -> list[type[Event]]:
    """List every event that can be told, in the order of this file: for the docs, the logs and their tests."""
    kinds = [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Event)]
    return [kind for kind in kinds if kind not in (Event, PairEvent)]
