"""Every fact Truecopy tells, as frozen values. Logs, metrics, progress and the status are listeners on these.

`name` is the public event name in the logs; `level` the log level, None for events that are never logged.
Units live in field names. Paths are bytes below the root of the pair; the root itself is empty.
"""

from job.core.counts import Tally
from job.core.outcome import Result
from job.events import pair
from job.events.base import EntryEvent, Event, Listener, PairEvent
from job.events.pair import (
    BatchCommitted,
    CycleResumed,
    CycleStalled,
    DriftFound,
    EntrySetAside,
    FileCopied,
    FileFailed,
    FilesCopied,
    FileSkipped,
    FileUpdated,
    FolderRetired,
    FoldersUnchanged,
    HistoryReset,
    IndexRebuilt,
    LeaseTakenOver,
    LogLinesSuppressed,
    MetadataNotKept,
    MirrorCreated,
    MirrorNotRecorded,
    MirrorProbed,
    MountForgotten,
    MountMissing,
    MountSkipped,
    OwnFilesSkipped,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
    PseudoFilesystemSkipped,
    ReplacedByFolder,
    StateFolderLost,
    WorkerLost,
    WorkersAwaited,
)

__all__ = [
    "BatchCommitted",
    "BusySkipped",
    "ConfigInsecure",
    "ConfigRejected",
    "ConfigReloaded",
    "CycleCrashed",
    "CycleFinished",
    "CycleResumed",
    "CycleStalled",
    "CycleStarted",
    "DriftFound",
    "EntryEvent",
    "EntrySetAside",
    "Event",
    "FileCopied",
    "FileFailed",
    "FileSkipped",
    "FileUpdated",
    "FilesCopied",
    "FolderRetired",
    "FoldersUnchanged",
    "HistoryReset",
    "IdleCyclesCounted",
    "IndexRebuilt",
    "LeaseTakenOver",
    "Listener",
    "LogLinesSuppressed",
    "MetadataNotKept",
    "MirrorCreated",
    "MirrorNotRecorded",
    "MirrorProbed",
    "MountForgotten",
    "MountMissing",
    "MountSkipped",
    "NextCycleDue",
    "OutputFailed",
    "OwnFilesSkipped",
    "PairBusy",
    "PairEvent",
    "PairFailed",
    "PairFinished",
    "PairRefused",
    "PairStarted",
    "PortChanged",
    "PortNotChanged",
    "PortNotOpened",
    "PriorityNotSet",
    "PrivateFolderSkipped",
    "Progressed",
    "PseudoFilesystemSkipped",
    "ReplacedByFolder",
    "RunDisabled",
    "SandboxUnavailable",
    "ServiceStarted",
    "ServiceStopped",
    "ServiceWaited",
    "SignalReceived",
    "StateFolderLost",
    "WorkerLost",
    "WorkersAwaited",
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
    """Where metrics are served, as `host:port`; empty when they are not."""
    metrics: str
    """`served`, `off` where the configuration says so, or `unavailable` where the port cannot be had."""


class ServiceStopped(Event):
    """The service ended its loop."""

    name = "service_stopped"

    reason: str
    """The signal's name."""


class SignalReceived(Event):
    """A signal came that does not end the run: SIGHUP or SIGUSR1 to the service, or one without a meaning."""

    name = "signal_received"

    signal: str
    """Its name, such as `SIGHUP`."""
    effect: str


class RunDisabled(Event):
    """`run_enabled` is not "Y": nothing was done."""

    name = "run_disabled"

    config: str
    run_enabled: str


class BusySkipped(Event):
    """A one-shot run left out what another instance works on, and ends with 0 because of --skip-if-busy."""

    name = "busy_skipped"


class PriorityNotSet(Event):
    """The system does not let this process give way to others at the disks: it works on as before."""

    name = "priority_not_set"
    level = "warning"

    io_priority: str


class PrivateFolderSkipped(Event):
    """Something else has the name of a private folder, or it is not ours; the next place is taken instead."""

    name = "private_folder_skipped"
    level = "warning"

    folder: str
    error: str


class SandboxUnavailable(Event):
    """Landlock cannot be used, so that only the program itself keeps to its folders; not told where it is off."""

    name = "sandbox_unavailable"

    reason: str


class ConfigReloaded(Event):
    """The config file changed and the new one is in force."""

    name = "config_reloaded"

    config: str
    pairs: tuple[str, ...]


class PortChanged(Event):
    """Metrics are served at another place: the configuration changed, or a port could be had at last."""

    name = "port_changed"

    address: str
    """Where they are served now, as `host:port`; `off` for nowhere."""
    before: str
    """Where they were served."""


class PortNotOpened(Event):
    """The metrics port cannot be opened. Backups go on; the port is tried again every 30 s and after each cycle."""

    name = "port_not_opened"
    level = "warning"

    address: str
    """What is asked for, as `host:port`."""
    error: str
    hint: str
    """How to find the program that holds the port, and what to do."""


class PortNotChanged(Event):
    """The port of the changed configuration cannot be opened; it is tried again every 30 s and after each cycle."""

    name = "port_not_changed"
    level = "warning"

    address: str
    """What is asked for, as `host:port`."""
    served: str
    """Where metrics go on being served."""
    error: str
    hint: str


class ConfigInsecure(Event):
    """Others may change what the configuration is made of, or read a secret in it; told when it comes into force."""

    name = "config_insecure"
    level = "warning"

    config: str
    error: str
    """Who may do what, and the command that ends it."""


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


class IdleCyclesCounted(Event):
    """So many cycles before the next line changed nothing and had nothing to report; see `idle_log_interval`."""

    name = "idle_cycles_counted"

    cycles: int
    duration_seconds: float
    """Since the first of them began."""


def every_event() -> list[type[Event]]:
    """List every event that can be told, in the order of the files: for the docs, the logs and their tests."""
    told = [kind for kind in globals().values() if isinstance(kind, type) and kind.__module__ == __name__]
    told += [kind for kind in vars(pair).values() if getattr(kind, "__module__", "") == pair.__name__]
    return told
