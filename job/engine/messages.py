"""What goes to a worker and what comes back: plain values, whether the worker is another process or not.

Recall: what of the index goes along with an errand, so that nobody who is out has to ask for it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from job.core.capabilities import Capabilities
from job.core.compressed_list import CompressedList
from job.core.counts import Tally
from job.core.entry import FileId
from job.core.record import FolderDone, LinkName, LinkOutcome, LinkRecord, RowsDone
from job.engine.scan import ScanDepth, ScanItem, ScanResult
from job.events.service import Event
from job.fs.large_dir import Names, Sums
from job.store.index import Index


class ScanRequest(NamedTuple):
    """To a worker: look at these folders and what is below them."""

    depth: ScanDepth
    items: list[ScanItem]


class ScanReply(NamedTuple):
    """From a worker: what it found, and what it did not get to."""

    found: ScanResult
    rest: CompressedList[ScanItem]
    """A folder may have a million subfolders."""


Links: TypeAlias = Mapping[bytes, LinkOutcome]
"""What became of names that were seen to with the other names of the same file."""


class Widening(NamedTuple):
    """All other work is done: a folder may be opened once what its source does not have is set aside."""

    cleared: bool
    """Whether that was done just now, with a folder above."""
    failed: tuple[bytes, ...] = ()
    """What could not be brought up to date in this cycle, in it and below it."""


class SyncFolder(NamedTuple):
    """A folder to be brought up to date."""

    path: bytes
    fingerprint: bytes
    """What the look saw; empty for a folder that was not looked at."""
    rows: str
    """What the index knows of its entries (`store/codec.py`)."""
    links: Links | None = None
    """None as long as names of one file may still be met elsewhere: then what has such names waits for its turn."""
    again: bool = False
    """Whether its entries are counted already."""
    whole: bool = False
    """Whether all that is below it is visited, too, since nobody looked there."""
    noted: str = ""
    """What the index has of what the mirror cannot hold (`store/codec.py`)."""
    empty_fingerprint: bytes = b""
    """As the look has it."""
    missing: bool = False
    """Whether the look found that the mirror has no such folder; of the root, that nothing is in it."""
    mark: bytes = b""
    """The `inode_mark` of the mirror's folder as it was judged; empty for one that was not."""
    widening: Widening | None = None
    """Set where the folder may now let in more users than before."""


class SplitFolder(NamedTuple):
    """A huge folder, to be divided into parts that several can see to, one after the other."""

    path: bytes
    fingerprint: bytes
    """What the look saw; empty for a folder of which nobody knows what is in it."""
    parts: int
    """How many there must be at least."""
    missing: bool = False
    """As a visit's."""


class SyncPart(NamedTuple):
    """Some of the names of a huge folder, to be brought up to date."""

    path: bytes
    number: int
    names: Names
    rows: str
    """What the index knows of them, and perhaps of others."""
    borrowed: bool
    """Whether that is another part's row, from when there were fewer."""
    unscanned: bool
    """Whether nobody looked at the subfolders."""
    links: Links | None = None
    """As a visit's."""
    noted: str = ""
    """As a visit's."""


class PartDone(NamedTuple):
    """A part of a huge folder that is done with."""

    path: bytes
    number: int
    complete: bool
    """Whether the part is as the source is."""
    entries: int
    specials: int
    recheck: bool
    held: int
    """Names of the source that the mirror has."""
    sums: Sums
    """What the mirror's entries add up to."""
    bytes: int = 0
    """Sizes of what the mirror has of its entries, summed up."""


class FinishFolder(NamedTuple):
    """A huge folder of which all parts are committed: what remains is the folder itself."""

    path: bytes
    fingerprint: bytes
    """Of the source, from before anything was done."""
    parts: int
    total: PartDone
    """All parts together."""
    missing: bool = False
    """As a visit's."""
    widening: Widening | None = None
    """As a visit's."""


class HardLinkGroup(NamedTuple):
    """All names of one file of the source."""

    link_names: list[LinkName]
    taken: frozenset[FileId]
    """Files of the mirror that some of them have, but that are to stand for another file."""


