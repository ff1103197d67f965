"""The seam over the `schedule` library: one planned action at a time, at an instant in UTC.

`schedule` keeps the plan and runs it; everything it gets wrong for a service stays on our side of the seam:

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
from collections.abc import Callable

import schedule

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
