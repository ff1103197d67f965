"""Points in time as people write them: in each zone, on the days when clocks change, and never in the future."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.cli.times import point_in_time, shown

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 11, 27, 20, 0, tzinfo=BERLIN)


def local(text: str, now: datetime = FRIDAY, zone: ZoneInfo = BERLIN) -> str:
    return point_in_time(text, now, zone).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture(params=["UTC", "Etc/GMT+12", "Pacific/Kiritimati"])
def other_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let the process have another zone than the configuration."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-11-27 20:00:00"),
        ("today", "2026-11-27 20:00:00"),
        ("yesterday", "2026-11-26 23:59:59"),
        ("yesterday 18:00", "2026-11-26 18:00:00"),
        ("Yesterday  at 6 PM", "2026-11-26 18:00:00"),
        ("noon yesterday", "2026-11-26 12:00:00"),
        ("the day before yesterday", "2026-11-25 23:59:59"),
        ("today 18:00", "2026-11-27 18:00:00"),
        ("18:00", "2026-11-27 18:00:00"),
        ("21:00", "2026-11-26 21:00:00"),
        ("3 days ago", "2026-11-24 20:00:00"),
        ("three days ago", "2026-11-24 20:00:00"),
        ("3 days ago at 18:00", "2026-11-24 18:00:00"),
        ("a week ago", "2026-11-20 20:00:00"),
        ("2 months ago", "2026-09-27 20:00:00"),
        ("90 minutes ago", "2026-11-27 18:30:00"),
        ("6h ago", "2026-11-27 14:00:00"),
        ("an hour ago", "2026-11-27 19:00:00"),
        ("wednesday", "2026-11-25 23:59:59"),
        ("last wednesday", "2026-11-25 23:59:59"),
        ("wednesday 18:00", "2026-11-25 18:00:00"),
        ("18:00 on wednesday", "2026-11-25 18:00:00"),
        ("2026-11-20", "2026-11-20 23:59:59"),
        ("2026-11-27", "2026-11-27 20:00:00"),
        ("2026-11-20 18:00", "2026-11-20 18:00:00"),
        ("2026-11-20T18:00:30", "2026-11-20 18:00:30"),
        ("2026-11-20 18:00Z", "2026-11-20 19:00:00"),
        ("2026-11-20 18:00+05:30", "2026-11-20 13:30:00"),
        ("2026-11-20 6pm", "2026-11-20 18:00:00"),
        ("nov 20", "2026-11-20 23:59:59"),
        ("20 November 2026", "2026-11-20 23:59:59"),
        ("Friday, 20 November 2026 18:00", "2026-11-20 18:00:00"),
        ("yesterday 18:00 UTC", "2026-11-26 19:00:00"),
    ],
)
def test_a_time_is_read_in_the_zone_of_the_configuration(text: str, meant: str, other_zone: str) -> None:
    assert other_zone
    assert local(text) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a point in time"),
        ("12", "not a point in time"),
        ("20261120", "not a point in time"),
        ("foo", "not a point in time"),
        ("yesterday foo", "not a point in time"),
        ("x" * 5000, "not a point in time"),
        ("05/06/2026", "which number is the day"),
        ("05/06/2026 10:00", "which number is the day"),
        ("20.11.2026", "which number is the day"),
        ("1-2-2026 at noon", "which number is the day"),
        ("2026-11-31", "no such date"),
        ("2026-11-20 25:00", "no such date or time"),
        ("2026-11-20 18:00+99:00", "no such date or time"),
        ("tomorrow", "in the future"),
        ("in 3 days", "in the future"),
        ("today 21:00", "in the future"),
        ("2026-11-28", "in the future"),
        ("2030-01-01 00:00Z", "in the future"),
        ("november", "a month, not a point in time"),
        ("last week", "a week, not a point in time"),
        ("yesterday evening", "a part of day, not a point in time"),
    ],
)
def test_what_a_text_leaves_open_is_refused_with_an_example(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        local(text)

    assert "'yesterday 18:00'" in str(caught.value)


def test_a_time_that_occurs_twice_needs_its_offset_and_one_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="occurs twice") as caught:
        local("2026-10-25 02:30")

    for written in ("2026-10-25 02:30+02:00", "2026-10-25 02:30+01:00"):
        assert written in str(caught.value)
        assert shown(point_in_time(written, FRIDAY, BERLIN), BERLIN).endswith(written[-6:].replace(":", ""))
    with pytest.raises(ValueError, match="does not exist"):
        local("2026-03-29 02:30")


def test_hours_count_as_they_pass_and_days_by_the_clock_where_clocks_change() -> None:
    after_change = datetime(2026, 10, 25, 4, 0, tzinfo=BERLIN)

    assert point_in_time("3 hours ago", after_change, BERLIN) == after_change.astimezone(UTC) - timedelta(hours=3)
    assert local("1 day ago", after_change) == "2026-10-24 04:00:00"


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati", "UTC", "America/St_Johns"])
@pytest.mark.parametrize("hour", [0, 23])
def test_the_day_is_that_of_the_zone_shortly_before_and_after_its_midnight(
    zone: str, hour: int, other_zone: str
) -> None:
    assert other_zone
    there = ZoneInfo(zone)
    now = datetime(2026, 11, 27, hour, 30, tzinfo=there)

    assert local("yesterday 18:00", now, there) == "2026-11-26 18:00:00"
    assert local("yesterday", now, there) == "2026-11-26 23:59:59"
    assert local("2026-11-20", now, there) == "2026-11-20 23:59:59"
    assert local("wednesday", now, there) == "2026-11-25 23:59:59"


def test_a_day_on_which_clocks_change_ends_at_its_midnight() -> None:
    assert local("2026-10-25") == "2026-10-25 23:59:59"
    assert local("2026-03-29") == "2026-03-29 23:59:59"


def test_what_is_shown_can_be_written_again() -> None:
    text = shown(FRIDAY, BERLIN)

    assert text == "Friday 2026-11-27 20:00:00 +0100"
    assert point_in_time(text.partition(" ")[2], FRIDAY, BERLIN) == FRIDAY


@given(st.text(max_size=40))
@settings(deadline=None)  # the first call loads the language
def test_any_text_is_read_or_refused_and_never_in_the_future(text: str) -> None:
    try:
        found = point_in_time(text, FRIDAY, BERLIN)
    except ValueError:
        return
    assert found <= FRIDAY
