"""How far the work is: never beyond the whole, and at its end when everything is done."""

import os
from collections.abc import Callable

import pytest

from job.engine.context import PairRun, Progress
from job.engine.scan import ScanResult
from job.errors import Stopped
from job.events.pair import Progressed
from tests.engine.workshop import Told, Workshop

TICK_NS = 1_000_000_000


class Clock:
    """Every look at it takes a second."""

    now_ns = 0

    def __call__(self) -> int:
        self.now_ns += TICK_NS
        return self.now_ns


def a_meter(
    shop: Workshop, told: Told, stop: Callable[[], bool] = bool, clock: Callable[[], int] | None = None
) -> Progress:
    return Progress(PairRun("cycle", shop.pair, told.hear, stop, clock or Clock()))


def test_entries_and_bytes_add_up_to_the_whole(shop: Workshop) -> None:
    for name in ("copied", "kept", "sub/mode", "sub/reserved"):
        shop.write(name)
    (shop.source / "link").symlink_to("kept")
    shop.cycle()
    shop.write("copied", "longer than before")
    (shop.source / "sub/mode").chmod(0o600)
    shop.write("sub/.truecopy-tmp-mine")
    os.mkfifo(shop.source / "pipe")
    ahead = shop.now_ns

    def leaping() -> int:
        shop.ahead_ns += 250_000_000
        return ahead()

    shop.now_ns = leaping  # type: ignore[method-assign]  # every step is told when time flies
    told = shop.cycle()

    steps = told.of(Progressed)
    acting = [step for step in steps if step.phase == "copy"]
    assert [step.phase for step in steps] == sorted((step.phase for step in steps), reverse=True)
    assert acting[-1].entries == acting[-1].entries_total == 7
    assert all(step.entries <= step.entries_total and step.bytes <= step.bytes_total for step in acting)
    assert [step.entries for step in acting] == sorted(step.entries for step in acting)


def test_progress_is_told_a_few_times_a_second_at_most(shop: Workshop) -> None:
    told, clock = Told(), Clock()
    progress = a_meter(shop, told, clock=clock)
    found = ScanResult()
    found.entries_to_sync = 1000
    progress.start_sync(found)
    clock.now_ns = 0

    frozen = clock()
    progress = a_meter(shop, told := Told(), clock=lambda: frozen)
    for _ in range(1000):
        progress.entry_done()

    assert len(told.events) <= 1


def test_a_clock_that_goes_back_does_not_silence_the_meter(shop: Workshop) -> None:
    told, times = Told(), iter([10**18, 10**18, 5, 5, 5, 5])
    progress = a_meter(shop, told, clock=lambda: next(times))

    progress.entry_done()
    progress.entry_done()

    assert [step.entries for step in told.of(Progressed)] == [1, 2]


def test_a_stop_ends_the_look(shop: Workshop) -> None:
    with pytest.raises(Stopped):
        a_meter(shop, Told(), stop=lambda: True).scanned(ScanResult())


def test_bytes_that_need_no_copying_count_as_passed(shop: Workshop) -> None:
    told = Told()
    progress = a_meter(shop, told)
    found = ScanResult()
    found.entries_to_sync, found.bytes_to_sync = 2, 30
    progress.start_sync(found)

    progress.bytes_copied(20)
    progress.entry_done()
    progress.entry_done(10)

    last = told.of(Progressed)[-1]
    assert (last.entries, last.entries_total, last.bytes, last.bytes_total) == (2, 2, 30, 30)
