"""Cycles that change nothing are logged now and then; everything else is in the log, with the time of its event."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from job.core.counts import Tally
from job.core.outcome import Drift, Failure, Result, Skip
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    CycleStalled,
    FoldersUnchanged,
    PairFinished,
    PairStarted,
    PseudoFilesystemSkipped,
)
from job.events.service import (
    ConfigReloaded,
    CycleFinished,
    CycleStarted,
    IdleCyclesCounted,
    NextCycleDue,
    OutputFailed,
    ServiceStopped,
)
from job.outputs.log_limits import HELD_SECONDS, IdleCycles
from tests.outputs.logbook import copied

PAIR = {"cycle_id": "c1", "pair": "p"}
STARTED = CycleStarted(cycle_id="c1", pairs=("p",))
BEGUN = PairStarted(**PAIR, source="/s", mirror="/m", audit=False, brake=True)
SKIPPED = Tally(skipped_by={Skip.UNCHANGED: 7}, folders=2)
HOUR = 3600.0


def ended(result: Result = Result.SUCCESS, tally: Tally = SKIPPED) -> list[Event]:
    pair = PairFinished(**PAIR, result=result, tally=tally, duration_seconds=0.1, finished_timestamp_seconds=1.0)
    return [pair, CycleFinished(cycle_id="c1", result=result, tally=tally, duration_seconds=0.1)]


def cycle(*told: Event, result: Result = Result.SUCCESS, tally: Tally = SKIPPED) -> list[Event]:
    return [STARTED, BEGUN, FoldersUnchanged(**PAIR, folders=2, entries=7), *told, *ended(result, tally)]


class Book:
    """Remembers what was logged, as told when, on a clock that goes on by a second with each event."""

    def __init__(self, *, level: str = "info", interval: float = HOUR) -> None:
        self.now = 0.0
        self.lines: list[tuple[Event, float]] = []
        self.idle = IdleCycles(self.log, clock=lambda: self.now, monotonic=lambda: self.now)
        self.idle.configure(level=level, interval_seconds=interval)

    def log(self, event: Event, moment: float | None = None) -> None:
        self.lines.append((event, self.now if moment is None else moment))

    def tell(self, *events: Event) -> list[Event]:
        """Tell events, and give what was logged with them."""
        before = len(self.lines)
        for event in events:
            self.now += 1.0
            self.idle(event)
        return [event for event, _ in self.lines[before:]]


def test_the_first_cycle_is_logged_and_the_idle_ones_after_it_are_summed_up_once_an_hour() -> None:
    book = Book()
    assert book.tell(*cycle()) == cycle()

    told = []
    while book.now < HOUR + 10:
        told += book.tell(*cycle())

    (summary, *rest) = told
    assert isinstance(summary, IdleCyclesCounted)
    assert summary.cycles == HOUR // len(cycle()) - 1
    assert 0.99 * HOUR < summary.duration_seconds <= HOUR
    assert rest[: len(cycle())] == cycle()
    assert len(rest) == len(cycle())


CHANGES: dict[str, Callable[[], list[Event]]] = {
    "a copy": lambda: cycle(copied(), tally=Tally(copied=1)),
    "drift": lambda: cycle(tally=Tally(drift_by={Drift.CONTENT: 1})),
    "a failure": lambda: cycle(result=Result.PARTIAL, tally=Tally(failed_by={Failure.OTHER: 1})),
    "an update": lambda: cycle(tally=Tally(updated=1)),
    "a refusal": lambda: cycle(result=Result.REFUSED, tally=Tally()),
    "a stall": lambda: cycle(
        CycleStalled(**PAIR, process="main", stalled_seconds=9.0, where="", doing=""),
    ),
    "an output": lambda: cycle(OutputFailed(output="textfile", error="full")),
}


def test_a_cycle_with_anything_to_tell_is_logged_in_full_as_told_when_it_was() -> None:
    for name, make in CHANGES.items():
        book = Book()
        book.tell(*cycle(), *cycle())
        before = book.now

        told = book.tell(*make())

        assert isinstance(told[0], IdleCyclesCounted), name
        assert told[0].cycles == 1
        assert told[1:] == make(), name
        assert [moment for _, moment in book.lines[-len(make()) :]] == [before + 1 + n for n in range(len(make()))]
        assert book.tell(*cycle()) == [], "an hour begins anew"


def test_what_is_told_alike_in_every_cycle_is_nothing_new() -> None:
    book = Book()
    skipped = PseudoFilesystemSkipped(**PAIR, path=b"photos", file_system="proc")
    again = PseudoFilesystemSkipped(cycle_id="c2", pair="p", path=b"photos", file_system="proc")
    other = PseudoFilesystemSkipped(**PAIR, path=b"music", file_system="proc")
    book.tell(*cycle(skipped))

    assert book.tell(*cycle(again), *cycle()) == []
    assert book.tell(*cycle(again, other))[1:] == cycle(again, other)
    assert book.tell(*cycle(other)) == []
    assert book.tell(*cycle(copied(), tally=Tally(copied=1)))
    assert other in book.tell(*cycle(other)), "the last cycle that was logged did not tell it"


def test_signs_of_life_neither_release_a_cycle_nor_fill_the_memory() -> None:
    book = Book()
    book.tell(*cycle())

    assert book.tell(*cycle(*[BatchCommitted(**PAIR, tally=Tally())] * 40)) == []
    assert book.tell(STARTED, *[BatchCommitted(**PAIR, tally=Tally())] * 40) == []
    assert len(book.idle._held) == 1


def test_a_cycle_that_takes_long_is_logged_while_it_runs() -> None:
    book = Book()
    book.tell(*cycle())
    book.tell(STARTED, BEGUN)

    book.now += HELD_SECONDS
    told = book.tell(BatchCommitted(**PAIR, tally=Tally()))

    assert told[:2] == [STARTED, BEGUN]
    assert book.tell(*ended()) == ended()


def test_what_is_told_between_cycles_is_logged_at_once_and_the_end_sums_up() -> None:
    book = Book()
    book.tell(*cycle(), *cycle(), *cycle())
    between = [NextCycleDue(due_timestamp_seconds=1.0, wait_seconds=1.0), ConfigReloaded(config="c", pairs=("p",))]

    assert book.tell(*between) == between
    summary, end = book.tell(ServiceStopped(reason="SIGTERM"))
    assert isinstance(summary, IdleCyclesCounted)
    assert summary.cycles == 2
    assert isinstance(end, ServiceStopped)


def test_every_cycle_is_logged_where_everything_is_or_where_the_interval_is_0() -> None:
    for book in (Book(level="debug"), Book(interval=0.0)):
        assert book.tell(*cycle(), *cycle()) == cycle() + cycle()


@given(st.lists(st.sampled_from(["idle", *CHANGES]), min_size=1, max_size=30))
def test_every_cycle_is_in_the_log_or_in_a_sum(kinds: list[str]) -> None:
    book = Book()
    for kind in kinds:
        book.tell(*(cycle() if kind == "idle" else CHANGES[kind]()))
    book.tell(ServiceStopped(reason="SIGTERM"))

    logged = [event for event, _ in book.lines]
    summed = sum(event.cycles for event in logged if isinstance(event, IdleCyclesCounted))
    whole = sum(isinstance(event, CycleFinished) for event in logged)
    assert summed + whole == len(kinds)
    assert whole >= sum(kind != "idle" for kind in kinds)
    assert [moment for _, moment in book.lines] == sorted(moment for event, moment in book.lines), "in order of time"
