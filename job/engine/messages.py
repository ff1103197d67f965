"""Messages between the main process and workers: plain values, the same if one process does all the work.

Each task carries the index rows of its folder, so that workers need no access to the index. Fields that several
messages have are described in `SyncFolder`, those of a scan in `ChangedFolder`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from job.core.counts import Tally
from job.core.entry import FileId
from job.core.file_systems import Capabilities
from job.core.record import FolderDone, LinkName, LinkOutcome, LinkRecord, RowsDone
from job.core.versions import VersionsDone
from job.events.base import Event
from job.fs.large_dir import PackedNames, Sums
from job.store.index import Index

if TYPE_CHECKING:
    from job.store.version_table import VersionsGone

Links: TypeAlias = Mapping[bytes, LinkOutcome]
"""Outcomes of names that were synced with the other names of the same file."""


class Widening(NamedTuple):
    """Order to let more users into a folder: all other work is done; set aside first anything the source lacks."""

    cleared: bool
    """Whether a folder above was widened just now, and everything below it checked."""
    failed: tuple[bytes, ...] = ()
    """Failed paths of this cycle, in the folder and below it."""


class SyncFolder(NamedTuple):
    """A folder to sync."""

    path: bytes
    fingerprint: bytes
    """Of the scan; empty for an unscanned folder."""
    rows: str
    """The records of its entries (`store/codec.py`)."""
    links: Links | None = None
    """None while names of files with hard links are collected: entries with such names are postponed then."""
    again: bool = False
    """Whether its entries are counted already."""
    whole: bool = False
    """Whether its subfolders, which were not scanned, are synced, too."""
    noted: str = ""
    """Metadata that the mirror cannot hold, from the index (`store/codec.py`)."""
    empty_fingerprint: bytes = b""
    missing: bool = False
    """Whether the mirror lacked the folder; of the root, whether it was empty."""
    mark: bytes = b""
    """The `inode_mark` of the checked mirror folder; empty if it was not checked."""
    packed: bytes = b""
    """The packed rows of its scan (`fs/listing.py`), if they are still held."""
    may_stage: bool = False
    """Whether it may be staged if it is new: the folder above is not huge."""
    known_mirror: bytes = b""
    same_source: bool = False
    widening: Widening | None = None
    """Set where the folder may let in more users than before."""


class SplitFolder(NamedTuple):
    """A huge folder to split into parts, which several workers can sync."""

    path: bytes
    fingerprint: bytes
    parts: int
    """The least number of parts."""
    missing: bool = False


class SyncPart(NamedTuple):
    """Some names of a huge folder to sync."""

    path: bytes
    number: int
    names: PackedNames
    rows: str
    """The records of its entries, and perhaps of others."""
    borrowed: bool
    """Whether the rows are those of another part, from a time with fewer parts."""
    unscanned: bool
    """Whether the subfolders were not scanned."""
    links: Links | None = None
    noted: str = ""


class PartDone(NamedTuple):
    """A synced part of a huge folder."""

    path: bytes
    number: int
    complete: bool
    """Whether the mirror's part equals the source."""
    entries: int
    specials: int
    recheck: bool
    held: int
    """Number of names that the mirror has of the source."""
    sums: Sums
    """Fingerprint sums over the mirror's entries."""
    bytes: int = 0
    """Sum of the sizes of the mirror's entries."""
    orphans: str | None = None
    """As in `FolderDone`."""


class FinishFolder(NamedTuple):
    """A huge folder whose parts are all committed, to be given its own metadata and record."""

    path: bytes
    fingerprint: bytes
    """Of the source, taken before the first part was synced."""
    parts: int
    total: PartDone
    """The sum of all parts."""
    missing: bool = False
    widening: Widening | None = None


class HardLinkGroup(NamedTuple):
    """All names of one source file."""

    link_names: list[LinkName]
    taken: frozenset[FileId]
    """Mirror files of some of these names, which belong to another source file."""


class SyncHardLinks(NamedTuple):
    """Files with several names to sync, each with all its names."""

    path: bytes
    """Of one of them, for reports."""
    groups: list[HardLinkGroup]


class Postponed(NamedTuple):
    """A folder, or part of a huge one, that waits until all names of its files are known."""

    path: bytes
    fingerprint: bytes
    part: SyncPart | None
    link_names: list[LinkName]
    missing: bool = False


class PendingWidening(NamedTuple):
    """A folder that is to let in more users, once all other work is done."""

    path: bytes
    fingerprint: bytes
    close: FinishFolder | None = None
    """Set for a huge folder."""


Task: TypeAlias = SyncFolder | SplitFolder | SyncPart | FinishFolder | SyncHardLinks


