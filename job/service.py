"""The service: one cycle at a time, each in its time, until a signal ends it.

The loop decides only *when*; what a cycle is and what the config says is the `Service`'s. Nothing but a signal ends it:
a cycle that raises is reported as an event, and the next one runs at its time.

`Clockwork` uses the `schedule` library, which keeps the plan and runs it. What the library gets wrong for a service is
solved here:

* *It thinks in naive local time.* Pinning the process to UTC would change what users see elsewhere and would still
  trust one clock. Instead `_Planned` answers the library's only question, `should_run`, from injected clocks that
  count seconds since the epoch: no local time is read to decide anything, so TZ and daylight saving do not matter.
* *A clock set back stalls it.* An action is due when the wall clock says so **or** when the planned wait has passed on
  the monotonic clock, which nobody can set. The wall clock alone would wait the hours again that it was set back; the
  monotonic clock alone stands still while the machine sleeps, and would come late.
* *A job that raises keeps its `next_run` and is run again at once.* The plan is dropped before its action runs, so the
  worst that can follow an exception is no plan at all, and there is at least a second between two actions anyhow.
* *Missed runs are forgotten, daily times stumble over daylight saving.* It is never asked for either: due times and
  catching up come from `core.timing`.
"""

import datetime as dt
import random
import traceback
from collections.abc import Callable
from typing import Protocol
from zoneinfo import ZoneInfo

import schedule

from job import __version__
from job.config.settings import Config
from job.core.outcome import Result
from job.core.timing import due_after, is_missed, schedule_of
from job.errors import Exit
from job.events.service import (
    CycleCrashed,
    Event,
    NextCycleDue,
    RunDisabled,
    ServiceStarted,
    ServiceStopped,
    ServiceWaited,
    SignalReceived,
)

LEAST_PAUSE_SECONDS = 1.0
"""Between the end of an action and the start of the next, even with `sleep_time` 0 or a clock running wild."""

Clock = Callable[[], float]


class _Planned(schedule.Job):
    """A job whose time is decided by the seam."""

    def __init__(self, scheduler: schedule.Scheduler, idle: Callable[[], float]) -> None:
        super().__init__(1, scheduler)
        self._idle = idle

    @property
    def should_run(self) -> bool:
        return self._idle() <= 0


class Clockwork:
    """Runs one planned action when it is due. Not thread-safe; the service's loop is its only user."""

    def __init__(self, *, wall: Clock, monotonic: Clock) -> None:
        """Take `wall`, seconds since the epoch, and `monotonic`, seconds since whenever that never go back."""
        self._wall = wall
        self._monotonic = monotonic
        self._scheduler = schedule.Scheduler()
        self._due = 0.0
        self._latest = 0.0
        self._not_before = monotonic()

    def plan(self, due: float, action: Callable[[], object]) -> None:
        """Plan `action` for `due`, seconds since the epoch, in place of whatever was planned. The past means now."""
        self._scheduler.clear()
        self._due = due
        self._latest = self._monotonic() + due - self._wall()
        job = _Planned(self._scheduler, self._left).seconds.do(self._run, action)
        # For people who print the scheduler; nothing reads it back.
        job.next_run = dt.datetime.fromtimestamp(due, dt.UTC).replace(tzinfo=None)

    @property
    def due(self) -> float | None:
        """When the planned action is due, in seconds since the epoch; None without a plan."""
        return self._due if self._scheduler.jobs else None

    @property
    def idle_seconds(self) -> float | None:
        """How long until the planned action may run, never negative; None without a plan."""
        return max(0.0, self._left()) if self._scheduler.jobs else None

    def run_pending(self) -> bool:
        """Run the action if it is due and tell whether it was. What it raises comes through; the plan is gone then."""
        if self._left() > 0 or not self._scheduler.jobs:
            return False
        self._scheduler.run_pending()
        return True

    def _left(self) -> float:
        now = self._monotonic()
        return max(self._not_before - now, min(self._due - self._wall(), self._latest - now))

    def _run(self, action: Callable[[], object]) -> type[schedule.CancelJob]:
        # First of all: whatever happens in the action, it cannot be found due again.
        self._scheduler.clear()
        try:
            action()
        finally:
            self._not_before = self._monotonic() + LEAST_PAUSE_SECONDS
        return schedule.CancelJob


SLICE_SECONDS = 5.0
"""Longest sleep: how soon a changed clock or config file is noticed. A signal ends any sleep at once."""

_MOST_JITTER_SECONDS = 366 * 86400.0


class Service(Protocol):
    """What the loop drives; `app` builds it."""

    @property
    def config_path(self) -> str:
        """The config file, for events."""
        ...

    @property
    def address(self) -> str:
        """Where metrics are served, as `host:port`; empty when they are not."""
        ...

    @property
    def port_state(self) -> str:
        """Whether metrics are `served`, `off` or, where the port cannot be had, `unavailable`."""
        ...

    def reload(self, *, asked: bool = False) -> Config:
        """Read the config file again and give the config in force: a broken file leaves the last good one.

        Tells `ConfigReloaded` and `ConfigRejected` itself; a file that is still broken is told again if it is `asked`.
        """
        ...

    def config_changed(self) -> bool:
        """Tell whether the config file looks different (a stat) than when it was read last. Cheap, never raises."""
        ...

    def cycle(self, config: Config, stop: Callable[[], bool]) -> Result:
        """Run one cycle; ends soon, with `Result.STOPPED`, once `stop` says so. Raises for bugs only."""
        ...

    def last_success(self) -> float | None:
        """When the pair that waits longest was last completely copied and checked; None if one never was."""
        ...

    def emit(self, event: Event) -> None:
        """Tell every listener; never raises."""
        ...

    def now(self) -> float:
        """Read the wall clock, in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Read a clock that nobody can set, in seconds."""
        ...


