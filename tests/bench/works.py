"""The works that are timed: what is copied where, from which start, with which promise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Place(StrEnum):
    """Where source and mirror lie."""

    TMPFS = "tmpfs"
    DISK = "disk"


class Source(StrEnum):
    """What is copied: the tree of small files, or one large file."""

    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One line of the table."""

    name: str
    title: str
    place: Place
    source: Source = Source.SMALL
    fresh: bool = False
    """Every run starts with an empty mirror; if not, with the one that the tool made itself."""
    durable: bool = False
    """The end counts when the data is on the disk: a peer that does not see to that is followed by `sync -f`."""
    changed: float = 0.0
    """Share of the source files rewritten before every round; all tools then catch up with the same change."""
    by_checksum: bool = False
    each_size: bool = False
    """Timed with every tree that was asked for; the other works with one of them."""
    rounds: int | None = None
    """At most so many timed runs of each tool, because they take long."""
    peers: frozenset[str] | None = None
    """Who is compared with us; None for all."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What Truecopy's config says besides the six keys."""


STANDING = Work(name="standing", title="mirrors made, untimed", place=Place.DISK)

# In the order in which they are done: what lies in memory first, so that it is free again for the page cache; what
# changes the source last, so that a tool which sits out some of its rounds leaves no stale mirror to a later work.
WORKS = (
    Work(name="first_copy_tmpfs", title="first copy, tmpfs", place=Place.TMPFS, fresh=True),
    Work(name="large_sha256", title="SHA-256", place=Place.TMPFS, source=Source.LARGE, fresh=True),
    Work(
        name="large_blake3",
        title="BLAKE3",
        place=Place.TMPFS,
        source=Source.LARGE,
        fresh=True,
        # To the others it is the same work as before.
        peers=frozenset({"rsync", "cp"}),
        options={"checksum": "blake3"},
    ),
    Work(
        name="first_copy_durable",
        title="first copy, durable",
        place=Place.DISK,
        fresh=True,
        durable=True,
        rounds=3,
    ),
    Work(name="unchanged", title="nothing changed", place=Place.DISK, each_size=True),
    Work(
        name="unchanged_audited",
        title="nothing changed, audit due",
        place=Place.DISK,
        each_size=True,
        options={"audit_interval": 0},
    ),
    Work(
        name="by_checksum",
        title="nothing changed, by checksum",
        place=Place.DISK,
        by_checksum=True,
        rounds=3,
        options={"compare": "checksum"},
    ),
    Work(name="changed", title="1 % changed, durable", place=Place.DISK, durable=True, changed=0.01),
)
