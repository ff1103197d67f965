"""Logs cycles without a change now and then only. A listener between the event stream and the logs.

A loop of 30 seconds writes 4 MB of log a day while nothing changes. The lines of a cycle are held back until it is
known whether it has something to say; those of an idle one are dropped and counted, and the count is logged before the
next lines. Metrics and history count every cycle, as ever.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from job.core.outcome import Result
from job.events.service import (
    CycleFinished,
    CycleStarted,
    EntryEvent,
    Event,
    FoldersUnchanged,
    IdleCyclesCounted,
    PairEvent,
    PairFinished,
    PairStarted,
    ServiceStopped,
)

HELD_SECONDS = 60.0
"""A cycle that takes longer is logged while it runs, whatever comes of it: it is none of a short loop."""
MOST_STANDING = 1000
"""Facts of the last logged cycle that are remembered: what is told alike in an idle cycle is nothing new."""


class Log(Protocol):
    """Logs an event as told at `moment`, in seconds since the epoch, or now."""

    def __call__(self, event: Event, moment: float | None = None) -> None:
        """Log one event."""


class IdleCycles:
    """Hands events on to `log`, without those of idle cycles; call it with each event.

    The first cycle, one that is due after the interval, and every one that changes something or has anything to tell
    is logged in full. `clock` gives seconds since the epoch, `monotonic` seconds that nobody can set. Safe to call
    from several threads.
    """

    output = "listener"

    def __init__(self, log: Log, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._interval = 0.0
        self._held: list[tuple[Event, float]] = []
        self._held_since = 0.0
        self._told_at: float | None = None
        self._idle = 0
        self._idle_since = 0.0
        self._standing: list[dict[str, object]] = []

    def configure(self, *, level: str, interval_seconds: float) -> None:
        """Log idle cycles this often; all of them if the interval is 0, or if everything is logged."""
        with self._lock:
            self._interval = 0.0 if level == "debug" else interval_seconds

    def __call__(self, event: Event) -> None:
        """Log an event, hold it back, or drop those that are held."""
        with self._lock:
            if isinstance(event, CycleStarted):
                self._begin(event)
            elif self._held:
                self._go_on(event)
            else:
                if isinstance(event, ServiceStopped):
                    self._sum_up(self._monotonic(), self._clock())
                self._hand_on(event)

    def _begin(self, event: CycleStarted) -> None:
        self._release()
        now = self._monotonic()
        if self._told_at is not None and now - self._told_at < self._interval:
            self._held.append((event, self._clock()))
            self._held_since = now
        else:
            self._told_at = now
            self._sum_up(now, self._clock())
            self._standing.clear()
            self._log(event)

    def _go_on(self, event: Event) -> None:
        if self._monotonic() - self._held_since > HELD_SECONDS or not self._is_idle(event):
            self._release()
            self._hand_on(event)
        elif isinstance(event, CycleFinished):
            self._held.clear()
            self._idle_since = self._idle_since if self._idle else self._held_since
            self._idle += 1
        elif event.level is not None:
            self._held.append((event, self._clock()))

    def _release(self) -> None:
        """Log what is held, as told when it was."""
        if self._held:
            held, self._held = self._held, []
            self._told_at = self._held_since
            self._sum_up(self._held_since, held[0][1])
            self._standing.clear()
            for event, moment in held:
                self._hand_on(event, moment)

    def _hand_on(self, event: Event, moment: float | None = None) -> None:
        if _may_stand(event) and len(self._standing) < MOST_STANDING:
            self._standing.append(_fact(event))
        self._log(event, moment)

    def _sum_up(self, until: float, moment: float) -> None:
        """Log at `moment` how many idle cycles there were `until` then, by the other clock, that were not logged."""
        if self._idle:
            cycles, self._idle = self._idle, 0
            self._log(IdleCyclesCounted(cycles=cycles, duration_seconds=until - self._idle_since), moment)

    def _is_idle(self, event: Event) -> bool:
        """Tell whether an event may belong to a cycle that changed nothing and has nothing new to tell."""
        if isinstance(event, PairFinished | CycleFinished):
            tally = event.tally
            changed = tally.copied or tally.updated or tally.failed or tally.drift_by
            return event.result is Result.SUCCESS and not changed
        if event.level is None or isinstance(event, PairStarted | FoldersUnchanged):
            return True
        return _may_stand(event) and _fact(event) in self._standing


def _may_stand(event: Event) -> bool:
    """Tell whether an event may be told alike in every cycle, such as `mount_skipped`."""
    return event.level == "info" and isinstance(event, PairEvent) and not isinstance(event, EntryEvent)


def _fact(event: Event) -> dict[str, object]:
    return {"name": event.name, **vars(event), "cycle_id": ""}
