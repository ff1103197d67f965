"""The seam over `schedule`, with clocks that do what clocks do to services."""

import os
import time
from collections.abc import Iterator

import pytest
import schedule

from job.service import LEAST_PAUSE_SECONDS, Clockwork

NOON = 1_780_000_000.0


class Clocks:
    """A wall clock that can be set, and a monotonic clock that cannot."""

    def __init__(self) -> None:
        self.wall_seconds = NOON
        self.monotonic_seconds = 5000.0

    def wall(self) -> float:
        return self.wall_seconds

    def monotonic(self) -> float:
        return self.monotonic_seconds

    def pass_by(self, seconds: float) -> None:
        self.wall_seconds += seconds
        self.monotonic_seconds += seconds

    def set_wall(self, by: float) -> None:
        self.wall_seconds += by

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: the monotonic clock stands still."""
        self.wall_seconds += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def clockwork(clocks: Clocks) -> Clockwork:
    return Clockwork(wall=clocks.wall, monotonic=clocks.monotonic)


@pytest.fixture(params=["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"])
def process_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_an_action_runs_once_at_its_time(clocks: Clocks, clockwork: Clockwork) -> None:
    runs: list[float] = []
    clockwork.plan(NOON + 60, lambda: runs.append(clocks.wall()))

    clocks.pass_by(59.9)
    early = clockwork.run_pending()
    clocks.pass_by(0.1)
    in_time = clockwork.run_pending()
    clocks.pass_by(3600)
    again = clockwork.run_pending()

    assert (early, in_time, again) == (False, True, False)
    assert runs == [NOON + 60]


def test_without_a_plan_nothing_is_due(clockwork: Clockwork) -> None:
    assert clockwork.idle_seconds is None
    assert not clockwork.run_pending()


def test_a_time_in_the_past_means_now(clockwork: Clockwork) -> None:
    clockwork.plan(NOON - 3600, lambda: None)

    assert clockwork.idle_seconds == 0.0
    assert clockwork.run_pending()


def test_a_new_plan_replaces_the_old_one(clocks: Clocks, clockwork: Clockwork) -> None:
    runs: list[str] = []
    clockwork.plan(NOON + 60, lambda: runs.append("old"))
    clockwork.plan(NOON + 120, lambda: runs.append("new"))

    clocks.pass_by(60)
    clockwork.run_pending()
    clocks.pass_by(60)
    clockwork.run_pending()

    assert runs == ["new"]


def test_the_zone_of_the_process_and_its_night_of_change_do_not_matter(process_zone: str, clocks: Clocks) -> None:
    clocks.wall_seconds = 1792889700.0  # 2026-10-25T00:55Z: in five minutes the clocks go back in Berlin
    clockwork = Clockwork(wall=clocks.wall, monotonic=clocks.monotonic)
    runs = 0

    def run() -> None:
        nonlocal runs
        runs += 1
        clockwork.plan(clocks.wall() + 900, run)

    clockwork.plan(clocks.wall() + 900, run)
    for _ in range(8):
        clocks.pass_by(900)
        clockwork.run_pending()

    assert runs == 8, process_zone


def test_an_action_that_raises_is_not_found_due_again(clocks: Clocks, clockwork: Clockwork) -> None:
    runs = 0

    def fail() -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError("broken")

    clockwork.plan(NOON, fail)
    with pytest.raises(RuntimeError, match="broken"):
        clockwork.run_pending()
    for _ in range(5):
        clockwork.run_pending()
    clocks.pass_by(3600)
    clockwork.run_pending()

    assert runs == 1
    assert clockwork.idle_seconds is None


def test_an_action_may_plan_its_successor(clocks: Clocks, clockwork: Clockwork) -> None:
    clockwork.plan(NOON, lambda: clockwork.plan(NOON + 600, lambda: None))

    clockwork.run_pending()
    clocks.pass_by(599)

    assert clockwork.idle_seconds == 1.0


def test_there_is_a_pause_after_every_action_even_when_the_next_is_long_due(
    clocks: Clocks, clockwork: Clockwork
) -> None:
    clockwork.plan(NOON, lambda: clocks.pass_by(30))
    clockwork.run_pending()

    clockwork.plan(NOON, lambda: None)

    assert clockwork.idle_seconds == LEAST_PAUSE_SECONDS
    assert not clockwork.run_pending()
    clocks.pass_by(LEAST_PAUSE_SECONDS)
    assert clockwork.run_pending()


def test_a_clock_set_back_does_not_stall_the_plan(clocks: Clocks, clockwork: Clockwork) -> None:
    clockwork.plan(NOON + 60, lambda: None)

    clocks.pass_by(10)
    clocks.set_wall(-6 * 3600)

    assert clockwork.idle_seconds == 50.0
    clocks.pass_by(50)
    assert clockwork.run_pending()


def test_a_clock_set_forward_makes_the_plan_due(clocks: Clocks, clockwork: Clockwork) -> None:
    clockwork.plan(NOON + 3600, lambda: None)

    clocks.set_wall(6 * 3600)

    assert clockwork.run_pending()


def test_a_machine_that_slept_over_the_time_makes_up_for_it_once(clocks: Clocks, clockwork: Clockwork) -> None:
    runs: list[float] = []
    clockwork.plan(NOON + 3600, lambda: runs.append(clocks.wall()))

    clocks.suspend(5 * 86400)
    clockwork.run_pending()
    clockwork.run_pending()

    assert runs == [NOON + 5 * 86400]


def test_the_default_scheduler_of_the_library_stays_untouched(clockwork: Clockwork) -> None:
    clockwork.plan(NOON + 60, lambda: None)

    assert schedule.get_jobs() == []
