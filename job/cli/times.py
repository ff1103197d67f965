"""Points in time as people write them, in the zone of the configuration: `yesterday 18:00`, `2026-11-20`, `3 days ago`.

ISO forms are read here, words by dateparser. Whatever a text leaves open is refused or settled in one way: a day alone
is its end, a time that does not exist or occurs twice needs an offset, and nothing lies in the future.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, tzinfo

_EXAMPLES = "write such as 'yesterday 18:00', '3 days ago', '2026-11-20' or '2026-11-20 18:00'"
_ISO = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})([ T](?P<time>\d{2}:\d{2}(:\d{2})?) ?(?P<offset>Z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE
)
_WORD_OR_CLOCK = re.compile(r"[a-z]|\d:\d", re.IGNORECASE)
_DAY_OR_MONTH_FIRST = re.compile(r"(?<!:)\b\d{1,4}[./\\-]\d{1,2}\b(?!:)")
_ISO_DAY = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_ELAPSED = re.compile(r"\b(?:hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\s+ago\b")
_AGO = re.compile(r"\bago\b|\bnow\b")
_MOST_CHARACTERS = 100
_SETTINGS = {"PREFER_DATES_FROM": "past", "RETURN_TIME_AS_PERIOD": True}


def point_in_time(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the point in time that a text means in a zone, in UTC; `now` is aware. Raises `ValueError`."""
    plain, now = " ".join(text.split()), now.astimezone(UTC)  # in one zone, Python compares and subtracts clock times
    match = _ISO.fullmatch(plain)
    if match is None and _DAY_OR_MONTH_FIRST.search(_ISO_DAY.sub("", plain)):
        raise ValueError(f"it is open which number is the day and which the month; {_EXAMPLES}")
    if match is None and (len(plain) > _MOST_CHARACTERS or not _WORD_OR_CLOCK.search(plain)):
        raise ValueError(f"not a point in time; {_EXAMPLES}")
    found = _iso(match, now, zone) if match else _words(plain.lower(), now, zone)
    if found > now:
        raise ValueError(f"in the future: {shown(found, zone)}; {_EXAMPLES}")
    return found.astimezone(UTC)


def shown(moment: datetime, zone: tzinfo) -> str:
    """Return a point in time as it is shown: in the zone, with its offset."""
    return f"{moment.astimezone(zone):%A %Y-%m-%d %H:%M:%S %z}"


def _iso(match: re.Match[str], now: datetime, zone: tzinfo) -> datetime:
    try:
        day = datetime.fromisoformat(match["day"])
        clock = time.fromisoformat(match["time"]) if match["time"] else None
        offset = datetime.fromisoformat(f"{match['day']}T00:00{match['offset'].upper()}") if match["offset"] else None
    except ValueError:
        raise ValueError(f"no such date or time; {_EXAMPLES}") from None
    if clock is None:
        return _end_of(day, now, zone)
    local = datetime.combine(day, clock)
    return local.replace(tzinfo=offset.tzinfo) if offset else _only(local, zone)


def _end_of(day: datetime, now: datetime, zone: tzinfo) -> datetime:
    """Return the last second of a day; of today, now."""
    here = now.astimezone(zone)
    if day.date() == here.date():
        return now
    midnight = datetime.combine(day.date() + timedelta(days=1), time(), tzinfo=zone)
    return midnight.astimezone(UTC) - timedelta(seconds=1)


def _only(local: datetime, zone: tzinfo) -> datetime:
    """Return the one instant of a local time. Raises `ValueError` if it does not exist, or occurs twice."""
    instants = [*_instants(local, zone)]
    if len(instants) == 1:
        return instants[0]
    if not instants:
        raise ValueError(f"{local:%Y-%m-%d %H:%M} does not exist: clocks went forward; write another time")
    first, second = (each.isoformat(" ", "minutes") for each in instants)
    raise ValueError(f"{local:%Y-%m-%d %H:%M} occurs twice: clocks went back; write '{first}' or '{second}'")


def _instants(local: datetime, zone: tzinfo) -> Iterator[datetime]:
    before = None
    for fold in (0, 1):
        instant = local.replace(tzinfo=zone, fold=fold)
        there = instant.astimezone(UTC).astimezone(zone)
        if there.replace(tzinfo=None, fold=0) == local.replace(fold=0) and there.utcoffset() != before:
            before = there.utcoffset()
            yield there


def _words(text: str, now: datetime, zone: tzinfo) -> datetime:
    from dateparser.date import DateDataParser  # noqa: PLC0415  # slow, and for a time in words only

    # Without microseconds, so that a day later or earlier is found again.
    base = now.astimezone(zone).replace(tzinfo=None, microsecond=0, fold=0)
    found = DateDataParser(languages=["en"], settings={**_SETTINGS, "RELATIVE_BASE": base}).get_date_data(text)
    local, period = found.date_obj, str(found.period)
    if local is None:
        raise ValueError(f"not a point in time; {_EXAMPLES}")
    if local.tzinfo is not None:
        return local
    if _ELAPSED.search(text):
        return now - (base - local)  # hours count as they pass, also where clocks change
    if period == "time" or _AGO.search(text):
        return _only(local, zone)
    if period == "day":
        if local.date() > base.date():
            raise ValueError(f"in the future: {local:%Y-%m-%d}; {_EXAMPLES}")
        return _end_of(local, now, zone)
    raise ValueError(f"a {period.replace('_', ' ')}, not a point in time; {_EXAMPLES}")
