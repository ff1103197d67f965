"""Retention: golden cases of each rule, guards that no clock and no rule overcomes, and the doubts about a clock."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from job.core.retention import (
    FLOOR,
    ClockDoubt,
    Keep,
    KeepCounts,
    KeepFor,
    MostVersions,
    Retention,
    VersionFate,
    doubt_clock,
    folders_to_give_up,
    is_futile,
    may_retire,
    next_due,
    rule_text,
)
from job.core.versions import Moment, OrphanRow, moment_of

DAY = 86400
BERLIN = ZoneInfo("Europe/Berlin")
MONTH = KeepFor(30 * DAY)


def at(text: str) -> Moment:
    """Give the moment of a time in UTC."""
    return Moment(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()))


NOW = at("2026-11-30 12:00").seconds


def recent(count: int = FLOOR) -> list[Moment]:
    """Give the newest folders, so that the floor holds nothing else."""
    return [Moment(NOW - number) for number in range(count)]


def fates(keep: Keep, *texts: str, zone: ZoneInfo = BERLIN, held: bool = True) -> list[str]:
    moments = [at(text) for text in texts]
    retention = Retention(keep, sorted([*moments, *recent()]), NOW, zone)
    return [str(fate) for fate in retention.fates(moments, held=held).values()]


def test_versions_are_kept_for_a_time_from_when_they_were_replaced() -> None:
    assert fates(MONTH, "2026-10-31 11:59:59", "2026-10-31 12:00", "2026-11-29 00:00") == ["old", "young", "young"]


def test_the_newest_version_of_a_path_that_the_mirror_does_not_hold_stays_for_ever() -> None:
    assert fates(MONTH, "2001-01-01", "2002-01-01", held=False) == ["old", "newest"]
    assert fates(MONTH, "2001-01-01", "2002-01-01") == ["old", "old"]
    assert fates(KeepCounts(daily=1), "2001-01-01", held=False) == ["newest"]


def test_versions_of_a_disk_that_comes_back_after_two_months_keep_a_floor() -> None:
    moments = [Moment(NOW - 60 * DAY - number * DAY) for number in range(40)]
    retention = Retention(MONTH, sorted(moments), NOW, BERLIN)

    found = retention.fates(moments, held=True)

    assert [moment for moment, fate in found.items() if not fate.expires] == sorted(moments)[-FLOOR:]


def test_folders_from_the_future_are_no_floor_and_stay() -> None:
    future = [Moment(NOW + number * DAY) for number in range(1, FLOOR + 1)]
    past = [Moment(NOW - 60 * DAY - number) for number in range(FLOOR + 1)]
    retention = Retention(MONTH, sorted([*future, *past]), NOW, BERLIN)

    found = retention.fates([*future, *past], held=True)

    assert retention.future == future
    assert {found[moment] for moment in future} == {VersionFate.FUTURE}
    assert [moment for moment, fate in found.items() if fate.expires] == [past[-1]]


def test_a_version_from_the_future_does_not_stand_in_for_the_newest_good_one() -> None:
    moments = [Moment(NOW - 90 * DAY), Moment(NOW + DAY)]
    retention = Retention(MONTH, sorted([*moments, *recent()]), NOW, BERLIN)

    assert [*retention.fates(moments, held=False).values()] == [VersionFate.NEWEST, VersionFate.FUTURE]


def test_the_newest_version_by_the_order_of_cycles_stays_if_the_clock_was_wrong_when_it_was_made() -> None:
    before, deleted_in_2020 = at("2026-10-01"), at("2020-01-01")
    retention = Retention(MONTH, [before, deleted_in_2020, *reversed(recent())], NOW, BERLIN)

    found = retention.fates([before, deleted_in_2020], held=False)

    assert found == {deleted_in_2020: VersionFate.NEWEST, before: VersionFate.NEWEST}


def test_of_each_day_the_content_that_stood_at_its_beginning_is_kept() -> None:
    assert fates(
        KeepCounts(daily=3),
        "2026-11-27 08:00",
        "2026-11-28 08:00",
        "2026-11-28 15:00",
        "2026-11-28 23:00",  # midnight in Berlin, so the next content stood there when the new day began
        "2026-11-28 23:00:01",
        "2026-11-29 20:00",
    ) == ["between", "daily", "between", "between", "daily", "between"]


def test_counts_are_of_days_that_have_versions_so_that_an_absent_disk_keeps_its_history() -> None:
    assert fates(KeepCounts(daily=4), "2025-01-01", "2025-02-01", "2025-03-01", "2026-11-29") == [
        "between",
        "daily",
        "daily",
        "daily",
    ]


def test_a_version_is_kept_by_any_of_the_counts() -> None:
    found = fates(
        KeepCounts(hourly=1, daily=3, weekly=3, monthly=12),
        "2026-01-15 10:00",  # the first of January
        "2026-01-15 11:00",
        "2026-11-16 10:00",  # the first of its week
        "2026-11-28 10:00",  # the first of its day
        "2026-11-29 10:00",
        "2026-11-30 10:20",
        "2026-11-30 11:10",  # the first of its hour
        "2026-11-30 11:20",
    )

    assert found == ["monthly", "between", "weekly", "daily", "daily", "daily", "hourly", "between"]


def test_a_start_that_wanders_around_midnight_loses_no_day() -> None:
    # At 00:10, at 23:50 of the same day, and at 00:10 two days later, which has what stood when the day between began.
    assert fates(KeepCounts(daily=30), "2026-11-19 23:10", "2026-11-20 22:50", "2026-11-21 23:10", zone=BERLIN) == [
        "daily",
        "between",
        "daily",
    ]


def test_an_hour_that_occurs_twice_is_two_hours() -> None:
    # On 2026-10-25 clocks in Berlin go back from 03:00 to 02:00, at 01:00 UTC.
    assert fates(KeepCounts(hourly=99), "2026-10-25 00:10", "2026-10-25 00:50", "2026-10-25 01:10") == [
        "hourly",
        "between",
        "hourly",
    ]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "Australia/Lord_Howe"])
def test_days_are_those_of_the_zone_at_its_midnight(zone: str) -> None:
    there = ZoneInfo(zone)
    before, after = (
        Moment(int(datetime(2026, 11, day, hour, minute, tzinfo=there).timestamp()))
        for day, hour, minute in ((20, 23, 30), (21, 0, 30))
    )
    retention = Retention(KeepCounts(daily=9), sorted([before, after, *recent()]), NOW, there)

    assert [*retention.fates([before, after], held=True).values()] == [VersionFate.DAILY, VersionFate.DAILY]


def test_two_folders_of_one_second_are_in_order() -> None:
    first, second = Moment(NOW - 99 * DAY), Moment(NOW - 99 * DAY, 2)
    retention = Retention(KeepCounts(daily=9), sorted([second, first, *recent()]), NOW, BERLIN)

    assert retention.fates([second, first], held=True) == {first: VersionFate.DAILY, second: VersionFate.BETWEEN}
    assert second.name == first.name + b"-2"
    assert moment_of(second.name) == second


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"20261130T173000",
        b"20261130T173000Z-1",
        b"20261130T173000Z-02",
        b"20261330T173000Z",
        b"20261130T176000Z",
        b"20261130T173000Z\n",
        b"../20261130T173000Z",
        b"20261130T173000Z-2/x",
        b"\xd9\xa20261130T173000Z",
    ],
)
def test_a_folder_of_another_name_is_no_version_folder(name: bytes) -> None:
    assert moment_of(name) is None


def test_a_full_disk_takes_the_oldest_folders_and_never_the_floor_nor_the_future() -> None:
    old, new, future = [Moment(NOW - 9), Moment(NOW - 99)], recent(), [Moment(NOW + 9)]
    retention = Retention(MONTH, sorted([*old, *new, *future]), NOW, BERLIN)

    assert [*folders_to_give_up([*future, *new, *old], retention)] == [Moment(NOW - 99), Moment(NOW - 9)]


@pytest.mark.parametrize(
    ("free", "futile"),
    [([], False), ([5], False), ([5, 5], False), ([5, 5, 5], True), ([5, 9, 9], False), ([5, 9, 9, 9], True)],
)
def test_giving_up_versions_ends_when_two_batches_free_nothing(free: list[int], futile: bool) -> None:  # noqa: FBT001
    assert is_futile(free) is futile


def test_the_limit_is_a_share_of_the_disk_or_bytes() -> None:
    assert MostVersions(share=0.2).in_bytes(1000) == 200
    assert MostVersions(bytes=5 << 30).in_bytes(1000) == 5 << 30


def test_the_next_expiry_is_when_the_oldest_folder_grows_too_old() -> None:
    folders = [Moment(NOW - 40 * DAY), Moment(NOW - 10 * DAY), Moment(NOW - DAY)]

    assert next_due(MONTH, folders, NOW) == NOW + 20 * DAY
    assert next_due(KeepCounts(daily=7), folders, NOW) == float("inf")
    assert next_due(KeepCounts(daily=7), [*folders, Moment(NOW + 5)], NOW) == NOW + 5
    assert next_due(MONTH, [], NOW) == float("inf")


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        (MONTH, "30 days"),
        (KeepFor(DAY), "1 day"),
        (KeepFor(1.5 * DAY), "1.5 days"),
        (KeepCounts(24, 0, 4, 12), "24 hourly, 4 weekly, 12 monthly"),
    ],
)
def test_a_rule_is_shown_in_words(keep: Keep, text: str) -> None:
    assert rule_text(keep) == text


WEEK = 7 * DAY


@pytest.mark.parametrize(
    ("age", "scans", "retired"),
    [(WEEK, 2, True), (WEEK - 1, 99, False), (WEEK, 1, False), (99 * WEEK, 0, False), (-1, 99, False)],
)
def test_an_entry_that_left_the_source_is_retired_after_a_time_and_two_complete_scans(
    age: int,
    scans: int,
    retired: bool,  # noqa: FBT001
) -> None:
    orphan = OrphanRow(b"name", 0o100644, 5, (NOW - age) * 10**9, scan=40)

    assert may_retire(orphan, NOW, 40 + scans, WEEK) is retired


def test_an_entry_whose_absence_was_noticed_in_the_future_is_not_retired_at_once() -> None:
    orphan = OrphanRow(b"name", 0o100644, 5, (NOW + DAY) * 10**9, scan=40)

    assert not may_retire(orphan, NOW, 99, 0)


HOUR = 3600.0


@pytest.mark.parametrize(
    ("now", "last", "interval", "disk", "doubt"),
    [
        (1000.0, 970.0, 30.0, 1000.0, None),
        (1000.0 + DAY, 1000.0, DAY, None, None),
        (1000.0 + DAY + 7200, 1000.0, DAY, None, None),  # cron with jitter
        (1000.0 + HOUR, 1000.0, 30.0, None, None),  # a long suspension
        (1000.0 + 2 * DAY + 1, 1000.0, DAY, None, ClockDoubt.AHEAD),  # a holiday
        (1000.0 + 3651 * DAY, 1000.0, DAY, None, ClockDoubt.AHEAD),
        (999.0, 1000.0, DAY, None, ClockDoubt.BEHIND),
        (1000.0, None, DAY, None, ClockDoubt.AHEAD),  # the first cycle on this mirror
        (1000.0, 970.0, 30.0, 1301.0, ClockDoubt.DISK),
        (1000.0, 970.0, 30.0, 699.0, ClockDoubt.DISK),
        (1000.0, 970.0, 30.0, 1300.0, None),
    ],
)
def test_a_clock_that_jumped_lets_nothing_expire(
    now: float, last: float | None, interval: float, disk: float | None, doubt: ClockDoubt | None
) -> None:
    assert doubt_clock(now, last, interval, disk) is doubt


def test_after_a_pause_the_second_cycle_is_believed() -> None:
    back = 1000.0 + 60 * DAY

    assert doubt_clock(back, 1000.0, DAY, None) is ClockDoubt.AHEAD
    assert doubt_clock(back + DAY, back + 60, DAY, None) is None
