"""The brake: when it trips, what counts, and that an approval releases exactly what was held."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.brake import (
    MOST_EXAMPLES,
    BrakeLimits,
    ContentChange,
    DestructiveCounts,
    change_digest,
    content_change,
    needs_sample,
    plan_hash,
    why_held,
)
from job.core.entry import Entry
from job.core.outcome import BrakeReason

DEFAULT = BrakeLimits()
FILE = Entry(b"file", 7, stat.S_IFREG | 0o644, 1000, 1000, 500, 10**18, 10**18 + 5)
LINK = FILE._replace(mode=stat.S_IFLNK | 0o777, size=4)

numbers = st.integers(0, 10**6)
counts_of = st.builds(DestructiveCounts, numbers, numbers, st.just(0), st.just(()))
entries = st.builds(Entry, st.just(b"n"), *[st.integers(0, 2**64 - 1)] * 7)
digests = st.sets(st.binary(min_size=16, max_size=16))
plans = st.dictionaries(st.binary(), digests)


@pytest.mark.parametrize(
    ("counts", "known", "reason"),
    [
        (DestructiveCounts(), 1000, None),
        (DestructiveCounts(replaced=300), 1000, None),
        (DestructiveCounts(replaced=301), 1000, "share"),
        (DestructiveCounts(retired=301), 1000, "share"),
        (DestructiveCounts(replaced=200, retired=101), 1000, "share"),
        (DestructiveCounts(replaced=100), 100, None),  # a small tree may change as a whole
        (DestructiveCounts(replaced=101), 101, "share"),
        (DestructiveCounts(replaced=5000), 100_000, None),
        (DestructiveCounts(replaced=101, emptied=100), 100_000, None),
        (DestructiveCounts(replaced=101, emptied=101), 100_000, "emptied"),
        (DestructiveCounts(replaced=1, canaries=(b"do not touch.doc",)), 100_000, "canary"),
        (DestructiveCounts(canaries=(b"do not touch.doc",)), 100_000, "canary"),
        (DestructiveCounts(replaced=10**6, emptied=10**6), 0, None),  # a first adoption
    ],
)
def test_each_condition_trips_by_itself_and_none_at_its_limit(
    counts: DestructiveCounts, known: int, reason: str | None
) -> None:
    assert why_held(counts, known, DEFAULT) == reason


@given(counts_of, st.integers(1, 10**6))
def test_only_false_turns_the_brake_off_and_zero_trips_on_the_first_file(counts: DestructiveCounts, known: int) -> None:
    strict = BrakeLimits(share=0.0, files=0)

    assert (why_held(counts, known, strict) is not None) is (counts.total > 0)
    assert why_held(counts._replace(canaries=(b"x",)), known, None) is None


@given(counts_of, counts_of, st.integers(0, 10**6))
def test_more_destruction_never_releases_the_brake(
    counts: DestructiveCounts, more: DestructiveCounts, known: int
) -> None:
    if why_held(counts, known, DEFAULT) is not None:
        assert why_held(counts + more, known, DEFAULT) is not None


def test_a_held_pair_stays_so_until_nothing_destructive_is_left() -> None:
    few = DestructiveCounts(replaced=1)

    assert why_held(few, 1000, DEFAULT) is None
    assert why_held(few, 1000, DEFAULT, held_before=True) is BrakeReason.SHARE
    assert why_held(few, 0, DEFAULT, held_before=True) is BrakeReason.SHARE  # its index was lost
    assert why_held(DestructiveCounts(), 1000, DEFAULT, held_before=True) is None


def test_the_counts_of_processes_add_up_with_some_examples() -> None:
    one = DestructiveCounts(1, 2, 1, (b"a",) * 7)
    other = DestructiveCounts(10, 20, 10, (b"b",) * 7)

    assert one + other == DestructiveCounts(11, 22, 11, (b"a",) * 7 + (b"b",) * 3)
    assert len((one + other).canaries) == MOST_EXAMPLES


@pytest.mark.parametrize(
    ("now", "change"),
    [
        (FILE, "none"),
        (FILE._replace(mode=stat.S_IFREG | 0o600, ctime_ns=2 * 10**18), "doubtful"),  # chmod, or a content written back
        (FILE._replace(uid=0, gid=0, ctime_ns=2 * 10**18), "doubtful"),
        (FILE._replace(size=501), "replaced"),
        (FILE._replace(mtime_ns=1), "replaced"),
        (FILE._replace(size=0), "emptied"),
        (FILE._replace(inode=8), "doubtful"),
        (LINK, "replaced"),
        (FILE._replace(mode=stat.S_IFDIR), "replaced"),
    ],
)
def test_listings_tell_what_becomes_of_a_content(now: Entry, change: str) -> None:
    assert content_change(FILE, now) == change


def test_an_empty_file_cannot_be_emptied_and_the_text_of_a_link_is_a_content() -> None:
    empty = FILE._replace(size=0)

    assert content_change(empty, empty._replace(mtime_ns=1)) is ContentChange.REPLACED
    assert content_change(LINK, LINK) is ContentChange.NONE
    assert content_change(LINK, LINK._replace(ctime_ns=1)) is ContentChange.NONE
    assert content_change(LINK, LINK._replace(mtime_ns=1)) is ContentChange.REPLACED


@given(entries, st.integers(0, 0o7777))
def test_a_mass_chmod_is_never_counted_as_replaced(entry: Entry, mode: int) -> None:
    before = entry._replace(mode=stat.S_IFREG | 0o644)
    now = before._replace(mode=stat.S_IFREG | mode, ctime_ns=before.ctime_ns + 1)

    assert content_change(before, now) is ContentChange.DOUBTFUL


@pytest.mark.parametrize(
    ("replaced", "doubtful", "wanted"),
    [(0, 0, False), (0, 300, False), (0, 301, True), (200, 101, True), (301, 500, False), (0, 100, False)],
)
def test_doubtful_files_are_read_first_only_if_they_decide(replaced: int, doubtful: int, wanted: bool) -> None:  # noqa: FBT001
    assert needs_sample(replaced, doubtful, 1000, DEFAULT) is wanted
    assert not needs_sample(replaced, doubtful, 1000, None)


@given(st.binary(min_size=1), entries, st.sampled_from(Entry._fields), st.integers(0, 2**64 - 1))
def test_any_change_of_a_file_is_another_change_but_of_its_owner(
    name: bytes, entry: Entry, changed: str, value: int
) -> None:
    other = Entry(**{**entry._asdict(), changed: name if changed == "name" else value})

    is_same = changed in {"name", "uid", "gid"} or getattr(entry, changed) == value
    assert (change_digest(name, entry) == change_digest(name, other)) is is_same
    assert change_digest(name, entry) != change_digest(name + b"x", entry)
    assert change_digest(name, None) != change_digest(name, entry)


@given(plans)
def test_the_hash_of_a_plan_does_not_depend_on_any_order(plan: dict[bytes, set[bytes]]) -> None:
    backwards = {folder: sorted(changes, reverse=True) for folder, changes in reversed(plan.items())}

    assert plan_hash(plan) == plan_hash(backwards)
    assert plan_hash(plan) == plan_hash({**plan, b"nothing in it": ()} if b"nothing in it" not in plan else plan)


@given(plans, plans)
def test_any_change_of_a_plan_changes_its_hash(one: dict[bytes, set[bytes]], other: dict[bytes, set[bytes]]) -> None:
    def filled(plan: dict[bytes, set[bytes]]) -> dict[bytes, set[bytes]]:
        return {folder: changes for folder, changes in plan.items() if changes}

    assert (plan_hash(one) == plan_hash(other)) is (filled(one) == filled(other))


@given(plans, st.binary(min_size=16, max_size=16), st.binary())
def test_one_change_more_is_another_plan(plan: dict[bytes, set[bytes]], change: bytes, folder: bytes) -> None:
    more = {**plan, folder: plan.get(folder, set()) | {change}}

    assert (plan_hash(plan) == plan_hash(more)) is (change in plan.get(folder, set()))
