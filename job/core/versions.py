"""Versions as plain values: the names of their folders, and what the index has about each. Pure.

A folder is named by the UTC time of the cycle that replaced something, in seconds. Two cycles of one second, or one
that meets a name that is taken, add a number: `20261130T173000Z-2`.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from stat import S_ISDIR
from typing import NamedTuple

from job.core.entry import TYPE_BITS

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


class VersionReason(StrEnum):
    """Why a content left its name in the mirror."""

    REPLACED = "replaced"
    """The source has a newer one."""
    DRIFTED = "drifted"
    """Another program had changed it in the mirror."""
    GAVE_WAY = "gave_way"
    """Its name became that of an entry of another kind."""
    RETIRED = "retired"
    """It left the source."""
    EXCLUDED = "excluded"
    """It was replaced, and is not kept, as `versions.exclude` says."""


class VersionRow(NamedTuple):
    """What the index has about one version."""

    name: bytes
    mode: int
    """The whole st_mode."""
    size: int
    since_ns: int
    """When the mirror got the content; 0 if unknown."""
    until_ns: int
    """When it was replaced or removed."""
    checksum: str
    """`algorithm:hex`, or `sparse-algorithm:hex`; empty if it has none, or is not as recorded."""
    why: VersionReason
    replaced_another: bool
    """Whether it had taken the place of another content."""


class VersionsDone(NamedTuple):
    """Versions that a cycle made of entries of one folder, in the form of the index."""

    path: bytes
    """Of the folder below the root."""
    moment: Moment
    """Of the version folder that has them."""
    rows: str
    """See `store/version_rows.py`."""
    files: int
    """Number of those that are kept; the others are rows only."""
    bytes: int
    """Sum of the sizes of those."""


class OrphanRow(NamedTuple):
    """What the index has about an entry of the mirror that left the source."""

    name: bytes
    mode: int
    size: int
    """Of a folder: the sum of all below it, by the index."""
    since_ns: int
    """When its absence was first noticed."""
    scan: int
    """Number of complete scans before that."""
    files: int = 1
    """Of a folder: the number of entries below it that are no folders, by the index."""
    inode: int = 0
    mtime_ns: int = 0
    """0 for one before 1970."""
    checksum: str = ""
    """`algorithm:hex`, or `sparse-algorithm:hex`; empty if it has none, or the content is not as recorded."""
    stands_since_ns: int = 0
    """When the mirror got the content; 0 if unknown."""

    def is_unchanged_in(self, now: "OrphanRow") -> bool:
        """Return whether nothing is new in the row `now` of the same entry, as mostly."""
        is_same = self[1] == now[1] and (self[2] == now[2] or S_ISDIR(now[1])) and self[6:8] == now[6:8]
        return is_same and self[3] <= now[3] and not now[8]

    def seen_again(self, now: "OrphanRow") -> "OrphanRow":
        """Return the row of an entry that was noticed before, and looks as in the row `now`."""
        if now.mode & TYPE_BITS != self.mode & TYPE_BITS:
            return now
        # A time in the future means that the clock was wrong.
        found = now._replace(since_ns=min(self.since_ns, now.since_ns), scan=self.scan)
        if S_ISDIR(now.mode):
            return found._replace(size=self.size, files=self.files)
        if (now.inode, now.size, now.mtime_ns) != (self.inode, self.size, self.mtime_ns) or now.checksum:
            return found
        return found._replace(checksum=self.checksum, stands_since_ns=self.stands_since_ns)


class OrphansSeen(NamedTuple):
    """All entries of a mirror folder, or of one part of it, that the source does not have."""

    path: bytes
    """Of the folder below the root."""
    part: int
    """Number of the part, if the folder is huge."""
    rows: str | None
    """See `store/version_rows.py`; empty for none, None if they stay as they are."""
    parts: int = 0
    """Number of all parts, 0 for unknown; the rows of others are removed."""