class SyncHardLinks(NamedTuple):
    """Files with several names, to be brought up to date with all of them."""

    path: bytes
    """Of one of them, to speak of."""
    groups: list[HardLinkGroup]


class Postponed(NamedTuple):
    """A folder, or part of a huge one, that waits until all names of the files in it are known."""

    path: bytes
    fingerprint: bytes
    part: SyncPart | None
    link_names: list[LinkName]
    missing: bool = False
    """As a visit's."""


class PendingWidening(NamedTuple):
    """A folder that is to let in more users than before, and waits until all other work is done."""

    path: bytes
    fingerprint: bytes
    close: FinishFolder | None = None
    """Set for a huge one."""


Task: TypeAlias = SyncFolder | SplitFolder | SyncPart | FinishFolder | SyncHardLinks


class WorkItem(NamedTuple):
    """To a worker: go and do this. Later errands have higher numbers."""

    number: int
    tasks: list[Task]


class SplitResult(NamedTuple):
    """A huge folder, cut in parts."""

    path: bytes
    fingerprint: bytes
    """Of the source, from before anything was done."""
    names: list[Names]
    """Part by part."""


@dataclass(slots=True)
class Followups:
    """What else there is to do, as a worker found on the way."""

    unscanned: list[bytes] = field(default_factory=list)
    """Subfolders of folders that changed since the look: some of them nobody may have looked at."""
    now_huge: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Folders that turned out to be huge, with the fingerprint that the look saw, if it still counts."""
    divided: list[SplitResult] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    linked: list[LinkRecord] = field(default_factory=list)
    closed: list[PendingWidening] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)
    """Folders that were opened, with all below them compared with the source."""
    moved: list[bytes] = field(default_factory=list)
    """Folders from which something was set aside: what is remembered of them has to be renewed."""


@dataclass(slots=True)
class BatchResult:
    """From a worker: a batch whose files have their names, and wait to be made durable, remembered and told."""

    begun: int
    """The oldest errand that anything in it was done for."""
    since_ns: int
    """Nothing in it was written before that, by the wall clock."""
    ended: list[int]
    """Errands that are done with."""
    folders: list[FolderDone] = field(default_factory=list)
    parts: list[PartDone] = field(default_factory=list)
    rows: list[RowsDone] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    retired: list[bytes] = field(default_factory=list)
    """Folders that left the mirror's tree, with all that was in them."""
    dirty: bool = False
    """Whether anything was written that has to be synced."""
    volume: int = 0
    """The file system of the mirror that all of it lies on."""
    followups: Followups = field(default_factory=Followups)


class WorkerProgress(NamedTuple):
    """From a worker: how far it got since it last said so. `visited` is an errand it has done all but the commit of."""

    entries: int
    bytes: int
    visited: int = 0


class WorkerStopped(NamedTuple):
    """From a worker: it was stopped, and has dropped what had no name yet."""


class WorkerError(NamedTuple):
    """From a worker: nothing more can be done for the pair (`fatal`), or it met a bug and ends."""

    error: str
    hint: str
    fatal: bool


class WorkerReady(NamedTuple):
    """From a worker: it has everything it needs."""


class IndexLookup:
    """Looks up what is known of a folder's entries, for those who are sent there. Everything raises `OSError`."""

    def __init__(self, index: Index, mirrors: Iterable[Capabilities]) -> None:
        """`mirrors` is what each file system of the mirror can hold."""
        self.index = index
        self._holds_all = all(
            each.symlinks and each.symlink_metadata and each.fifos and each.devices and each.keeps_metadata
            for each in mirrors
        )

    def rows(self, path: bytes, part: int = 0) -> str:
        """Give the records of a folder, or one part of it."""
        return self.index.rows(path, part)

    def noted(self, path: bytes, part: int = 0) -> str:
        """Give what is noted because the mirror cannot hold it; a mirror that holds everything is not asked for."""
        return "" if self._holds_all else self.index.unsupported(path, part)