class Stop(Protocol):
    """How the loop is ended: `StopSignal` of `system/signals.py`, or a test."""

    @property
    def signal_name(self) -> str:
        """Name of the signal that asked to stop; empty while none did."""
        ...

    def requested(self) -> bool:
        """Tell whether to stop."""
        ...

    def requests(self) -> set[str]:
        """Name the signals that ask for something, `SIGHUP` and `SIGUSR1`, and forget them."""
        ...

    def notices(self, *, busy: bool) -> list[tuple[str, str]]:
        """Name the signals that came and do not stop the service, each with its effect, and forget them."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long and until a signal comes, and tell whether to stop."""
        ...


def serve(
    service: Service,
    stop: Stop,
    *,
    chance: Callable[[], float] = random.random,
    slice_seconds: float = SLICE_SECONDS,
) -> Exit:
    """Run the service until `stop` is requested; a stop is what was asked for, so the exit code is `OK`.

    `chance` gives numbers from 0 to 1 for the jitter; `slice_seconds` is the longest sleep.
    """
    config = service.reload()
    service.emit(
        ServiceStarted(
            version=__version__,
            config=service.config_path,
            pairs=len(config.effective_pairs),
            address=service.address,
            metrics=service.port_state,
        )
    )
    try:
        _Loop(service, stop, config, chance).run(slice_seconds)
    finally:
        service.emit(ServiceStopped(reason=stop.signal_name or "error"))
    return Exit.OK


class _Loop:
    def __init__(self, service: Service, stop: Stop, config: Config, chance: Callable[[], float]) -> None:
        self._service = service
        self._stop = stop
        self._config = config
        self._chance = chance
        self._clockwork = Clockwork(wall=service.now, monotonic=service.monotonic)
        self._ended_monotonic = service.monotonic()
        self._planned_due = 0.0
        self._done_due = 0.0
        self._reported_value: str | None = None

    def run(self, slice_seconds: float) -> None:
        self._report_disabled()
        if self._config.run_at_start or self._missed():
            self._plan_for(self._service.now())
        else:
            self._plan()
        while not self._stop.requested():
            self._handle_signals()
            if not self._clockwork.run_pending():
                self._wait(slice_seconds)

    def _wait(self, slice_seconds: float) -> None:
        self._service.emit(ServiceWaited())
        self._stop.wait(min(slice_seconds, self._clockwork.idle_seconds or 0.0))
        # First: a signal asks to be told of a broken file again, and what was just told need not be.
        self._handle_signals()
        if self._service.config_changed():
            self._guarded(self._take_changed_config)

    def _handle_signals(self) -> None:
        requests = self._stop.requests()
        for name, effect in self._stop.notices(busy=False):
            self._service.emit(SignalReceived(signal=name, effect=effect))
        if "SIGHUP" in requests:
            self._guarded(lambda: self._take_changed_config(asked=True))
        if "SIGUSR1" in requests:
            self._plan_for(self._service.now())

    def _take_changed_config(self, *, asked: bool = False) -> None:
        before = _timing_of(self._config)
        self._take_config(asked=asked)
        # Only then: a plan made again has another jitter, and a due time that moves is hard to understand in a log.
        if _timing_of(self._config) != before:
            self._plan()

    def _run_planned(self) -> None:
        self._done_due = self._planned_due
        self._guarded(self._work)
        self._ended_monotonic = self._service.monotonic()
        if not self._stop.requested():
            self._plan()

    def _work(self) -> None:
        self._take_config()
        if self._config.enabled:
            self._service.cycle(self._config, self._stop.requested)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 (a bug in one step must not end the backups)
            text = f"{type(error).__name__}: {error}"
            self._service.emit(CycleCrashed(error=text, traceback=tuple(traceback.format_exc().splitlines())))

    def _take_config(self, *, asked: bool = False) -> None:
        self._config = self._service.reload(asked=asked)
        self._report_disabled()

    def _report_disabled(self) -> None:
        value = None if self._config.enabled else self._config.run_enabled
        if value is not None and value != self._reported_value:
            self._service.emit(RunDisabled(config=self._service.config_path, run_enabled=value))
        self._reported_value = value

    def _missed(self) -> bool:
        schedule = schedule_of(self._config.schedule, self._config.sleep_time)
        zone = ZoneInfo(self._config.timezone)
        return is_missed(schedule, zone, self._service.last_success(), self._service.now())

    def _plan(self) -> None:
        schedule = schedule_of(self._config.schedule, self._config.sleep_time)
        now = self._service.now()
        # By the clock that nobody sets: an edit after the wall clock was set back must not wait for it to catch up.
        ended = now - (self._service.monotonic() - self._ended_monotonic)
        due = due_after(schedule, ZoneInfo(self._config.timezone), now=now, ended=ended, due=self._done_due)
        self._plan_for(due + self._chance() * min(self._config.jitter, _MOST_JITTER_SECONDS))

    def _plan_for(self, due: float) -> None:
        self._planned_due = due
        self._clockwork.plan(due, self._run_planned)
        wait = self._clockwork.idle_seconds or 0.0
        self._service.emit(NextCycleDue(due_timestamp_seconds=due, wait_seconds=wait))


def _timing_of(config: Config) -> tuple[str | None, float, str, float]:
    return config.schedule, config.sleep_time, config.timezone, config.jitter
