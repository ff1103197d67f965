"""Schedules: their texts, and when the next cycle is due in a time zone. Pure; `now` is an argument.

Instants are aware UTC datetimes, independent of the zone of the process. Two kinds of schedule:

* an interval (`every 6 hours`, and `sleep_time`) counts seconds from the end of a cycle to the start of the next;
* a calendar (`daily at 02:30`, `weekly on sunday at 04:00`) is local time of its zone, exactly once for each named day.
  If clocks go forward over the time, it is later by the same amount (02:30 becomes 03:30; if that is named too, both
  are one). If they go back and the time occurs twice, the first counts.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import NamedTuple

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EVERY_DAY = frozenset(range(7))
_LONGEST_SECONDS = 100 * 365 * 86400.0
"""A hundred years: practically never, and the sum with any `now` is still a date."""

_SAME_TIME_SECONDS = 600.0

_EVERY = re.compile(r"every(?: (?P<count>\d{1,12}))? (?P<unit>[a-z]+?)s?", re.ASCII)
_DAILY = re.compile(r"daily at (?P<times>.+)")
_WEEKLY = re.compile(r"weekly on (?P<days>[a-z, ]+?) at (?P<times>.+)")
_TIME = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d{2})", re.ASCII)
_LIST = re.compile(r" ?, ?| and ")


class Interval(NamedTuple):
    """Seconds from the end of a cycle to the start of the next."""

    seconds: float

    @property
    def longest_gap(self) -> float:
        """The longest planned wait, in seconds."""
        return self.seconds

    def next_due(self, after: datetime, zone: tzinfo) -> datetime:  # noqa: ARG002 (the same call for both kinds)
        """Return the due time of the cycle after one that ended at `after`."""
        return after + timedelta(seconds=min(self.seconds, _LONGEST_SECONDS))


class Calendar(NamedTuple):
    """Times of the day on days of the week (Monday is 0), in local time of a zone."""

    weekdays: frozenset[int]
    times: tuple[time, ...]

    @property
    def longest_gap(self) -> float:
        """The longest planned wait, in seconds of local time: a day is 86400, even when clocks change."""
        minutes = sorted(
            day * 1440 + moment.hour * 60 + moment.minute for day in self.weekdays for moment in self.times
        )
        around = [*minutes, minutes[0] + 7 * 1440]
        return 60.0 * max(later - earlier for earlier, later in pairwise(around))

    def next_due(self, after: datetime, zone: tzinfo) -> datetime:
        """Return the first instant strictly later than `after`, in UTC."""
        return min(instant for instant in self._around(after.astimezone(zone).date(), zone) if instant > after)

    def _around(self, day: date, zone: tzinfo) -> Iterator[datetime]:
        # From the day before, since a skipped time may fall after midnight. To the day after the same weekday of the
        # next week, since clocks set back over midnight repeat a date (St. John's, 2010-11-07).
        for offset in range(-1, 9):
            named = day + timedelta(days=offset)
            if named.weekday() in self.weekdays:
                # fold=0 is right for both changes: in a gap it uses the offset before the jump, in a fold the first
                # of the two times.
                for moment in self.times:
                    yield datetime.combine(named, moment, tzinfo=zone).astimezone(UTC)


Schedule = Interval | Calendar


def parse_schedule(text: str) -> Schedule:
    """Read `every 6 hours`, `daily at 02:30, 14:30`, `weekly on sunday at 04:00`; case and spacing do not matter.

    Raises `ValueError` with a valid example.
    """
    plain = " ".join(text.lower().split())
    if match := _EVERY.fullmatch(plain):
        return _interval(match["count"] or "1", match["unit"])
    if match := _DAILY.fullmatch(plain):
        return Calendar(_EVERY_DAY, _times(match["times"]))
    if match := _WEEKLY.fullmatch(plain):
        return Calendar(frozenset(_weekday(name) for name in _LIST.split(match["days"])), _times(match["times"]))
    raise ValueError("not a schedule; write 'every 6 hours', 'daily at 02:30' or 'weekly on sunday at 04:00'")


def schedule_of(text: str | None, sleep_time: float) -> Schedule:
    """Return the schedule of a config: `schedule` if set, otherwise `sleep_time` seconds."""
    return parse_schedule(text) if text is not None else Interval(sleep_time)


def due_after(schedule: Schedule, zone: tzinfo, *, now: float, ended: float, due: float) -> float:
    """Return the next due time of a service whose last cycle, planned for `due`, ended at `ended`.

    All in seconds since the epoch. An interval counts from the end of the cycle, and the result may be in the past if
    the config was edited; a calendar counts from `now`, so that an edit brings back no past time.

    If the clock is set back a little during the wait, a cycle can end before its planned time, which must not come
    again. After a large step back it does: one cycle too many is the safe choice.
    """
    after = ended
    if isinstance(schedule, Calendar):
        after = due if 0 < due - now <= _SAME_TIME_SECONDS else now
    return schedule.next_due(datetime.fromtimestamp(after, UTC), zone).timestamp()


def is_missed(schedule: Schedule, zone: tzinfo, last_success: float | None, now: float) -> bool:
    """Return whether a cycle should have succeeded between `last_success` and `now`, both in seconds since the epoch.

    Without a success, nothing is missed: a first start without `run_at_start` waits for its time. A success in the
    future means a wrong clock; then one cycle too many is the safe choice.
    """
    if last_success is None:
        return False
    if last_success > now:
        return True
    return schedule.next_due(datetime.fromtimestamp(last_success, UTC), zone).timestamp() <= now


def _interval(count: str, unit: str) -> Interval:
    if unit not in _UNITS:
        raise ValueError(f"'{unit}' is not a unit of time; write seconds, minutes, hours, days or weeks")
    seconds = int(count) * _UNITS[unit]
    if not 1 <= seconds <= _LONGEST_SECONDS:
        raise ValueError("an interval is at least 1 second and at most 100 years; write such as 'every 6 hours'")
    return Interval(float(seconds))


def _weekday(name: str) -> int:
    for number, full in enumerate(_DAYS):
        if name in (full, full[:3]):
            return number
    raise ValueError(f"'{name}' is not a day of the week; write such as 'weekly on sunday at 04:00'")


def _times(text: str) -> tuple[time, ...]:
    return tuple(sorted({_time(part) for part in _LIST.split(text)}))


def _time(text: str) -> time:
    match = _TIME.fullmatch(text)
    if not match or int(match["hour"]) > 23 or int(match["minute"]) > 59:  # noqa: PLR2004 (a clock's)
        raise ValueError(f"'{text}' is not a time of the day; write it from 00:00 to 23:59, such as 02:30")
    return time(int(match["hour"]), int(match["minute"]))
