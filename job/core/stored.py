"""Values from files that Truecopy wrote and anybody may have changed since: each is checked before its use. Pure.

JSON can hold what no conversion takes: numbers beyond every float, half a character, lists instead of texts.
"""

import math

UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""Whatever parsing and conversions raise for a document that makes no sense."""
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, beyond which no date can be written."""
_MOST_NUMBER = 2**64 - 1


def text_of(value: object) -> str:
    """Give a text that can be a path or a name. Raises `ValueError`."""
    if type(value) is not str:
        raise ValueError("not a text")
    value.encode("utf-8", "surrogateescape")
    return value


def number_of(value: object) -> int:
    """Give a count, or a number of the kernel's such as an inode. Raises `ValueError`."""
    if type(value) is not int or not 0 <= value <= _MOST_NUMBER:
        raise ValueError("a count that is no number")
    return value


def seconds_of(value: object) -> float:
    """Give seconds: a length of time, or a time since the epoch that a date can be made of. Raises `ValueError`."""
    if type(value) not in {int, float} or not is_possible(value):  # type: ignore[arg-type]  # a number, as just seen
        raise ValueError("an impossible time")
    return float(value)  # type: ignore[arg-type]


def is_possible(seconds: float) -> bool:
    """Tell whether a date can be made of a time since the epoch."""
    return 0 <= seconds <= _LAST_SECOND and math.isfinite(seconds)
