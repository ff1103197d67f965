"""Tally: the counts of a pair or a cycle. Workers send them as plain values; sums are tallies again."""

from collections import Counter
from dataclasses import dataclass, field

from job.core.outcome import Drift, Failure, Skip


@dataclass(slots=True)
class Counts:
    """A tally in the making."""

    copied: int = 0
    updated: int = 0
    bytes_copied: int = 0
    folders: int = 0
    attributes_unread: int = 0
    skipped: Counter[Skip] = field(default_factory=Counter)
    failed: Counter[Failure] = field(default_factory=Counter)
    drift: Counter[Drift] = field(default_factory=Counter)

    def tally(self) -> "Tally":
        """Give what was counted, as a value."""
        return Tally(
            copied=self.copied,
            updated=self.updated,
            bytes_copied=self.bytes_copied,
            folders=self.folders,
            attributes_unread=self.attributes_unread,
            skipped_by=dict(self.skipped),
            failed_by=dict(self.failed),
            drift_by=dict(self.drift),
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """How many entries had which outcome. Folders are counted apart and are in none of the other counts.

    `copied + updated + skipped + failed == entries`; an unreadable folder is one failed entry.
    """

    copied: int = 0
    updated: int = 0
    bytes_copied: int = 0
    folders: int = 0
    skipped_by: dict[Skip, int] = field(default_factory=dict)
    failed_by: dict[Failure, int] = field(default_factory=dict)
    drift_by: dict[Drift, int] = field(default_factory=dict)
    attributes_unread: int = 0
    """How often the attributes of a source entry could not be read; the entry itself is counted elsewhere."""

    @property
    def skipped(self) -> int:
        """Entries passed over without being a failure."""
        return sum(self.skipped_by.values())

    @property
    def failed(self) -> int:
        """Entries that could not be mirrored."""
        return sum(self.failed_by.values())

    @property
    def entries(self) -> int:
        """Every entry that is not a folder, plus folders that could not be read."""
        return self.copied + self.updated + self.skipped + self.failed

    def __add__(self, other: "Tally") -> "Tally":
        """Sum two tallies."""
        return Tally(
            copied=self.copied + other.copied,
            updated=self.updated + other.updated,
            bytes_copied=self.bytes_copied + other.bytes_copied,
            folders=self.folders + other.folders,
            skipped_by=dict(Counter(self.skipped_by) + Counter(other.skipped_by)),
            failed_by=dict(Counter(self.failed_by) + Counter(other.failed_by)),
            drift_by=dict(Counter(self.drift_by) + Counter(other.drift_by)),
            attributes_unread=self.attributes_unread + other.attributes_unread,
        )
