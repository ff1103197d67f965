"""When an entry is too young to be believed unchanged next time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.decide import is_racy
from job.core.record import CLOCK_GRAIN_NS
from tests.core.samples import a_file

NOW_NS = 5_000 * CLOCK_GRAIN_NS


@pytest.mark.parametrize(
    ("age_ns", "racy"),
    [(0, True), (1, True), (CLOCK_GRAIN_NS - 1, True), (CLOCK_GRAIN_NS, False), (CLOCK_GRAIN_NS + 1, False)],
)
@pytest.mark.parametrize("which", ["mtime_ns", "ctime_ns"])
def test_an_entry_is_racy_within_the_grain_of_the_clock(which: str, age_ns: int, *, racy: bool) -> None:
    assert is_racy(a_file(**{which: NOW_NS - age_ns}), NOW_NS) is racy


def test_an_entry_that_changed_after_it_was_looked_at_is_racy() -> None:
    assert is_racy(a_file(ctime_ns=NOW_NS + 1), NOW_NS)
    assert is_racy(a_file(ctime_ns=NOW_NS + 1000 * CLOCK_GRAIN_NS), NOW_NS)


@given(st.integers(NOW_NS + 10 * CLOCK_GRAIN_NS, 2**63))
def test_a_time_in_the_future_that_a_user_set_is_not_read_again_in_every_cycle(mtime_ns: int) -> None:
    # ctime says when it was set; a camera with a wrong clock must not cost a read of every picture every 30 seconds.
    assert not is_racy(a_file(mtime_ns=mtime_ns), NOW_NS)


@given(st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63))
def test_what_is_racy_stays_racy_for_everybody_who_looked_earlier(ctime_ns: int, now_ns: int) -> None:
    file = a_file(ctime_ns=ctime_ns)

    assert not is_racy(file, now_ns) or is_racy(file, now_ns - CLOCK_GRAIN_NS)
