"""Compose the application: configuration, outputs and cycles, for `truecopy run` and the service loop."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TextIO

from job import __version__
from job.app.pair_setup import collect_rarely, history_of, open_context
from job.config.load import LoadedConfig, read_config
from job.config.settings import Config, MetricsSettings
from job.core.file_systems import MirrorCapabilities
from job.core.outcome import Result
from job.engine.context import PairRun
from job.engine.cycle import CycleContext, run_cycle
from job.engine.preflight.open_pair import Roots
from job.errors import ConfigError
from job.events.bus import Bus
from job.events.service import (
    ConfigInsecure,
    ConfigRejected,
    ConfigReloaded,
    PriorityNotSet,
    PrivateFolderSkipped,
    SandboxUnavailable,
    StateNotPersistent,
)
from job.fs.mounts import is_below
from job.fs.private_folders import PrivateFolder, ScratchFolder, choose
from job.fs.trusted_file import TrustIssue
from job.outputs.log import Logs
from job.outputs.log_limits import BriefLog
from job.outputs.metrics import Metrics
from job.store.history import History
from job.store.memory import Memory
from job.system.resources import default_workers
from job.system.sandbox import Sandbox

if TYPE_CHECKING:
    from job.app.output_setup import Port
    from job.outputs.log_limits import IdleCycles
    from job.outputs.prometheus import Exposition, Publisher
    from job.system.processes import WorkerPool


class Application:
    """Truecopy in one process."""

    now, monotonic = staticmethod(time.time), staticmethod(time.monotonic)
    """The wall clock, in seconds since the epoch, and the monotonic clock, in seconds."""

    def __init__(
        self, config_path: str, environ: Mapping[str, str], *, stream: TextIO | None, quiet: bool = False
    ) -> None:
        """Log to `stream`, warnings and errors only if `quiet`, or, if it is None, to the log files only.

        Nothing is read yet.
        """
        self.config_path = config_path
        self._environ = environ
        self._io_priority = "normal"
        self._sandbox_error = ""
        self._settings: LoadedConfig | None = None
        self._doubts: tuple[TrustIssue, ...] = ()
        self._rejected: ConfigError | None = None
        self._only: tuple[str, ...] = ()
        self._seen: tuple[int, int, int] | None = None
        self._histories: dict[str, Callable[[], History]] = {}
        self._memory = Memory()
        self._scratch = ScratchFolder(environ)
        self._bus = bus = Bus()
        self.emit, self.join, self.failed = bus.emit, bus.join, bus.failed
        """Send an event to every listener; add a listener; report that an output failed."""
        self._logs = Logs(clock=time.time, failed=self._bus.failed, stream=stream, quiet=quiet)
        self._brief = BriefLog(self._logs, monotonic=time.monotonic)
        self._idle: IdleCycles | None = None
        self._metrics = Metrics(history=self._history, version=__version__, python=sys.version.partition(" ")[0])
        self._publisher: Publisher | None = None
        self._port: Port | None = None
        for listener in (self._brief, self._metrics):
            self._bus.join(listener)

    def close(self) -> None:
        """Close the log files, and keep the count of outputs that failed since the last pair finished."""
        self._scratch.close()
        self._logs.close()
        self._metrics.keep_outputs()

    def sum_up_idle_cycles(self) -> None:
        """Log idle cycles only once in `idle_log_interval`. For a service, before it starts."""
        from job.outputs.log_limits import IdleCycles  # noqa: PLC0415  # a one-shot run logs its cycle

        self._idle = IdleCycles(self._brief, clock=time.time, monotonic=time.monotonic)
        self._idle.configure(level=self._config.log_level, interval_seconds=self._config.idle_log_interval)
        self._bus.replace(self._brief, self._idle)

    def load(self) -> Config:
        """Read the configuration for the first time. Raises `ConfigError` with every fault."""
        self._seen = self._signature()
        settings = read_config(self.config_path, self._environ)
        _check_outputs(self.config_path, settings.config, self._environ)
        self._settings = settings
        self._put_in_force(settings.config)
        self._report_doubts(settings)
        return settings.config

    def _report_doubts(self, settings: LoadedConfig) -> None:
        if settings.doubts != self._doubts:
            self._doubts = settings.doubts
            for doubt in settings.doubts:
                self.emit(ConfigInsecure(config=self.config_path, error=str(doubt)))

    def keep_to(self, pairs: Sequence[str]) -> Config:
        """Limit all later cycles to these pairs; return the current configuration with them only.

        Their metrics and history stay as they are. A later configuration without one of them is rejected.
        """
        self._only = tuple(pairs)
        return self._narrowed(self._config)

    def _narrowed(self, config: Config) -> Config:
        if not self._only:
            return config
        chosen = tuple(pair for pair in config.effective_pairs if pair.name in self._only)
        return config._replace(effective_pairs=chosen)

    def use_port(self, port: "Port") -> None:
        """Open the HTTP port, which then follows the configuration. The caller closes it."""
        self._port = port
        port.open()
        self._bus.join(port)

    @property
    def address(self) -> str:
        """Where metrics are served, as `host:port`; empty if they are not."""
        return self._port.served if self._port else ""

    @property
    def port_state(self) -> str:
        """Whether metrics are `served`, `off` or, if the port cannot be opened, `unavailable`."""
        return self._port.state if self._port else "off"

    @property
    def metrics(self) -> MetricsSettings:
        """Current configuration of metrics."""
        return self._config.metrics

    @property
    def stall_timeout(self) -> float:
        """Seconds without progress after which a cycle is stalled; 0 for never, and before the first load."""
        return self._settings.config.stall_timeout if self._settings else 0.0

    @property
    def _config(self) -> Config:
        if self._settings is None:
            raise AssertionError
        return self._settings.config

    def reload(self, *, asked: bool = False) -> Config:
        """Read the configuration again; a broken one is reported, once unless `asked`, and the last good one stays."""
        if self._settings is None:
            return self.load()
        self._seen = self._signature()
        try:
            fresh = self._read_again()
            if fresh.digest != self._settings.digest:
                _check_outputs(self.config_path, fresh.config, self._environ)
        except ConfigError as error:
            # Once for every edit, not every 30 seconds; a metric shows the lasting failure.
            before = self._rejected and (self._rejected.message, self._rejected.faults)
            if asked or before != (error.message, error.faults):
                self.emit(ConfigRejected(config=self.config_path, error=error.message, faults=error.faults))
            self._rejected = error
            return self._narrowed(self._config)
        if fresh.digest != self._settings.digest or self._rejected is not None:
            self._rejected = None
            self._settings = fresh
            self._put_in_force(fresh.config)
            names = tuple(pair.name for pair in fresh.config.effective_pairs)
            self.emit(ConfigReloaded(config=self.config_path, pairs=names))
        self._report_doubts(fresh)
        return self._narrowed(fresh.config)

    def _read_again(self) -> LoadedConfig:
        fresh = read_config(self.config_path, self._environ)
        known = {pair.name for pair in fresh.config.effective_pairs}
        if gone := [name for name in self._only if name not in known]:
            raise ConfigError(f"it has no pair {', '.join(gone)}, which this service was started for by --pair")
        return fresh

    def config_changed(self) -> bool:
        """Return whether the configuration file changed since it was read last."""
        return self._signature() != self._seen

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.config_path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _put_in_force(self, config: Config) -> None:
        self._logs.configure(config)
        for log in (self._brief, self._idle):
            if log is not None:
                log.configure(level=config.log_level, interval_seconds=config.idle_log_interval)
        self._prioritise(config.io_priority)
        pairs = config.effective_pairs
        memory = self._memory.updated_to(Memory.of(config, self._environ))
        if memory is not self._memory and memory.base is not None and memory.is_lost_with_container():
            self.emit(StateNotPersistent(folder=memory.base))
        self._memory = memory
        for pair in pairs:
            # Made each time: the state folder of a pair may change with the other pairs.
            self._histories[pair.name] = partial(
                history_of, config, pair, self._memory, failed=self._bus.failed, emit=self.emit
            )
        self._metrics.configure(
            pairs=[pair.name for pair in pairs],
            interval_seconds=config.longest_interval,
            run_enabled=config.enabled,
            unbraked=[pair.name for pair in pairs if pair.brake is None],
        )
        self._publish(config.metrics)

    def _prioritise(self, level: str) -> None:
        if level == self._io_priority:
            return
        from job.system.resources import set_io_priority  # noqa: PLC0415  # few ask for it

        self._io_priority = level
        if not set_io_priority(level):
            self.emit(PriorityNotSet(io_priority=level))

    def _publish(self, wanted: MetricsSettings) -> None:
        if self._publisher is None and not (wanted.textfile or wanted.pushgateway):
            return
        from job.outputs.prometheus import Publisher  # noqa: PLC0415  # slow, and most runs publish nothing

        if self._publisher is None:
            self._publisher = Publisher(self.exposition().registry, wanted, failed=self._bus.failed)
            self._bus.join(self._publisher)
        self._publisher.configure(wanted)

    def exposition(self) -> "Exposition":
        """Return the exposition of the metrics."""
        from job.outputs.prometheus import Exposition  # noqa: PLC0415  # slow, and most runs show nothing

        return Exposition(self._metrics.families)

    def _history(self, pair: str) -> History:
        return self._histories[pair]()

    def cycle(self, config: Config, stop: Callable[[], bool]) -> Result:
        """Run one cycle over all pairs, which ends soon with `Result.STOPPED` once `stop` returns True."""
        collect_rarely()
        name = f"{datetime.fromtimestamp(time.time(), UTC):%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}"
        chosen = {pair.name for pair in config.effective_pairs}
        left_out = tuple(pair for pair in self._config.effective_pairs if pair.name not in chosen)
        work = CycleContext(
            name,
            self._bus.emit,
            stop,
            time.time_ns,
            partial(open_context, create_pool=_create_worker_pool),
            sandbox=Sandbox(config.landlock, self._scratch, self._report_no_sandbox),
            verbose=config.log_level == "debug",
            cores=default_workers(),
            left_out=left_out,
            memory=self._memory,
        )
        return run_cycle(config, work)

    def choose_place(self, places: Sequence[PrivateFolder]) -> PrivateFolder | None:
        """Return the first place for a private folder outside of every pair; None if there is none."""
        roots = [root for pair in self._config.effective_pairs for root in (pair.source, pair.dest)]
        usable = (each for each in places if not (each.persistent and any(is_below(each.base, root) for root in roots)))
        return choose(usable, lambda folder, error: self.emit(PrivateFolderSkipped(folder=folder, error=error)))

    def _report_no_sandbox(self, reason: str) -> None:
        if reason != self._sandbox_error:
            self._sandbox_error = reason
            self.emit(SandboxUnavailable(reason=reason))

    def last_success(self) -> float | None:
        """Return the oldest last success of the pairs, in seconds since the epoch; None if a pair never had one."""
        pairs = self._narrowed(self._config).effective_pairs
        times = [self._history(pair.name).read().last_success_timestamp_seconds for pair in pairs]
        return min(times) if times and all(times) else None


def _create_worker_pool(run: PairRun, roots: Roots, able: MirrorCapabilities) -> "WorkerPool":
    from job.app.worker_main import create_pool  # noqa: PLC0415  # only a large job pays for multiprocessing

    return create_pool(run, roots, able)


def _check_outputs(path: str, config: Config, environ: Mapping[str, str]) -> None:
    if config.log_file or config.error_log_file or config.metrics.textfile:
        from job.app.output_setup import check_outputs  # noqa: PLC0415  # many runs write to standard output only

        check_outputs(path, config, environ)