HeldPlace: TypeAlias = tuple[bytes, int]
"""A folder by its path, and the part of it, if it is huge."""


class ItemHold(NamedTuple):
    """What is held, and what was approved, in the folders of a work item."""

    is_on: bool
    """Whether what would replace contents is held back."""

    known: Mapping[HeldPlace, frozenset[bytes]]
    """Digests of changes that were held before: their contents are known to differ."""
    approved: Mapping[HeldPlace, frozenset[bytes]]
    """Digests of changes that a person approved."""


class HeldChanges(NamedTuple):
    """Changes that a worker held back in one folder, or one part of it."""

    place: HeldPlace
    digests: tuple[bytes, ...]
    examples: tuple[bytes, ...]
    """Paths of some of them."""


class HeldReport(NamedTuple):
    """What the brake did in a batch."""

    changes: list[HeldChanges]
    exempt: int
    """Contents that were replaced in spite of a hold, as the brake leaves them out."""
    zeroed: int
    """Contents that were replaced by nothing but zeros."""


class WorkItem(NamedTuple):
    """To a worker: do these tasks. Later items have higher numbers."""

    number: int
    tasks: list[Task]
    hold: ItemHold | None = None
    """None if nothing is held, or was approved."""


class SplitResult(NamedTuple):
    """A huge folder, split into parts."""

    path: bytes
    fingerprint: bytes
    """Of the source, taken before the first part was synced."""
    names: list[PackedNames]
    """By part."""


@dataclass(slots=True)
class Followups:
    """Further work that a worker found."""

    unscanned: list[bytes] = field(default_factory=list)
    """Subfolders of folders that changed since the scan, some of which may not have been scanned."""
    now_huge: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Folders that turned out to be huge, with the fingerprint of the scan, if it is still valid."""
    divided: list[SplitResult] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    linked: list[LinkRecord] = field(default_factory=list)
    closed: list[PendingWidening] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)
    """Widened folders; everything below them was compared with the source."""
    moved: list[bytes] = field(default_factory=list)
    """Folders whose times changed after their sync: entries were set aside, or staged folders placed."""
    unplaced: list[bytes] = field(default_factory=list)
    """New folders whose staged copy could not get its place."""


class GivenUp(NamedTuple):
    """Versions that were removed, as the disk is full."""

    versions: "Sequence[VersionsGone]" = ()
    until: float = 0.0
    """Until when their contents were replaced, in seconds since the epoch."""


NOTHING_GIVEN_UP = GivenUp()


@dataclass(slots=True)
class BatchResult:
    """From a worker: a batch of renamed files, to be made durable, recorded and reported."""

    begun: int
    """The oldest item that the batch has results of."""
    since_ns: int
    """Wall clock before the first write of the batch, in nanoseconds since the epoch."""
    ended: list[int]
    """Finished items."""
    folders: list[FolderDone] = field(default_factory=list)
    parts: list[PartDone] = field(default_factory=list)
    rows: list[RowsDone] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    retired: list[bytes] = field(default_factory=list)
    """Folders that left the mirror's tree with all their content."""
    versions: list[VersionsDone] = field(default_factory=list)
    given_up: GivenUp = NOTHING_GIVEN_UP
    unkept: bool = False
    """Whether a content was replaced, and is not among the versions."""
    held: HeldReport | None = None
    dirty: bool = False
    """Whether the batch wrote anything that must be synced."""
    volume: int = 0
    """The number of the file system of the mirror that holds the batch."""
    followups: Followups = field(default_factory=Followups)


Deliver: TypeAlias = Callable[[BatchResult], None]
"""Passes a batch on to be committed."""


class WorkerProgress(NamedTuple):
    """From a worker: progress since its last message. `item` is one that is done but for its commit."""

    entries: int
    bytes: int
    item: int = 0


class WorkerStopped(NamedTuple):
    """From a worker: it stopped and removed its temps."""


class IndexLookup:
    """Looks up the index rows that go with a task. Everything raises `OSError`."""

    def __init__(self, index: Index, mirrors: Iterable[Capabilities]) -> None:
        """`mirrors` are the capabilities of each file system of the mirror."""
        self.index = index
        self._holds_all = all(
            each.symlinks and each.symlink_metadata and each.fifos and each.devices and each.keeps_metadata
            for each in mirrors
        )

    def rows(self, path: bytes, part: int = 0) -> str:
        """Return the records of a folder, or of one part of it."""
        return self.index.rows(path, part)

    def noted(self, path: bytes, part: int = 0) -> str:
        """Return the metadata that the mirror cannot hold; a mirror that holds everything needs no lookup."""
        return "" if self._holds_all else self.index.unsupported(path, part)
