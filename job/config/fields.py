"""Validators of single values, beyond their type, and parsers of bytes and durations. Pure.

Each `ValueError` has a valid example.
"""

import ipaddress
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from job.core import timing
from job.core.exclude import ExcludeRules
from job.core.retention import Keep, KeepCounts, KeepFor, MostVersions

if TYPE_CHECKING:
    from pydantic import SecretStr

_WEB = re.compile(r"https?://(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?(/[!-\"$->A-~]*)?")
_LAST_PORT = 65535
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")


@dataclass(frozen=True, slots=True)
class Words:
    """Annotation of a type: its name in the documents."""

    text: str


def run_switch(value: object) -> object:
    """Require text: as in the original, only `"Y"` runs."""
    if isinstance(value, str):
        return value
    raise ValueError('not text; write "Y" to run or "N" to do nothing')


def no_switch(value: object) -> object:
    """Refuse true and false for numbers: Python treats them as 1 and 0."""
    if isinstance(value, bool):
        msg = "not a whole number; write digits, such as 9477"
        raise ValueError(msg)  # noqa: TRY004  (pydantic words ValueError, not TypeError)
    return value


def path(text: str) -> str:
    """Refuse a NUL character."""
    if "\0" in text:
        raise ValueError("holds a NUL character, which no path can; write the path without it")
    return text


def path_in_source(text: str) -> str:
    """Refuse a path that is not below a source."""
    parts = path(text).split("/")
    if text.startswith("/") or ".." in parts or not any(part not in {"", "."} for part in parts):
        msg = "not a path inside the source; write one such as 'photos' or 'photos/2024', without a leading / or .."
        raise ValueError(msg)
    return text


def pattern(text: str) -> str:
    """Refuse a pattern that can never match, which git accepts silently."""
    if "\0" in text:
        raise ValueError("holds a NUL character, which no name can; write the pattern without it")
    try:
        ExcludeRules((text,))
    except UnicodeEncodeError as error:
        raise ValueError("holds half a character, which no name can; write the whole character") from error
    except ValueError as error:
        msg = f"no gitignore pattern that could match: {error.__cause__}; write one such as '*.tmp' or '/cache/'"
        raise ValueError(msg) from error
    return text


def zone(name: str) -> str:
    """Refuse an unknown time zone."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        raise ValueError("not an IANA time zone; write one such as 'Europe/Berlin' or 'UTC'") from error
    return name


def schedule(text: str) -> str:
    """Refuse an invalid schedule."""
    timing.parse_schedule(text)
    return text


def textfile(name: str) -> str:
    """Refuse a textfile that node-exporter ignores."""
    if not name.endswith(".prom"):
        msg = "node-exporter reads only names that end in .prom; write one such as '/textfile/truecopy.prom'"
        raise ValueError(msg)
    return name


def address(text: str) -> str:
    """Require an IP address or a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        if not _HOST.fullmatch(text):
            msg = "neither an IP address nor a host name; write one such as '127.0.0.1', '0.0.0.0' or '::'"
            raise ValueError(msg) from error
    return text


def web_address(url: str) -> str:
    """Require an http(s) address without a login, since addresses are logged."""
    right = "write one such as 'http://pushgateway:9091'"
    if "@" in url:
        raise ValueError(f"holds a login; {right} and give the login as pushgateway_username and pushgateway_password")
    if "?" in url or "#" in url:
        raise ValueError(f"holds a query, to which no path can be added; {right}")
    found = _WEB.fullmatch(url)
    if not found:
        raise ValueError(f"not an http or https address; {right}")
    if found["port"] and not 0 < int(found["port"]) <= _LAST_PORT:
        raise ValueError(f"no port has this number; {right}, with a port from 1 to {_LAST_PORT}")
    return url


def host_of(url: str) -> str:
    """Return the host of a web address in lower case, an IPv6 address without brackets."""
    match = _WEB.fullmatch(url)
    return match["host"].strip("[]").lower() if match else ""


