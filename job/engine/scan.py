"""Scan: find the folders to sync. A folder with an unchanged fingerprint and mirror stamp is done.

Unreadable content is unknown, never gone, and a listing that contradicts the scan is an error. Folders to scan are
handed out as whole subtrees; a scanner returns the rest after a slice of time.
"""

import errno
from collections.abc import Callable, Collection, Iterator
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple, Protocol

from job.config.settings import Pair
from job.core.adoption import FolderMatch, inode_mark, match_folder
from job.core.compressed_list import CompressedList
from job.core.counts import Tally
from job.core.entry import printable
from job.core.file_systems import LeftOut
from job.core.outcome import Skip
from job.core.record import FolderSummary
from job.fs.listing import CHUNK, FolderScan, Listing, Unlisted, fingerprint_of
from job.fs.scanners import MirrorScanner, SourceScanner
from job.store.index import Index

ScanItem = tuple[bytes, int]
"""A folder to scan, by its path and the number of its share, if it is huge."""


class ScanContext(Protocol):
    """The parts of a context that a scan needs; a dry run has them, too."""

    @property
    def source(self) -> SourceScanner:
        """Lists the source."""

    @property
    def mirror_scanner(self) -> MirrorScanner:
        """Reads stamps of the mirror."""

    @property
    def index(self) -> Index:
        """Holds the recorded state of folders."""


class ScanDepth(IntEnum):
    """How much of the mirror is read."""

    ROOT = 0
    """Its root only, which is open anyway."""
    FOLDERS = 1
    """A stat of every folder."""
    AUDIT = 2
    """A stat of every file, too."""


MOST_PACKED_BYTES = 8 << 20
"""Packed rows that each scanning process holds until they are synced: of some 75,000 files."""


class ChangedFolder(NamedTuple):
    """A folder to sync."""

    path: bytes
    entries: int
    """Entries in scope, without folders."""
    size: int
    """Sum of their sizes."""
    fingerprint: bytes
    """Of the scan; if the sync sees another one, it reports its subfolders as unscanned."""
    missing: bool
    """Whether the mirror lacks the folder."""
    huge: bool
    """Whether it has too many entries to hold in memory."""
    empty_fingerprint: bytes
    """The fingerprint of the folder without entries and otherwise unchanged; empty if it had none."""
    left: int
    """A `FolderMatch`: how the mirror's folder compares with the recorded one. Of the root always the same."""
    mark: bytes
    """The `inode_mark` of the mirror's folder during the scan; empty for none."""
    new_mirror: bool
    """Whether it is the root of a mirror without any content."""
    known_mirror: bytes
    """Stamp and fingerprint of the mirror's folder as recorded, if its stamp is still that; else empty."""
    same_source: bool
    """Whether the source's folder is as recorded, so that there is something to do only if a content changed."""


class FolderShare(NamedTuple):
    """One share of a huge folder, which is classified when all shares are scanned."""

    path: bytes
    number: int
    scan_folder: FolderScan


