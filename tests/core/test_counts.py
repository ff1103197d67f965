"""Counts that add up, whoever sums them and in which order."""

from hypothesis import given
from hypothesis import strategies as st

from job.core.counts import Counts, Tally
from job.core.outcome import Drift, Failure, Skip

counts = st.integers(0, 1_000_000)
tallies = st.builds(
    Tally,
    copied=counts,
    updated=counts,
    bytes_copied=counts,
    folders=counts,
    skipped_by=st.dictionaries(st.sampled_from(Skip), st.integers(1, 1000)),
    failed_by=st.dictionaries(st.sampled_from(Failure), st.integers(1, 1000)),
    drift_by=st.dictionaries(st.sampled_from(Drift), st.integers(1, 1000)),
)


@given(tallies, tallies)
def test_a_sum_sums_every_count(one: Tally, other: Tally) -> None:
    both = one + other

    for name in ("copied", "updated", "bytes_copied", "folders", "skipped", "failed", "entries"):
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
    for word in Skip:
        assert both.skipped_by.get(word, 0) == one.skipped_by.get(word, 0) + other.skipped_by.get(word, 0)
    for failure in Failure:
        assert both.failed_by.get(failure, 0) == one.failed_by.get(failure, 0) + other.failed_by.get(failure, 0)
    for drift in Drift:
        assert both.drift_by.get(drift, 0) == one.drift_by.get(drift, 0) + other.drift_by.get(drift, 0)


@given(tallies, tallies, tallies)
def test_the_order_of_adding_does_not_matter(one: Tally, other: Tally, third: Tally) -> None:
    assert one + other == other + one
    assert (one + other) + third == one + (other + third)
    assert one + Tally() == one


@given(tallies)
def test_every_entry_has_exactly_one_outcome(tally: Tally) -> None:
    assert tally.entries == tally.copied + tally.updated + tally.skipped + tally.failed


def test_adding_leaves_the_summands_alone() -> None:
    one, other = Tally(skipped_by={Skip.UNCHANGED: 1}), Tally(skipped_by={Skip.UNCHANGED: 2})

    total = one + other

    assert total.skipped_by == {Skip.UNCHANGED: 3}
    assert (one.skipped_by, other.skipped_by) == ({Skip.UNCHANGED: 1}, {Skip.UNCHANGED: 2})


def test_counting_on_does_not_change_a_tally_that_was_given_out() -> None:
    counting = Counts()
    counting.copied += 1
    counting.failed[Failure.NAME] += 1
    given_out = counting.tally()

    counting.copied += 1
    counting.failed[Failure.NAME] += 1

    assert given_out == Tally(copied=1, failed_by={Failure.NAME: 1})
