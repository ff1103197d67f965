"""The service loop: runs cycles one at a time when they are due, until a signal ends it.

The loop decides only the time; the application runs cycles and reads the configuration. A cycle that raises is reported
as an event, and the next one is planned as usual.

`Clockwork` plans one action at a time with the `schedule` library, at an instant that `core.timing` computes. An action
is due by the wall clock **or** once the planned wait has passed on the monotonic clock: the first alone would repeat
the hours that it was set back, the second alone stops while the machine sleeps.
"""

import random
import traceback
from collections.abc import Callable
from zoneinfo import ZoneInfo

import schedule

from job import __version__
from job.app.application import Application
from job.config.settings import Config
from job.core.timing import due_after, is_missed, schedule_of
from job.errors import Exit
from job.events.service import (
    CycleCrashed,
    NextCycleDue,
    RunDisabled,
    ServiceStarted,
    ServiceStopped,
    ServiceWaited,
    SignalReceived,
)
from job.system.signals import StopSignal

LEAST_PAUSE_SECONDS = 1.0
"""Between the end of an action and the start of the next, even with `sleep_time` 0 or a faulty clock."""

Clock = Callable[[], float]


class _Planned(schedule.Job):
    """A job that is due by the clocks of `Clockwork`."""

    def __init__(self, scheduler: schedule.Scheduler, idle: Callable[[], float]) -> None:
        super().__init__(1, scheduler)
        self._idle = idle

    @property
    def should_run(self) -> bool:
        return self._idle() <= 0


class Clockwork:
    """Runs one planned action when it is due. Not thread-safe; the service's loop is its only user."""

    def __init__(self, *, wall: Clock, monotonic: Clock) -> None:
        """Take the wall clock, in seconds since the epoch, and the monotonic clock, in seconds."""
        self._wall = wall
        self._monotonic = monotonic
        self._scheduler = schedule.Scheduler()
        self._due = 0.0
        self._latest = 0.0
        self._not_before = monotonic()

    def plan(self, due: float, action: Callable[[], object]) -> None:
        """Plan `action` for `due`, seconds since the epoch, instead of the previous plan. A past time means now."""
        self._scheduler.clear()
        self._due = due
        self._latest = self._monotonic() + due - self._wall()
        _Planned(self._scheduler, self._left).seconds.do(self._run, action)

    @property
    def idle_seconds(self) -> float | None:
        """Seconds until the planned action may run, never negative; None without a plan."""
        return max(0.0, self._left()) if self._scheduler.jobs else None

    def run_pending(self) -> bool:
        """Run the action if it is due; return whether it was. Its exceptions pass through, and the plan is dropped."""
        if self._left() > 0 or not self._scheduler.jobs:
            return False
        self._scheduler.run_pending()
        return True

    def _left(self) -> float:
        now = self._monotonic()
        return max(self._not_before - now, min(self._due - self._wall(), self._latest - now))

    def _run(self, action: Callable[[], object]) -> type[schedule.CancelJob]:
        # First: an action that raises must not be due again.
        self._scheduler.clear()
        try:
            action()
        finally:
            self._not_before = self._monotonic() + LEAST_PAUSE_SECONDS
        return schedule.CancelJob


SLICE_SECONDS = 5.0
"""Longest sleep, after which a changed clock or configuration is noticed. A signal ends any sleep at once."""

_MOST_JITTER_SECONDS = 366 * 86400.0


def serve(
    service: Application,
    stop: StopSignal,
    *,
    chance: Callable[[], float] = random.random,
    slice_seconds: float = SLICE_SECONDS,
) -> Exit:
    """Run the service until `stop` is requested; a requested stop exits with `OK`.

    `chance` returns numbers from 0 to 1 for the jitter; `slice_seconds` is the longest sleep.
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
    def __init__(self, service: Application, stop: StopSignal, config: Config, chance: Callable[[], float]) -> None:
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
        # First: SIGHUP reports a broken file again, and this must not follow a report of the same file.
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
        # Only then: a new plan has another jitter, and a due time that moves is confusing in a log.
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
        # By the monotonic clock: an edit after the wall clock was set back must not wait for it to catch up.
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