class ScanResult:
    """The result of a scan, as plain values; `changed` holds parents before children."""

    def __init__(self) -> None:
        self.changed: CompressedList[tuple[object, ...]] = CompressedList()
        self.unlisted: list[Unlisted] = []
        self.left_out: list[LeftOut] = []
        """Folders that are out of scope for another reason than a pattern."""
        self.mounts: dict[bytes, str] = {}
        """Mount points in the source that are in scope, and their file system types."""
        self.packed: dict[bytes, bytes] = {}
        """Packed rows of changed folders, of the first ones only: so they need not be listed again to be synced."""
        self.shares: list[FolderShare] = []
        self.folders_unchanged = self.entries_unchanged = self.specials_unchanged = 0
        self.entries_to_sync = self.bytes_to_sync = 0
        self.entries_changed = self.empty_files = 0
        """Entries and folders where the source is not as recorded, and the empty files among them; a bound, if huge."""

    @property
    def tally(self) -> Tally:
        """The counts of unchanged folders and entries."""
        skipped = {
            Skip.UNCHANGED: self.entries_unchanged - self.specials_unchanged,
            Skip.SPECIAL_FILE: self.specials_unchanged,
        }
        return Tally(folders=self.folders_unchanged, skipped_by={why: n for why, n in skipped.items() if n})

    @property
    def entries(self) -> int:
        """Entries scanned so far."""
        return self.entries_unchanged + self.entries_to_sync + sum(share.scan_folder.entries for share in self.shares)

    @property
    def folders(self) -> int:
        """Folders scanned so far."""
        return self.folders_unchanged + len(self.changed)

    def may_trip(self, files: int, share: float, known: int, retired: int) -> bool:
        """Return whether so much of the source is not as recorded, or retired, that the brake might trip."""
        return self.entries_changed + retired > max(files, share * known) or self.empty_files > files

    def changes(self) -> Iterator[ChangedFolder]:
        """Iterate over the folders to sync."""
        return map(ChangedFolder._make, self.changed)

    def merge(self, other: "ScanResult") -> None:
        """Add the result of another scanner."""
        self.changed.extend(other.changed)
        self.unlisted += other.unlisted
        self.left_out += other.left_out
        self.mounts |= other.mounts
        self.packed |= other.packed
        self.shares += other.shares
        self.folders_unchanged += other.folders_unchanged
        self.entries_unchanged += other.entries_unchanged
        self.specials_unchanged += other.specials_unchanged
        self.entries_to_sync += other.entries_to_sync
        self.bytes_to_sync += other.bytes_to_sync
        self.entries_changed += other.entries_changed
        self.empty_files += other.empty_files


class ScanRequest(NamedTuple):
    """To a worker: scan these folders and their subfolders."""

    depth: ScanDepth
    items: list[ScanItem]


class ScanReply(NamedTuple):
    """From a worker: its result, and the folders it did not reach."""

    found: ScanResult
    rest: CompressedList[ScanItem]
    """A folder may have a million subfolders."""


