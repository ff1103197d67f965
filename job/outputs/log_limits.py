"""Limit the log: lines of one kind per folder and cycle, and lines of idle cycles. Listeners before the logs.

`BriefLog` limits lines about failures, drift and skipped files of Truecopy's own, so that users of a source cannot fill
the log's disk; the rest is counted, as are failures repeated from the previous cycle until they are due again.
`IdleCycles` holds the lines of a cycle until it changes anything, and counts idle cycles instead of logging them.
At log level debug everything is logged.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from job.core.outcome import Result, UnloggedReason
from job.events.base import EntryEvent, Event, PairEvent
from job.events.pair import (
    DriftFound,
    FileFailed,
    FilesCopied,
    FoldersUnchanged,
    LogLinesSuppressed,
    OwnFilesSkipped,
    PairFinished,
    PairStarted,
)
from job.events.service import CycleFinished, CycleStarted, IdleCyclesCounted, ServiceStopped

MOST_A_FOLDER = 100
"""Lines of one kind, at most 400 kB; more add no information about a folder."""
MOST_A_CYCLE = 1000
"""Lines of one kind and pair: at most 4 MB, about 500 kB for ordinary paths."""
MOST_FOLDERS = 1024
"""Folders counted at a time; workers are in a few only."""
MOST_STANDING = 100_000
"""Failures remembered from cycle to cycle, eight bytes each."""

_Capped = FileFailed | DriftFound | OwnFilesSkipped
_CAPPED = frozenset({FileFailed, DriftFound, OwnFilesSkipped})
_Folder = tuple[type[Event], str, bytes]
"""The class of events, the pair, and the path of a folder; empty for those of no single folder."""


class Log(Protocol):
    """Logs an event with the time `moment`, in seconds since the epoch, or now."""

    def __call__(self, event: Event, moment: float | None = None) -> None:
        """Log one event."""


class BriefLog:
    """Passes events on to `log`, within the limits; call it with each event. `monotonic` is a clock in seconds.

    Thread-safe.
    """

    def __init__(self, log: Log, *, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._whole = False
        self._interval = 0.0
        self._logged_at: float | None = None
        self._before: set[int] = set()
        """Failures of the previous cycle, as hashes."""
        self._standing: set[int] = set()
        """Failures of this cycle that have, or had, a line."""
        self._of_folder: dict[_Folder, int] = {}
        self._of_pair: Counter[tuple[type[Event], str]] = Counter()
        self._suppressed: dict[tuple[_Folder, UnloggedReason], tuple[str, Counter[str]]] = {}
        """The cycle, and the count of entries without lines of their own by reason."""

    def configure(self, *, level: str, interval_seconds: float) -> None:
        """Log repeated failures at this interval, in each cycle if it is 0; everything at level `debug`."""
        with self._lock:
            self._whole = level == "debug"
            self._interval = interval_seconds

    def __call__(self, event: Event, moment: float | None = None) -> None:
        """Log or count an event."""
        kind = type(event)
        if kind not in _CAPPED and kind is not CycleStarted and kind is not PairFinished and kind is not CycleFinished:
            self._log(event, moment)
            return
        with self._lock:
            if isinstance(event, _Capped):
                if not self._whole and not self._has_line(event, moment):
                    return
            else:
                self._sum_up(moment)
                if isinstance(event, CycleStarted):
                    self._begin()
            self._log(event, moment)

    def _begin(self) -> None:
        now = self._monotonic()
        if self._logged_at is None or now - self._logged_at >= self._interval:
            self._logged_at = now
            self._standing.clear()
        self._before, self._standing = self._standing, set()

    def _has_line(self, event: _Capped, moment: float | None) -> bool:
        """Return whether an entry gets its own line; otherwise count it."""
        kind, pair = type(event), event.pair
        fact = hash((kind, pair, event.path, _reason(event), getattr(event, "error", "")))
        if isinstance(event, FileFailed) and fact in self._before:
            self._remember(fact)
            self._count(event, b"", UnloggedReason.AS_BEFORE)
            return False
        folder = event.path.rpartition(b"/")[0]
        place: _Folder = kind, pair, folder
        logged = self._of_folder.pop(place, 0)
        if logged >= MOST_A_FOLDER:
            self._of_folder[place] = logged
            self._count(event, folder, UnloggedReason.FOLDER)
            return False
        if self._of_pair[kind, pair] >= MOST_A_CYCLE:
            self._count(event, b"", UnloggedReason.CYCLE)
            return False
        while len(self._of_folder) >= MOST_FOLDERS:
            oldest = next(iter(self._of_folder))  # without events for the longest time
            del self._of_folder[oldest]
            self._log_count(oldest, UnloggedReason.FOLDER, moment)
        self._of_folder[place] = logged + 1
        self._of_pair[kind, pair] += 1
        self._remember(fact)
        return True

    def _remember(self, fact: int) -> None:
        if len(self._standing) < MOST_STANDING:
            self._standing.add(fact)

    def _count(self, event: _Capped, path: bytes, because: UnloggedReason) -> None:
        key = (type(event), event.pair, path), because
        _, by = self._suppressed.setdefault(key, (event.cycle_id, Counter()))
        by[_reason(event)] += 1

    def _log_count(self, place: _Folder, because: UnloggedReason, moment: float | None) -> None:
        kind, pair, path = place
        cycle_id, by = self._suppressed.pop((place, because), ("", Counter()))
        if by:
            event = LogLinesSuppressed(
                cycle_id=cycle_id, pair=pair, of=kind.name, path=path, entries=by.total(), by=dict(by), because=because
            )
            self._log(event, moment)

    def _sum_up(self, moment: float | None) -> None:
        for place, because in list(self._suppressed):
            self._log_count(place, because, moment)
        self._of_folder.clear()
        self._of_pair.clear()


def _reason(event: _Capped) -> str:
    if isinstance(event, FileFailed):
        return str(event.reason)
    return str(event.kind) if isinstance(event, DriftFound) else "own"


HELD_SECONDS = 60.0
"""A longer cycle is logged while it runs, with any result."""
MOST_STANDING_EVENTS = 1000
"""Remembered events of the last logged cycle: the same ones do not make a later cycle worth logging."""


class IdleCycles:
    """Passes events on to `log`, without those of idle cycles; call it with each event.

    The first cycle, the first after the interval, and every cycle with a change or a new event are logged in full.
    `clock` gives seconds since the epoch, `monotonic` seconds of a monotonic clock. Thread-safe.
    """

    def __init__(self, log: Log, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._interval = 0.0
        self._held: list[tuple[Event, float]] = []
        self._held_since = 0.0
        self._logged_at: float | None = None
        self._idle = 0
        self._idle_since = 0.0
        self._standing: list[dict[str, object]] = []

    def configure(self, *, level: str, interval_seconds: float) -> None:
        """Log idle cycles at this interval; all of them if it is 0 or at level `debug`."""
        with self._lock:
            self._interval = 0.0 if level == "debug" else interval_seconds

    def __call__(self, event: Event) -> None:
        """Log or hold an event, or drop the held ones."""
        with self._lock:
            if isinstance(event, CycleStarted):
                self._begin(event)
            elif self._held:
                self._continue_cycle(event)
            else:
                if isinstance(event, ServiceStopped):
                    self._sum_up(self._monotonic(), self._clock())
                self._pass_on(event)

    def _begin(self, event: CycleStarted) -> None:
        self._release()
        now = self._monotonic()
        if self._logged_at is not None and now - self._logged_at < self._interval:
            self._held.append((event, self._clock()))
            self._held_since = now
        else:
            self._logged_at = now
            self._sum_up(now, self._clock())
            self._standing.clear()
            self._log(event)

    def _continue_cycle(self, event: Event) -> None:
        if self._monotonic() - self._held_since > HELD_SECONDS or not self._is_idle(event):
            self._release()
            self._pass_on(event)
        elif isinstance(event, CycleFinished):
            self._held.clear()
            self._idle_since = self._idle_since if self._idle else self._held_since
            self._idle += 1
        elif event.level is not None:
            self._held.append((event, self._clock()))

    def _release(self) -> None:
        """Log the held events with their own times."""
        if self._held:
            held, self._held = self._held, []
            self._logged_at = self._held_since
            self._sum_up(self._held_since, held[0][1])
            self._standing.clear()
            for event, moment in held:
                self._pass_on(event, moment)

    def _pass_on(self, event: Event, moment: float | None = None) -> None:
        if _may_stand(event) and len(self._standing) < MOST_STANDING_EVENTS:
            self._standing.append(_fact(event))
        self._log(event, moment)

    def _sum_up(self, until: float, moment: float) -> None:
        """Log the count of idle cycles `until` a monotonic time, with the log time `moment`."""
        if self._idle:
            cycles, self._idle = self._idle, 0
            self._log(IdleCyclesCounted(cycles=cycles, duration_seconds=until - self._idle_since), moment)

    def _is_idle(self, event: Event) -> bool:
        """Return whether an event leaves its cycle idle: no change, and nothing new."""
        if isinstance(event, PairFinished | CycleFinished):
            tally = event.tally
            changed = tally.copied or tally.updated or tally.failed or tally.drift_by
            return event.result is Result.SUCCESS and not changed
        if isinstance(event, FilesCopied):
            return False
        if event.level is None or isinstance(event, PairStarted | FoldersUnchanged):
            return True
        return _may_stand(event) and _fact(event) in self._standing


def _may_stand(event: Event) -> bool:
    """Return whether an event may repeat in every cycle, such as `mount_skipped`."""
    return event.level == "info" and isinstance(event, PairEvent) and not isinstance(event, EntryEvent)


def _fact(event: Event) -> dict[str, object]:
    return {"name": event.name, **vars(event), "cycle_id": ""}
