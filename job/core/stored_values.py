"""Check values read from Truecopy's own files, which other users may have changed. Pure.

JSON can hold values that conversions refuse: numbers beyond every float, lone surrogates, lists instead of texts.
"""

import math

UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""All errors that parsing and converting an invalid document can raise."""
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, the last that `datetime` supports."""
_MOST_NUMBER = 2**64 - 1


def text_of(value: object) -> str:
    """Return a text that can be a path or name. Raises `ValueError`."""
    if type(value) is not str:
        raise ValueError("not a text")
    value.encode("utf-8", "surrogateescape")
    return value


def number_of(value: object) -> int:
    """Return a count or inode number. Raises `ValueError`."""
    if type(value) is not int or not 0 <= value <= _MOST_NUMBER:
        raise ValueError("a count that is no number")
    return value


def seconds_of(value: object) -> float:
    """Return a duration, or a time since the epoch that is a valid date. Raises `ValueError`."""
    if type(value) not in {int, float} or not is_possible(value):  # type: ignore[arg-type]  # a number, as just seen
        raise ValueError("an impossible time")
    return float(value)  # type: ignore[arg-type]


def is_possible(seconds: float) -> bool:
    """Return whether seconds since the epoch are a valid date."""
    return 0 <= seconds <= _LAST_SECOND and math.isfinite(seconds)