def password(secret: "SecretStr") -> "SecretStr":
    """Refuse a password that is not valid Unicode, without showing it."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode; write it in UTF-8, without lone surrogates") from None
    return secret


def user_name(text: str) -> str:
    """Refuse a colon, which ends the user name in basic authentication."""
    if ":" in text:
        raise ValueError("holds a colon, which no user of basic authentication can; write the user alone")
    return text


_AMOUNT = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*")
_MOST_BYTES = 2**63 - 1
_MOST_SECONDS = 100 * 366 * 86400

# A bare letter is binary, as in rsync and rclone; only an explicit `B` without `i` is decimal.
_BYTES = {"": 1, "b": 1, "byte": 1, "bytes": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for ending, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_SECONDS = {
    name: factor
    for factor, names in (
        (1, ("", "s", "sec", "secs", "second", "seconds")),
        (60, ("m", "min", "mins", "minute", "minutes")),
        (3600, ("h", "hour", "hours")),
        (86400, ("d", "day", "days")),
        (7 * 86400, ("w", "week", "weeks")),
    )
    for name in names
}
_BYTES_HELP = "write a number of bytes such as 500000, or text such as '64KiB', '10MiB' or '1.5GB'"
_SECONDS_HELP = "write a number of seconds such as 90, or text such as '30s', '15 minutes', '6h' or '1 day'"


def byte_count(value: object) -> int:
    """Parse an amount of bytes: a whole number, or text such as `64KiB`, `10M` (both binary) or `1.5GB` (decimal).

    Raises `ValueError`.
    """
    amount = _amount(value, _BYTES, _BYTES_HELP)
    if amount > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES} bytes; {_BYTES_HELP}")
    if amount != int(amount):
        raise ValueError(f"not a whole number of bytes; {_BYTES_HELP}")
    return int(amount)


def seconds(value: object) -> float:
    """Parse a duration: a number of seconds, or text such as `90`, `30s`, `15 minutes`, `6h` or `1 day`.

    Raises `ValueError`, also beyond a hundred years, so that times stay valid dates.
    """
    amount = _amount(value, _SECONDS, _SECONDS_HELP)
    if amount > _MOST_SECONDS:
        raise ValueError(f"longer than a hundred years; {_SECONDS_HELP}")
    return float(amount)


def _amount(value: object, units: dict[str, int], right: str) -> int | float:
    if isinstance(value, str):
        return _written(value, units, right)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"not an amount; {right}")  # noqa: TRY004  (pydantic words ValueError, not TypeError)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"not a finite number; {right}")
    if value < 0:
        raise ValueError(f"negative; {right}")
    return value


def _written(text: str, units: dict[str, int], right: str) -> int | float:
    match = _AMOUNT.fullmatch(text)
    if not match:
        raise ValueError(f"negative; {right}" if text.strip().startswith("-") else f"not an amount; {right}")
    number, unit = match.groups()
    factor = units.get(unit.lower())
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; {right}")
    # Whole numbers are not converted to floats, so that 2**60 bytes stay exact.
    return round(float(number) * factor, 6) if "." in number else int(number) * factor


_DAY_SECONDS = 86400
_KEEP_SECONDS = {name: factor for name, factor in _SECONDS.items() if factor >= _SECONDS["hour"]} | {
    name: days * _DAY_SECONDS for days, names in ((31, ("month", "months")), (366, ("year", "years"))) for name in names
}
"""Units of `versions.keep`. `m` and `M` are none, as months would be read as minutes, and too much would expire."""
_KEEP_HELP = "write such as '30 days', '6 months' or {'daily': 7, 'weekly': 4, 'monthly': 12}"
_WAIT_HELP = "write such as '7 days', '12 hours' or '2 months'"
_MOST_COUNT = 10_000


def keep(value: object) -> Keep:
    """Parse how long versions are kept: `30 days`, or counts by `hourly`, `daily`, `weekly` and `monthly`.

    Raises `ValueError`, also for a number without a unit.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _table_in(value)
    if isinstance(value, Mapping):
        return _keep_counts(value)
    if not isinstance(value, str) or not value.strip()[-1:].isalpha():
        raise ValueError(f"without a unit; {_KEEP_HELP}")
    amount = _written(value, _KEEP_SECONDS, _KEEP_HELP)
    if not _DAY_SECONDS <= amount <= _MOST_SECONDS:
        raise ValueError(f"less than a day or longer than a hundred years; {_KEEP_HELP}")
    return KeepFor(float(amount))


def waiting_time(value: object) -> float:
    """Parse how long an entry is missing before it is retired, such as `7 days`; returns seconds.

    Raises `ValueError`, also for a number without a unit, which would be read as seconds.
    """
    if not isinstance(value, str) or not value.strip()[-1:].isalpha():
        raise ValueError(f"without a unit; {_WAIT_HELP}")
    amount = _written(value, _KEEP_SECONDS, _WAIT_HELP)
    if amount > _MOST_SECONDS:
        raise ValueError(f"longer than a hundred years; {_WAIT_HELP}")
    return float(amount)


def waiting_text(value: object) -> str:
    """Return a text that `waiting_time` parses. Raises `ValueError`."""
    waiting_time(value)
    return str(value)


def _table_in(text: str) -> Mapping[object, object]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a table that is not JSON; {_KEEP_HELP}") from error
    if not isinstance(table, dict):
        raise ValueError(f"not a table; {_KEEP_HELP}")  # noqa: TRY004  (pydantic words ValueError, not TypeError)
    return table


def keep_text(value: object) -> str:
    """Return a text that `keep` parses: the value itself, or a table as JSON. Raises `ValueError`."""
    if isinstance(value, Mapping):
        keep(value)
        return json.dumps(value)
    keep(value)
    return str(value)


def _keep_counts(value: Mapping[object, object]) -> KeepCounts:
    counts: dict[str, int] = {}
    for name, count in value.items():
        if not isinstance(name, str) or name not in KeepCounts._fields:
            raise ValueError(f"unknown count {name!r}, known are {', '.join(KeepCounts._fields)}; {_KEEP_HELP}")
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_COUNT:
            raise ValueError(f"{name} is no whole number from 0 to {_MOST_COUNT}; {_KEEP_HELP}")
        counts[name] = count
    if not any(counts.values()):
        raise ValueError(f"it keeps nothing; {_KEEP_HELP}, or set versions to false")
    return KeepCounts(**counts)


_SHARE = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\s*")
_SHARE_HELP = "write a share such as '20 %'"


def share(value: object) -> float:
    """Parse a share: `20 %`, or a number from 0 to 1. Raises `ValueError`."""
    if isinstance(value, str) and (match := _SHARE.fullmatch(value)):
        found = float(match[1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    else:
        raise ValueError(f"not a share; {_SHARE_HELP}")
    if not 0 <= found <= 1:
        raise ValueError(f"not from 0 to 100 %; {_SHARE_HELP}")
    return found


def most_versions(value: object) -> MostVersions:
    """Parse the limit of all versions: a share of the disk such as `20 %`, or bytes. Raises `ValueError`."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        found = MostVersions(share=share(value))
    else:
        found = MostVersions(bytes=byte_count(value))
    if not any(found):
        raise ValueError(f"it keeps nothing; {_SHARE_HELP}, bytes such as '50GiB', or set versions to false")
    return found


def most_text(value: object) -> str:
    """Return a text that `most_versions` parses. Raises `ValueError`."""
    most_versions(value)
    return str(value)
