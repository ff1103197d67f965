"""Schedules: what the texts mean, and when they are due in zones whose clocks move."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from job.core.timing import Calendar, Interval, Schedule, due_after, is_missed, parse_schedule, schedule_of

EVERY_DAY = frozenset(range(7))
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def dues(schedule: Schedule, zone: ZoneInfo, first: datetime, last: datetime) -> Iterator[datetime]:
    due = schedule.next_due(first, zone)
    while due < last:
        yield due
        due = schedule.next_due(due, zone)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("every 90 seconds", Interval(90)),
        ("every 30 minutes", Interval(1800)),
        ("every 6 hours", Interval(21600)),
        ("every 2 days", Interval(172800)),
        ("every week", Interval(604800)),
        ("every hour", Interval(3600)),
        ("every 1 hour", Interval(3600)),
        ("  EVERY  6\tHours ", Interval(21600)),
        ("daily at 02:30", Calendar(EVERY_DAY, (time(2, 30),))),
        ("Daily AT 2:30", Calendar(EVERY_DAY, (time(2, 30),))),
        ("daily at 14:30, 02:30", Calendar(EVERY_DAY, (time(2, 30), time(14, 30)))),
        ("daily at 02:30 and 14:30", Calendar(EVERY_DAY, (time(2, 30), time(14, 30)))),
        ("daily at 02:30,02:30", Calendar(EVERY_DAY, (time(2, 30),))),
        ("weekly on sunday at 04:00", Calendar(frozenset({6}), (time(4),))),
        ("weekly on Mon, thu and Saturday at 04:00, 16:00", Calendar(frozenset({0, 3, 5}), (time(4), time(16)))),
    ],
)
def test_a_schedule_is_read_whatever_its_case_and_spacing(text: str, schedule: Schedule) -> None:
    assert parse_schedule(text) == schedule


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "'every 6 hours', 'daily at 02:30' or 'weekly on sunday at 04:00'"),
        ("0 2 * * *", "'every 6 hours', 'daily at 02:30' or 'weekly on sunday at 04:00'"),
        ("daily", "'daily at 02:30'"),
        ("every 0 hours", "at least 1 second"),
        ("every 999999999999 weeks", "at most 100 years"),
        ("every -1 hours", "'every 6 hours'"),
        ("every ٣ hours", "'every 6 hours'"),
        ("every 2 fortnights", "'fortnight' is not a unit of time; write seconds"),
        ("daily at 24:00", "'24:00' is not a time of the day; write it from 00:00 to 23:59"),
        ("daily at 02:60", "'02:60' is not a time of the day"),
        ("daily at 2.30 pm", "'2.30 pm' is not a time of the day"),
        ("daily at 02:30,", "'' is not a time of the day"),
        ("weekly on funday at 04:00", "'funday' is not a day of the week"),
        ("weekly on sunday", "'weekly on sunday at 04:00'"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_would_be_right(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=r"write|at least") as refusal:
        parse_schedule(text)

    assert advice in str(refusal.value)


def test_without_a_schedule_the_sleep_time_counts() -> None:
    assert schedule_of(None, 30.0) == Interval(30.0)
    assert schedule_of("daily at 02:30", 30.0) == parse_schedule("daily at 02:30")


def test_an_interval_is_real_seconds_even_when_the_clocks_move() -> None:
    due = parse_schedule("every 15 minutes").next_due(utc("2026-10-25T00:55"), BERLIN)

    assert due == utc("2026-10-25T01:10")


def test_an_interval_longer_than_the_calendar_is_still_a_date() -> None:
    assert Interval(1e18).next_due(utc("2026-01-01T00:00"), BERLIN).year == 2125


@pytest.mark.parametrize(
    ("zone", "text", "after", "expected"),
    [
        # Forward: the time does not exist and comes as much later as the clocks moved.
        ("Europe/Berlin", "daily at 02:30", "2026-03-28T12:00", "2026-03-29T01:30"),
        ("America/New_York", "daily at 02:30", "2026-03-07T12:00", "2026-03-08T07:30"),
        ("Australia/Lord_Howe", "daily at 02:15", "2026-10-03T00:00", "2026-10-03T15:45"),
        # Back: the time comes twice and the first one counts...
        ("Europe/Berlin", "daily at 02:30", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("America/New_York", "daily at 01:30", "2026-10-31T12:00", "2026-11-01T05:30"),
        ("Australia/Lord_Howe", "daily at 01:45", "2026-04-04T00:00", "2026-04-04T14:45"),
        # ...and the second one never, not even for a cycle that ended between the two.
        ("Europe/Berlin", "daily at 02:30", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("Europe/Berlin", "daily at 02:30", "2026-10-25T01:10", "2026-10-26T01:30"),
        ("Australia/Lord_Howe", "daily at 01:45", "2026-04-04T14:50", "2026-04-05T15:15"),
        # Clocks that move at midnight, and a whole day that was left out.
        ("Africa/Cairo", "daily at 00:00", "2026-04-23T12:00", "2026-04-23T22:00"),
        ("America/Nuuk", "weekly on saturday at 23:30", "2026-03-28T12:00", "2026-03-29T01:30"),
        ("America/Nuuk", "weekly on saturday at 23:30", "2026-03-29T01:10", "2026-03-29T01:30"),
        ("America/St_Johns", "weekly on sunday at 00:00", "2010-11-07T03:00", "2010-11-14T03:30"),
        ("Pacific/Apia", "weekly on friday at 12:00", "2011-12-29T00:00", "2011-12-30T22:00"),
        ("Asia/Kolkata", "daily at 02:30", "2026-03-28T21:00", "2026-03-29T21:00"),
    ],
)
def test_due_times_on_the_nights_the_clocks_move(zone: str, text: str, after: str, expected: str) -> None:
    assert parse_schedule(text).next_due(utc(after), ZoneInfo(zone)) == utc(expected)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("text", ["daily at 00:00", "daily at 01:45", "daily at 02:15", "daily at 02:30"])
def test_a_daily_time_comes_once_a_local_day_for_a_whole_year(zone: str, text: str) -> None:
    local = ZoneInfo(zone)
    first = datetime(2026, 1, 1, tzinfo=local).astimezone(UTC) - timedelta(seconds=1)
    last = datetime(2026, 12, 31, 23, 59, tzinfo=local).astimezone(UTC)

    days = [due.astimezone(local).date() for due in dues(parse_schedule(text), local, first, last)]

    assert days == [date(2026, 1, 1) + timedelta(days=day) for day in range(365)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_weekly_time_comes_once_a_week_for_a_whole_year(zone: str) -> None:
    local = ZoneInfo(zone)

    found = list(
        dues(parse_schedule("weekly on sunday at 02:30"), local, utc("2026-01-01T00:00"), utc("2027-01-01T00:00"))
    )

    assert [due.astimezone(local).date() for due in found] == [
        date(2026, 1, 4) + timedelta(weeks=week) for week in range(52)
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("every 6 hours", 21600),
        ("daily at 02:30", 86400),
        ("daily at 02:00, 08:00, 14:00", 43200),
        ("weekly on sunday at 04:00", 604800),
        ("weekly on monday, thursday at 04:00", 4 * 86400),
        ("weekly on saturday, sunday at 04:00, 05:00", 6 * 86400 - 3600),
    ],
)
def test_the_longest_gap_is_the_longest_planned_wait(text: str, seconds: float) -> None:
    assert parse_schedule(text).longest_gap == seconds


@pytest.mark.parametrize(
    ("text", "last_success", "now", "missed"),
    [
        ("daily at 02:30", "2026-06-01T00:40", "2026-06-02T00:29", False),
        ("daily at 02:30", "2026-06-01T00:40", "2026-06-02T00:30", True),
        ("daily at 02:30", "2026-05-01T00:40", "2026-06-02T12:00", True),
        ("every 6 hours", "2026-06-01T00:00", "2026-06-01T05:59", False),
        ("every 6 hours", "2026-06-01T00:00", "2026-06-01T06:00", True),
        # A success that has not happened yet: the clock cannot be trusted, so rather once too often.
        ("daily at 02:30", "2030-01-01T00:00", "2026-06-01T12:00", True),
    ],
)
def test_a_time_is_missed_when_it_came_since_the_last_success(
    text: str, last_success: str, now: str, *, missed: bool
) -> None:
    assert is_missed(parse_schedule(text), BERLIN, utc(last_success).timestamp(), utc(now).timestamp()) is missed


def test_nothing_is_missed_before_the_first_success() -> None:
    assert not is_missed(parse_schedule("every 1 minute"), BERLIN, None, utc("2026-06-01T00:00").timestamp())


def plan(text: str, now: str, *, ended: str, due: str) -> datetime:
    times = {"now": utc(now).timestamp(), "ended": utc(ended).timestamp(), "due": utc(due).timestamp()}
    return datetime.fromtimestamp(due_after(parse_schedule(text), BERLIN, **times), UTC)


def test_a_cycle_that_ran_early_by_a_clock_set_back_does_not_meet_its_time_again() -> None:
    due = plan("daily at 02:30", "2026-06-01T00:25", ended="2026-06-01T00:25", due="2026-06-01T00:30")

    assert due == utc("2026-06-02T00:30")


def test_after_a_clock_was_set_far_back_a_time_comes_again_rather_than_a_day_late() -> None:
    due = plan("daily at 02:30", "2026-05-31T18:30", ended="2026-05-31T18:30", due="2026-06-01T00:30")

    assert due == utc("2026-06-01T00:30")


def test_an_interval_counts_from_the_end_of_the_cycle_not_from_its_planned_time() -> None:
    due = plan("every 6 hours", "2026-06-01T05:00", ended="2026-06-01T03:00", due="2026-06-01T00:00")

    assert due == utc("2026-06-01T09:00")


def test_an_edited_calendar_does_not_bring_back_a_time_that_has_passed_today() -> None:
    due = plan("daily at 11:00", "2026-06-01T10:00", ended="2026-06-01T00:40", due="2026-06-01T00:30")

    assert due == utc("2026-06-02T09:00")
