"""Every fact Truecopy tells, as frozen values. Logs, metrics, progress and the status are listeners on these.

`name` is the public event name in the logs; `level` the log level, None for events that are never logged.
Units live in field names. Paths are bytes below the root of the pair; the root itself is empty.
"""

from job.core import pair_events
from job.core.event import EntryEvent, Event, Listener, PairEvent
from job.core.outcome import Result
from job.core.pair_events import (
    BatchCommitted,
    CrewAwaited,
    CycleResumed,
    CycleStalled,
    DriftFound,
    FileCopied,
    FileFailed,
    FileSkipped,
    FileUpdated,
    FolderRetired,
    FoldersUnchanged,
    HistoryBegunAnew,
    IndexRebuilt,
    LeaseTakenOver,
    MetadataNotKept,
    MirrorMade,
    MirrorNotRemembered,
    MirrorProbed,
    MountSkipped,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
    ReplacedByFolder,
    WorkerLost,
)
from job.core.tally import Tally

__all__ = [
    "BatchCommitted",
    "ConfigRejected",
    "ConfigReloaded",
    "CrewAwaited",
    "CycleCrashed",
    "CycleFinished",
    "CycleResumed",
    "CycleStalled",
    "CycleStarted",
    "DriftFound",
    "EntryEvent",
    "Event",
    "FileCopied",
    "FileFailed",
    "FileSkipped",
    "FileUpdated",
    "FolderRetired",
    "FoldersUnchanged",
    "HistoryBegunAnew",
    "IndexRebuilt",
    "LeaseTakenOver",
    "Listener",
    "MetadataNotKept",
    "MirrorMade",
    "MirrorNotRemembered",
    "MirrorProbed",
    "MountSkipped",
    "NextCycleDue",
    "OutputFailed",
    "PairBusy",
    "PairEvent",
    "PairFailed",
    "PairFinished",
    "PairRefused",
    "PairStarted",
    "PriorityNotSet",
    "Progressed",
    "ReplacedByFolder",
    "RunDisabled",
    "ServiceStarted",
    "ServiceStopped",
    "ServiceWaited",
    "WallMissing",
    "WorkerLost",
    "every_event",
]


# The service ---------------------------------------------------------------------------------------------------------


class ServiceStarted(Event):
    """The service began its loop."""

    name = "service_started"

    version: str
    config: str
    pairs: int
    address: str
    """Where metrics are served, as `host:port`; empty when the port is off."""


class ServiceStopped(Event):
    """The service ended its loop."""

    name = "service_stopped"

    reason: str
    """The signal's name."""


class RunDisabled(Event):
    """`run_enabled` is not "Y": nothing was done."""

    name = "run_disabled"

    config: str
    run_enabled: str


class PriorityNotSet(Event):
    """The system does not let this process give way to others at the disks: it works on as before."""

    name = "priority_not_set"
    level = "warning"

    io_priority: str


class WallMissing(Event):
    """Landlock cannot be used, so that only the program itself keeps to its folders; not told where it is off."""

    name = "wall_missing"

    reason: str


class ConfigReloaded(Event):
    """The config file changed and the new one is in force."""

    name = "config_reloaded"

    config: str
    pairs: tuple[str, ...]


class ConfigRejected(Event):
    """The config file cannot be used; the last good one stays in force."""

    name = "config_rejected"
    level = "error"

    config: str
    error: str
    faults: tuple[str, ...]


class NextCycleDue(Event):
    """The next cycle has a time."""

    name = "next_cycle_due"
    level = "debug"

    due_timestamp_seconds: float
    wait_seconds: float


class ServiceWaited(Event):
    """The loop is alive and waits for the next cycle: told every few seconds as a sign of life."""

    name = "service_waited"
    level = None


class CycleCrashed(Event):
    """A cycle ended by an error nobody expected, which is a bug; the service goes on after the usual wait."""

    name = "cycle_crashed"
    level = "error"

    error: str
    traceback: tuple[str, ...]
    """Its lines."""


class OutputFailed(Event):
    """A log file, the textfile, the Pushgateway or another listener failed; the cycle goes on."""

    name = "output_failed"
    level = "error"

    output: str
    """Which one; a value of `core.series.OUTPUTS`."""
    error: str


# Cycles and pairs ----------------------------------------------------------------------------------------------------


class CycleStarted(Event):
    """A pass over all pairs began."""

    name = "cycle_started"

    cycle_id: str
    pairs: tuple[str, ...]


class CycleFinished(Event):
    """A pass over all pairs ended; `tally` sums its pairs."""

    name = "cycle_finished"

    cycle_id: str
    result: Result
    tally: Tally
    duration_seconds: float


def every_event() -> list[type[Event]]:
    """List every event that can be told, in the order of the files: for the docs, the logs and their tests."""
    told = [kind for kind in globals().values() if isinstance(kind, type) and kind.__module__ == __name__]
    told += [kind for kind in vars(pair_events).values() if getattr(kind, "__module__", "") == pair_events.__name__]
    return told
