"""The rate limit on a simulated clock, and a stop that does not wait for it."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.engine.volumes import RateLimiter
from job.errors import Stopped

ROUNDING = 1e-6


@dataclass
class Clock:
    """A clock that moves only while somebody waits."""

    now: float = 1000.0
    waits: list[float] = field(default_factory=list)
    stop_after: float = float("inf")

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def stop(self) -> bool:
        return self.now >= self.stop_after


def a_pace(clock: Clock, rate_limit: int | None, told: list[int] | None = None) -> RateLimiter:
    progress = [] if told is None else told
    return RateLimiter(rate_limit, stop=clock.stop, progress=progress.append, clock=clock, wait=clock.wait)


chunks = st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 30)), min_size=1, max_size=30)


@given(st.integers(10_000, 10_000_000), chunks)
@settings(deadline=None)
def test_no_window_ever_holds_more_than_the_rate_and_one_chunk(rate: int, work: list[tuple[int, float]]) -> None:
    clock, written = Clock(), list[tuple[float, int]]()
    pace = a_pace(clock, rate)

    for count, pause in work:
        clock.now += pause
        written.append((clock.now, count))
        pace(count)

    for first, last in itertools.combinations_with_replacement(range(len(written)), 2):
        window = written[last][0] - written[first][0]
        in_window = sum(count for _, count in written[first : last + 1])
        assert in_window <= rate * window + max(count for _, count in written[first : last + 1]) + rate * ROUNDING + 1


@given(st.integers(1000, 10_000_000), st.lists(st.integers(1, 1 << 20), min_size=1, max_size=30))
@settings(deadline=None)
def test_nobody_waits_longer_than_the_rate_asks_for(rate: int, counts: list[int]) -> None:
    clock = Clock()
    pace, started = a_pace(clock, rate), clock.now

    for count in counts:
        pace(count)

    assert clock.now - started == pytest.approx(sum(counts) / rate)


def test_without_a_limit_nobody_waits() -> None:
    clock = Clock()
    pace = a_pace(clock, None)

    for _ in range(100):
        pace(1 << 20)

    assert clock.waits == []


def test_a_sign_of_life_without_bytes_is_told_and_costs_no_time() -> None:
    clock, told = Clock(), list[int]()
    pace = a_pace(clock, 1, told)

    pace(0)

    assert (told, clock.waits) == ([0], [])


def test_every_byte_is_told_once() -> None:
    told: list[int] = []
    pace = a_pace(Clock(), 100, told)

    for count in (10, 20, 30):
        pace(count)

    assert told == [10, 20, 30]


def test_a_stop_is_noticed_within_half_a_second_of_a_long_wait() -> None:
    clock = Clock(stop_after=1003.2)
    pace = a_pace(clock, 1)

    with pytest.raises(Stopped):
        pace(1_000_000)

    assert clock.now - 1003.2 <= 0.5


def test_a_stop_is_noticed_before_anything_else() -> None:
    told: list[int] = []
    pace = a_pace(Clock(stop_after=0), None, told)

    with pytest.raises(Stopped):
        pace(1)

    assert told == []
