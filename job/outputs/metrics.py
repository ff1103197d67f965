"""Metrics: counts every event into the series of `core/metric_names`.

Counters are the sums in the history plus the events since, so restarts and one-shot runs continue them. Samples are
built on request: an event costs an addition, and only series in `core/metric_names` exist.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from job.core import metric_names
from job.core.counts import (
    MOST_FAILING,
    NO_HISTORY,
    CountsByName,
    CycleDetails,
    FailedEntry,
    HeldPlan,
    PairHistory,
    PairProblem,
    counts_of,
    hold_after,
)
from job.core.metric_names import Family, Series
from job.core.outcome import Result
from job.events.base import EntryEvent, Event
from job.events.brake import BrakeHeld, BrakeReleased
from job.events.pair import (
    BatchCommitted,
    CycleResumed,
    CycleStalled,
    FileFailed,
    OrphansCounted,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    VersionsCounted,
    VersionsExpired,
    VersionsGivenUp,
)
from job.events.service import (
    ConfigRejected,
    ConfigReloaded,
    CycleCrashed,
    CycleFinished,
    CycleStarted,
    NextCycleDue,
    OutputFailed,
    PortNotChanged,
    PortNotOpened,
    RunDisabled,
)
from job.store.history import History

_OUTPUT_FAILURES = "output_failures_total"
_OUTPUT_KEYS = tuple((_OUTPUT_FAILURES, output) for output in metric_names.OUTPUTS)


class _PairCounts:
    """Counts of a pair: recorded in the history, and still pending."""

    def __init__(self, kept: PairHistory = NO_HISTORY) -> None:
        self.kept = kept
        self.pending: Counter[tuple[str, str]] = Counter()
        self.trouble: PairProblem | None = None
        self.hold: HeldPlan | None = None
        self.has_no_hold = False
        """Whether an earlier hold ended in the current cycle."""
        self.failing: list[FailedEntry] = []
        """Failed entries of the current cycle."""
        self.versions: tuple[int, int] | None = None
        """Files and bytes of the versions, if they were counted in the current cycle."""
        self.orphans: tuple[int, int] | None = None
        """Files that left the source, and their bytes, if they changed in the current cycle."""


class Metrics:
    """Counts events; call it with each event, and `families` from any thread.

    `history` returns the history of a pair by its name; it is used when a pair is first seen and when it finished.
    """

    def __init__(self, *, history: Callable[[str], History], version: str, python: str) -> None:
        self._history = history
        self._build = (version, python)
        self._lock = threading.Lock()
        self._pairs: dict[str, _PairCounts] = {}
        self._unbraked: frozenset[str] = frozenset()
        self._outputs: Counter[tuple[str, str]] = Counter()
        self._own = {each.name: 0.0 for each in metric_names.OWN_SERIES if not each.label}
        self._own["config_last_reload_successful"] = 1.0

    def configure(
        self, *, pairs: Sequence[str], interval_seconds: float, run_enabled: bool, unbraked: Collection[str] = ()
    ) -> None:
        """Apply a configuration: pairs, expected seconds between two cycle starts, and pairs without a brake."""
        new = {pair: _PairCounts(self._history(pair).read()) for pair in pairs if pair not in self._pairs}
        with self._lock:
            self._pairs = {pair: self._pairs.get(pair) or new[pair] for pair in pairs}
            self._unbraked = frozenset(unbraked)
            self._own["schedule_interval_seconds"] = interval_seconds
            self._own["run_enabled"] = float(run_enabled)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, EntryEvent):
            self._note(event)
            return  # counted with its batch
        match event:
            case BatchCommitted() | VersionsExpired() | VersionsGivenUp():
                self._count(event.pair, _counts_in(event))
            case VersionsCounted() | OrphansCounted() | BrakeHeld() | BrakeReleased():
                self._note_detail(event)
            case PairRefused() | PairBusy() | PairFailed():
                self._trouble(event)
            case PairFinished():
                self._finish(event)
            case OutputFailed() | PortNotOpened() | PortNotChanged():
                self._output_failed(getattr(event, "output", "http"))
            case _:
                self._set(_gauges_of(event))

    def families(self) -> Iterator[Family]:
        """Yield every family with every label value, from one consistent snapshot."""
        with self._lock:
            pairs = {name: (pair.kept, Counter(pair.pending)) for name, pair in self._pairs.items()}
            outputs = Counter(self._outputs)
            for kept, pending in pairs.values():
                outputs.update({key: kept.counts.get(key, 0) + pending.get(key, 0) for key in _OUTPUT_KEYS})
            own, unbraked = dict(self._own), self._unbraked
        for each in metric_names.PAIR_COUNTERS:
            yield _family(each, [(name, _counter(each, *known)) for name, known in pairs.items()])
        for each in metric_names.PAIR_GAUGES:
            yield _family(
                each, [(name, _gauge(each, kept, has_brake=name not in unbraked)) for name, (kept, _) in pairs.items()]
            )
        for each in metric_names.OWN_SERIES:
            values = [float(outputs[each.name, value]) for value in each.values]
            yield _family(each, [("", values if each.label else [own[each.name]])])
        yield Family(metric_names.BUILD_INFO, ("version", "python"), [(self._build, 1.0)])

    def keep_outputs(self) -> None:
        """Record failures of outputs since the last pair finished, mostly of publishing."""
        with self._lock:
            failures, names = Counter(self._outputs), list(self._pairs)
        keeper = next((name for name in names if self._history(name).count(failures)), "") if failures else ""
        if keeper:
            with self._lock:
                kept = self._pairs[keeper].kept
                self._pairs[keeper].kept = kept._replace(counts=Counter(kept.counts) + failures)
                self._outputs.subtract(failures)

    def _count(self, pair: str, counts: CountsByName) -> None:
        with self._lock:
            self._pairs.setdefault(pair, _PairCounts()).pending.update(counts)

    def _output_failed(self, output: str) -> None:
        with self._lock:
            self._outputs[_OUTPUT_FAILURES, output if output in metric_names.OUTPUTS else "listener"] += 1

    def _trouble(self, event: PairRefused | BrakeHeld | PairBusy | PairFailed) -> None:
        reason = str(event.reason) if isinstance(event, PairRefused | BrakeHeld) else ""
        if isinstance(event, PairRefused):
            self._count(event.pair, {("pairs_refused_total", reason): 1})
        with self._lock:
            pair = self._pairs.setdefault(event.pair, _PairCounts())
            pair.trouble = PairProblem(event.name, reason, event.error, event.hint)

    def _note_detail(self, event: VersionsCounted | OrphansCounted | BrakeHeld | BrakeReleased) -> None:
        with self._lock:
            pair = self._pairs.setdefault(event.pair, _PairCounts())
            if isinstance(event, VersionsCounted):
                pair.versions = event.files, event.bytes
            elif isinstance(event, OrphansCounted):
                pair.orphans = event.files, event.bytes
            elif isinstance(event, BrakeReleased):
                pair.has_no_hold = True
            else:
                pair.hold = HeldPlan(str(event.reason), event.files, event.plan, event.examples, 0.0)
        if isinstance(event, BrakeHeld):
            self._trouble(event)
            if event.tripped:
                self._count(event.pair, {("brake_trips_total", str(event.reason)): 1})

    def _note(self, event: EntryEvent) -> None:
        if type(event) is not FileFailed:
            return
        with self._lock:
            pair = self._pairs.setdefault(event.pair, _PairCounts())
            if len(pair.failing) < MOST_FAILING:
                pair.failing.append(FailedEntry(event.path, str(event.reason), event.error))

    def _set(self, gauges: Mapping[str, float]) -> None:
        if gauges:
            with self._lock:
                self._own.update(gauges)

    def _finish(self, event: PairFinished) -> None:
        self._count(event.pair, {("cycles_total", str(event.result)): 1})
        with self._lock:
            pair = self._pairs[event.pair]
            # Outputs belong to no pair: they are recorded with the next one that finishes, and summed over all.
            pair.pending.update(self._outputs)
            self._outputs.clear()
            moment = event.finished_timestamp_seconds
            hold = pair.hold and pair.hold._replace(since_timestamp_seconds=moment)
            has_no_hold = pair.has_no_hold or event.pair in self._unbraked
            cycle_details = CycleDetails(
                pair.trouble, tuple(pair.failing), pair.versions, pair.orphans, hold, has_no_hold
            )
            pair.trouble, pair.failing, pair.versions, pair.orphans = None, [], None, None
            pair.hold, pair.has_no_hold = None, False
            pair.kept = _after(pair.kept, event, cycle_details)
            deltas = Counter(pair.pending)
        # Without the lock: a scrape must not wait for the disk.
        memory = self._history(event.pair)
        if not memory.add(event, deltas, cycle_details):
            return
        fresh = memory.read()
        with self._lock:
            if not fresh.last_attempt_timestamp_seconds:
                # Recorded but unreadable now: continue with the known counts instead of zero.
                fresh = pair.kept._replace(counts=Counter(pair.kept.counts) + deltas)
            pair.kept = fresh
            pair.pending.subtract(deltas)
            pair.pending = +pair.pending


_GAUGES: Mapping[type[Event], Mapping[str, float]] = {
    CycleStarted: {"cycle_in_progress": 1.0, "cycle_stalled": 0.0, "run_enabled": 1.0},
    CycleStalled: {"cycle_stalled": 1.0},
    CycleResumed: {"cycle_stalled": 0.0},
    CycleFinished: {"cycle_in_progress": 0.0},
    CycleCrashed: {"cycle_in_progress": 0.0},
    ConfigRejected: {"config_last_reload_successful": 0.0},
    ConfigReloaded: {"config_last_reload_successful": 1.0},
    RunDisabled: {"run_enabled": 0.0},
}
"""Values of gauges that an event sets."""


def _counts_in(event: BatchCommitted | VersionsExpired | VersionsGivenUp) -> CountsByName:
    if isinstance(event, BatchCommitted):
        return counts_of(event.tally)
    name = "versions_expired_total" if isinstance(event, VersionsExpired) else "versions_given_up_total"
    return {(name, ""): event.files}


def _gauges_of(event: Event) -> Mapping[str, float]:
    if isinstance(event, NextCycleDue):
        return {"next_cycle_timestamp_seconds": event.due_timestamp_seconds}
    return _GAUGES.get(type(event), {})


def _after(kept: PairHistory, event: PairFinished, cycle_details: CycleDetails) -> PairHistory:
    moment = event.finished_timestamp_seconds
    success = moment if event.result is Result.SUCCESS else kept.last_success_timestamp_seconds
    versions = cycle_details.versions or (kept.versions_files, kept.versions_bytes)
    orphans = cycle_details.orphans or (kept.orphans_files, kept.orphans_bytes)
    return kept._replace(
        result=event.result,
        tally=event.tally,
        duration_seconds=event.duration_seconds,
        last_attempt_timestamp_seconds=moment,
        last_success_timestamp_seconds=success,
        trouble=cycle_details.trouble,
        failing=cycle_details.failing,
        hold=hold_after(kept.hold, event.result, cycle_details),
        result_since_timestamp_seconds=kept.result_since_timestamp_seconds if kept.result is event.result else moment,
        versions_files=versions[0],
        versions_bytes=versions[1],
        orphans_files=orphans[0],
        orphans_bytes=orphans[1],
    )


def _counter(each: Series, kept: PairHistory, pending: CountsByName) -> list[float]:
    keys = [(each.name, value) for value in each.values or ("",)]
    return [kept.counts.get(key, 0) + pending.get(key, 0) for key in keys]


def _gauge(each: Series, kept: PairHistory, *, has_brake: bool) -> list[float]:
    if each.name == "last_cycle_result":
        return [float(kept.result == result) for result in each.values]
    if each.name == "hold_active":
        held = kept.hold.reason if kept.hold and kept.hold.is_active and has_brake else ""
        return [float(held == reason) for reason in each.values]
    if each.name == "brake_enabled":
        return [float(has_brake)]
    if each.label:
        return [getattr(kept.tally, outcome) for outcome in metric_names.FILE_OUTCOMES]
    name = "duration_seconds" if each.name == "cycle_duration_seconds" else each.name
    return [getattr(kept, name)]


def _family(each: Series, rows: list[tuple[str, list[float]]]) -> Family:
    samples = [
        (tuple(label for label in (pair, value) if label), number)
        for pair, values in rows
        for value, number in zip(each.values or ("",), values, strict=True)
    ]
    return Family(each, each.labels, samples)
