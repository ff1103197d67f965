"""Amounts as people write them: bytes and durations. Pure; every refusal says what would be right."""

import math
import re

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
    """Read an amount of bytes: a whole number, or text such as `64KiB`, `10M` (both binary) or `1.5GB` (decimal).

    Raises `ValueError`.
    """
    amount = _amount(value, _BYTES, _BYTES_HELP)
    if amount > _MOST_BYTES:
        msg = f"more than {_MOST_BYTES} bytes; {_BYTES_HELP}"
        raise ValueError(msg)
    if amount != int(amount):
        msg = f"not a whole number of bytes; {_BYTES_HELP}"
        raise ValueError(msg)
    return int(amount)


def seconds(value: object) -> float:
    """Read a duration: a number of seconds, or text such as `90`, `30s`, `15 minutes`, `6h` or `1 day`.

    Raises `ValueError`; so it does beyond a hundred years, which no clock arithmetic here has to survive.
    """
    amount = _amount(value, _SECONDS, _SECONDS_HELP)
    if amount > _MOST_SECONDS:
        msg = f"longer than a hundred years; {_SECONDS_HELP}"
        raise ValueError(msg)
    return float(amount)


def _amount(value: object, units: dict[str, int], right: str) -> int | float:
    if isinstance(value, str):
        return _written(value, units, right)
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"not an amount; {right}"
        raise ValueError(msg)  # noqa: TRY004  (pydantic words ValueError, not TypeError)
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"not a finite number; {right}"
        raise ValueError(msg)
    if value < 0:
        msg = f"negative; {right}"
        raise ValueError(msg)
    return value


def _written(text: str, units: dict[str, int], right: str) -> int | float:
    match = _AMOUNT.fullmatch(text)
    if not match:
        msg = f"negative; {right}" if text.strip().startswith("-") else f"not an amount; {right}"
        raise ValueError(msg)
    number, unit = match.groups()
    factor = units.get(unit.lower())
    if factor is None:
        msg = f"unknown unit {unit!r}; {right}"
        raise ValueError(msg)
    # Whole numbers never pass through a float, so that 2**60 bytes stay exact.
    return round(float(number) * factor, 6) if "." in number else int(number) * factor
