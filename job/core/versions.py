"""The names of version folders: the UTC time of the cycle that replaced something, in seconds. Pure.

Two cycles of one second, or one that meets a name that is taken, add a number: `20261130T173000Z-2`.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

_NAME = re.compile(rb"(?P<time>\d{8}T\d{6})Z(?:-(?P<number>[1-9]\d{0,8}))?")
_FORM = "%Y%m%dT%H%M%S"


class Moment(NamedTuple):
    """The time of a version folder; moments are ordered as their cycles were."""

    seconds: int
    """Since the epoch."""
    number: int = 1
    """Of several folders of the same second."""

    @property
    def name(self) -> bytes:
        """The name of the folder."""
        text = datetime.fromtimestamp(self.seconds, UTC).strftime(_FORM) + "Z"
        return f"{text}-{self.number}".encode("ascii") if self.number > 1 else text.encode("ascii")


def moment_of(name: bytes) -> Moment | None:
    """Return the moment of a folder by its name; None if Truecopy gives no such name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        when = datetime.strptime(match["time"].decode("ascii"), _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
    found = Moment(int(when.timestamp()), int(match["number"] or 1))
    return found if found.name == name else None
