"""Events of the service, its configuration and its cycles."""

from job.core.counts import Tally
from job.core.outcome import Result
from job.events.base import Event

# The service ---------------------------------------------------------------------------------------------------------


class ServiceStarted(Event):
    """The service entered its loop."""

    version: str
    config: str
    pairs: int
    address: str
    """Address of the metrics, `host:port`; empty if they are not served."""
    metrics: str
    """`served`, `off` by the configuration, or `unavailable` if the port cannot be opened."""


class ServiceStopped(Event):
    """The service left its loop."""

    reason: str
    """Name of the signal."""


class SignalReceived(Event):
    """A signal that does not end the run: SIGHUP or SIGUSR1 to the service, or one without an effect."""

    signal: str
    """Name, such as `SIGHUP`."""
    effect: str


class RunDisabled(Event):
    """`run_enabled` is not "Y": no cycle runs."""

    config: str
    run_enabled: str


class BusySkipped(Event):
    """A one-shot run skipped pairs that another instance holds, and exits with 0 because of --skip-if-busy."""


class PriorityNotSet(Event, level="warning"):
    """The system refused the configured I/O priority; the process keeps its own."""

    io_priority: str


class PrivateFolderSkipped(Event, level="warning"):
    """A private folder is no folder or belongs to another user; the next candidate is used."""

    folder: str
    error: str


class StateNotPersistent(Event, level="warning"):
    """Runs in a container, and what is remembered of mirrors lies in the container itself: it is lost with it.

    Emitted at each start.
    """

    folder: str


class SandboxUnavailable(Event):
    """Landlock is not available: only the program itself enforces its boundaries. Not emitted if Landlock is off."""

    reason: str


class ConfigReloaded(Event):
    """The configuration file changed and the new content is in force."""

    config: str
    pairs: tuple[str, ...]


class PortChanged(Event):
    """Metrics are served at another address: after a change of the configuration, or a successful retry."""

    address: str
    """Current address, `host:port`; `off` for none."""
    before: str
    """Previous address."""


class PortNotOpened(Event, level="warning"):
    """The metrics port cannot be opened. Backups go on; it is retried every 30 s and after each cycle."""

    address: str
    """Wanted address, `host:port`."""
    error: str
    hint: str
    """How to find the program that holds the port, and the next step."""


class PortNotChanged(Event, level="warning"):
    """The port of the new configuration cannot be opened; it is retried every 30 s and after each cycle."""

    address: str
    """Wanted address, `host:port`."""
    served: str
    """Current address, which stays in use."""
    error: str
    hint: str


class ConfigInsecure(Event, level="warning"):
    """Other users can change the configuration or read a secret in it; logged when it comes into force."""

    config: str
    error: str
    """User, permission, and the command that removes it."""


class ConfigRejected(Event, level="error"):
    """The configuration file cannot be used; the last good one stays in force."""

    config: str
    error: str
    faults: tuple[str, ...]


class NextCycleDue(Event, level="debug"):
    """The next cycle is scheduled."""

    due_timestamp_seconds: float
    wait_seconds: float


class ServiceWaited(Event, level=None):
    """The loop is alive and waits for the next cycle; emitted every few seconds."""


class CycleCrashed(Event, level="error"):
    """A bug ended the cycle; the service continues on schedule."""

    error: str
    traceback: tuple[str, ...]
    """Lines of the traceback."""


class OutputFailed(Event, level="error"):
    """A log file, the textfile, the Pushgateway or another listener failed; the cycle goes on."""

    output: str
    """A value of `core.metric_names.OUTPUTS`."""
    error: str


# Cycles and pairs ----------------------------------------------------------------------------------------------------


class CycleStarted(Event):
    """A cycle over all pairs began."""

    cycle_id: str
    pairs: tuple[str, ...]


class CycleFinished(Event):
    """A cycle over all pairs ended; `tally` is the sum of its pairs."""

    cycle_id: str
    result: Result
    tally: Tally
    duration_seconds: float


class IdleCyclesCounted(Event):
    """Cycles before the next line that changed nothing and reported nothing; see `idle_log_interval`."""

    cycles: int
    duration_seconds: float
    """Since the first of them began."""
