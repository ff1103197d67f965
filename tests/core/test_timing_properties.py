"""Schedules against properties that hold in every zone, and against a slow oracle that looks at every minute."""

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.timing import Calendar, Interval, Schedule, parse_schedule

MOVING = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Chatham"]

times_of_day = st.builds(time, st.integers(0, 23), st.integers(0, 59))
calendars = st.builds(
    Calendar,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.sets(times_of_day, min_size=1, max_size=4).map(lambda found: tuple(sorted(found))),
)
schedules = st.one_of(calendars, st.floats(0.001, 1e7).map(Interval))
instants = st.datetimes(datetime(1990, 1, 1), datetime(2037, 12, 1)).map(lambda found: found.replace(tzinfo=UTC))  # noqa: DTZ001 (made aware at once)
zones = st.timezones()
moving_zones = st.sampled_from(MOVING).map(ZoneInfo)
steps = st.timedeltas(timedelta(0), timedelta(days=10))


@given(schedules, zones, instants)
@settings(deadline=None)
def test_the_next_due_time_is_strictly_later_and_not_beyond_reach(
    schedule: Schedule, zone: ZoneInfo, after: datetime
) -> None:
    due = schedule.next_due(after, zone)

    assert due > after
    assert due.utcoffset() == timedelta(0)
    # Two hours a season, and Samoa's missing day: nothing moves a due time further.
    assert (due - after).total_seconds() <= schedule.longest_gap + 26 * 3600


@given(schedules, zones, instants, steps)
@settings(deadline=None)
def test_waiting_never_makes_a_due_time_earlier(
    schedule: Schedule, zone: ZoneInfo, after: datetime, step: timedelta
) -> None:
    assert schedule.next_due(after + step, zone) >= schedule.next_due(after, zone)


@given(calendars, zones, instants, st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_a_calendar_has_no_memory(schedule: Calendar, zone: ZoneInfo, after: datetime, part: float) -> None:
    due = schedule.next_due(after, zone)
    between = after + (due - after) * part

    assert between == due or schedule.next_due(between, zone) == due


@given(times_of_day, moving_zones, st.integers(1990, 2036))
@settings(deadline=None, max_examples=25)
def test_a_daily_time_comes_exactly_once_a_local_day(moment: time, zone: ZoneInfo, year: int) -> None:
    schedule = parse_schedule(f"daily at {moment:%H:%M}")
    start = datetime(year, 1, 1, tzinfo=zone)
    days: Counter[object] = Counter()

    due = schedule.next_due(start.astimezone(UTC) - timedelta(seconds=1), zone)
    while due.astimezone(zone).year == year:
        days[due.astimezone(zone).date()] += 1
        due = schedule.next_due(due, zone)

    assert set(days.values()) == {1}
    assert len(days) == (datetime(year + 1, 1, 1, tzinfo=UTC) - datetime(year, 1, 1, tzinfo=UTC)).days


some_days = given(
    calendars, moving_zones, st.sampled_from(["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25"])
)


@some_days
@settings(deadline=None, max_examples=12)
def test_due_times_are_those_that_a_look_at_every_minute_finds(schedule: Calendar, zone: ZoneInfo, day: str) -> None:
    rings_each_minute(schedule, zone, day)


@pytest.mark.slow
@some_days
@settings(deadline=None, max_examples=300)
def test_due_times_of_many_calendars_are_those(schedule: Calendar, zone: ZoneInfo, day: str) -> None:
    rings_each_minute(schedule, zone, day)


def rings_each_minute(schedule: Calendar, zone: ZoneInfo, day: str) -> None:
    """Insist that a schedule is due in those minutes in which a clock on the wall rings."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=2)
    minutes = [start + timedelta(minutes=count) for count in range(4 * 1440)]
    last = minutes[-1]

    found = {due for minute in minutes if (due := schedule.next_due(minute - timedelta(seconds=1), zone)) <= last}

    assert found == {minute for minute in minutes if _rings(schedule, minute, zone)}


def _rings(schedule: Calendar, minute: datetime, zone: ZoneInfo) -> bool:
    """Whether a clock on the wall rings now: late for a time that was jumped over, never for one shown again."""
    shown = minute.astimezone(zone)
    moved = _offset(minute, zone) - _offset(minute - timedelta(hours=3), zone)
    missing = shown.replace(tzinfo=None) - moved
    rings = shown.fold == 0 and _named(schedule, shown)
    return rings or (moved > timedelta(0) and not _exists(missing, zone) and _named(schedule, missing))


def _offset(minute: datetime, zone: ZoneInfo) -> timedelta:
    return minute.astimezone(zone).utcoffset() or timedelta(0)


def _exists(shown: datetime, zone: ZoneInfo) -> bool:
    return shown.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == shown


def _named(schedule: Calendar, shown: datetime) -> bool:
    return shown.weekday() in schedule.weekdays and shown.time() in schedule.times