class FolderScanner:
    """Scans folders in one process."""

    def __init__(self, context: ScanContext, pair: Pair, depth: ScanDepth) -> None:
        self._scan_source = context.source.scan_folder
        self._mirror_scanner = context.mirror_scanner
        self._index = context.index
        self._trust_times = pair.compare != "checksum"
        self._depth = depth
        self._bytes_left = MOST_PACKED_BYTES

    def scan(self, waiting: CompressedList[ScanItem], is_time_up: Callable[[], bool]) -> ScanResult:
        """Scan the folders `waiting` and their subfolders, until none is left or the slice of time is over.

        Raises the errors of `is_time_up`.
        """
        found = ScanResult()
        with self._index.read_transaction():
            while waiting:
                self._scan_item(waiting.pop(), found, waiting)
                # A share is a slice of its own: the other shares may go to other workers.
                if is_time_up() or found.shares:
                    break
        return found

    def _scan_item(self, item: ScanItem, found: ScanResult, waiting: CompressedList[ScanItem]) -> None:
        path, share = item
        try:
            seen = self._scan_source(path, share)
        except OSError as error:
            found.unlisted.append(Unlisted(path, error))
            return
        if seen.mount:
            found.mounts[path] = seen.mount
        if seen.left_out:
            found.left_out += seen.left_out
        if seen.folders:
            prefix = path + b"/" if path else b""
            waiting.extend([(prefix + name, 0) for name in reversed(seen.folders)])
        if share or seen.shares > 1:
            waiting.extend([(path, number) for number in range(1, seen.shares)])
            found.shares.append(FolderShare(path, share, seen._replace(folders=[])))
        else:
            self.classify(path, seen, found)

    def classify(self, path: bytes, seen: FolderScan, found: ScanResult) -> None:
        """Count a folder as unchanged, or as to be synced."""
        known = self._index.summary(path)
        is_same_source = (
            known is not None and seen.fingerprint == known.fingerprint and not (known.recheck or seen.unreadable)
        )
        if known is not None and is_same_source and self._trust_times and self._mirror_unchanged(path, known):
            found.folders_unchanged += 1
            found.entries_unchanged += known.entries
            found.specials_unchanged += known.specials
            return
        # A sleeping mirror is scanned again, awake, before anything is written.
        awake = self._depth is not ScanDepth.ROOT
        stamp = self._mirror_scanner.stamp(path) if awake else None
        left = FolderMatch.SAME
        if path and awake and stamp is None and known is not None:
            left = FolderMatch.MISSING
        elif path and stamp is not None:
            left = match_folder(known and known.stamp, stamp)
        mark = inode_mark(stamp) if stamp else b""
        new_mirror = awake and not path and known is None and self._mirror_scanner.is_empty()
        # A huge folder stays so until it is much smaller: its records lie in parts, which only `SyncPart` reads.
        in_parts = known is not None and known.parts > 1
        huge = seen.huge or (in_parts and seen.entries + len(seen.folders) >= CHUNK // 4)
        empty_fingerprint = fingerprint_of([], seen.salt) if seen.entries or seen.folders else b""
        missing = awake and stamp is None
        is_as_recorded = self._depth is ScanDepth.FOLDERS and known is not None and stamp == known.stamp
        if seen.packed and self._bytes_left > 0:
            self._bytes_left -= len(seen.packed)
            found.packed[path] = seen.packed
        found.changed.append(
            (
                path,
                seen.entries,
                seen.bytes,
                seen.fingerprint,
                missing,
                huge,
                empty_fingerprint,
                int(left),
                mark,
                new_mirror,
                known.stamp + known.mirror_fingerprint if known and is_as_recorded else b"",
                is_same_source,
            )
        )
        if not is_same_source:
            found.entries_changed += 1 + seen.entries
            found.empty_files += [row[5] for row in seen.rows].count(0) if seen.rows else seen.entries
        found.entries_to_sync += seen.entries
        found.bytes_to_sync += seen.bytes

    def _mirror_unchanged(self, path: bytes, known: FolderSummary) -> bool:
        if self._depth is ScanDepth.ROOT and path:
            return True
        if self._depth is ScanDepth.AUDIT:
            return self._mirror_scanner.inspect(path, known.parts) == (known.stamp, known.mirror_fingerprint)
        return self._mirror_scanner.stamp(path) == known.stamp


def scan_depths(pair: Pair, audited: float, now: float) -> tuple[ScanDepth, ScanDepth]:
    """Return two scan depths: for the first scan, and for the rescan once something must be written.

    A sleeping disk is woken only by something to write; other changes on it are found then.
    """
    # A timestamp in the future, by a clock set back since, counts as no audit.
    due = not 0 <= now - audited < pair.audit_interval
    awake = ScanDepth.AUDIT if due else ScanDepth.FOLDERS
    return (ScanDepth.ROOT if pair.mirror_check == "asleep" else awake), awake


_name_of = itemgetter(0)


def list_again(source: SourceScanner, path: bytes, known: Collection[bytes], empty_fingerprint: bytes) -> Listing:
    """List a folder of the source again, of which the index knows some names.

    `empty_fingerprint` is that of the folder without entries and otherwise unchanged since the scan; empty if the scan
    found no entries. Raises `Huge`, and `OSError` if two listings contradict the scan, or lack a known name that can be
    examined: a concurrent rename hides a name from one listing only.
    """
    listing = source.list(path)
    if _contradiction(source, listing, known, empty_fingerprint):
        listing = source.list(path)
        if why := _contradiction(source, listing, known, empty_fingerprint):
            raise OSError(errno.EIO, why)
    return listing


def _contradiction(source: SourceScanner, listing: Listing, known: Collection[bytes], empty_fingerprint: bytes) -> str:
    if empty_fingerprint and listing.fingerprint == empty_fingerprint and not listing.entries:
        return "its listing is empty now, though it was not a moment ago and nothing in it was changed"
    listed = {*map(_name_of, listing.entries), *map(_name_of, listing.unreadable)}
    missing = [name for name in known if name not in listed]
    there = source.part(listing.path, sorted(missing)).entries if missing else []
    if not there:
        return ""
    others = f" and {len(there) - 1} more" if len(there) > 1 else ""
    return f"its listing does not show {printable(there[0].name)}{others}, which can be examined: it is not believed"


def with_ancestors(path: bytes) -> Iterator[bytes]:
    """Yield the path of a folder, and of those above it up to the root."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield path
