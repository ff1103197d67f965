"""Batch: give staged temps their names so that nothing is torn and nothing acknowledged is lost (design 3.3).

The order is the point. Temps are complete, then synced; only then renamed, so that a name never stands for half a
content (invariant 1). Folder metadata comes after the renames, which move folder times. The second sync makes renames
durable before the index believes them, and the index is committed before anybody is told (invariants 2 and 13).
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from job.core.entry import Entry, Kind
from job.core.events import BatchCommitted, Event, FileCopied, FileFailed
from job.core.outcome import Failure, failure_of
from job.core.record import Copied, FolderDone, FolderSummary, Record
from job.core.tally import Counts
from job.files.durable import fsync_folder
from job.files.listing import Listing, list_entries, mirror_fingerprint, stamp_of
from job.files.trail import Trail
from job.tasks.bench import Assignment, Bench

MOST_FILES = 1000
MOST_BYTES = 256 << 20
LONGEST_NS = 5_000_000_000
"""A batch is given its names after so long, so that a stop throws little away."""


class Settled(NamedTuple):
    """An entry whose mirror holds the right content."""

    source: Entry
    """As it was when it was read."""
    checksum: str
    inode: int
    """Of the mirror entry."""
    racy: bool


@dataclass(slots=True)
class Work:
    """One folder on its way to a row of the index."""

    listing: Listing
    xattrs: dict[bytes, bytes]
    settled: dict[bytes, Settled] = field(default_factory=dict)
    kept: dict[bytes, Record] = field(default_factory=dict)
    """Records that go on as they were."""
    sure: bool = True
    """Whether the folder may be passed over next time; not if anything in it failed or moved away."""
    specials: int = 0


@dataclass(slots=True)
class _Staged:
    work: Work
    name: bytes
    temp: bytes
    copied: Copied
    racy: bool
    event: FileCopied


class Batch:
    """Collects staged files and finished folders of one pair, and commits them together."""

    def __init__(self, bench: Bench, work: Assignment, trail: Trail) -> None:
        self._bench = bench
        self._assignment = work
        self._trail = trail
        self._staged: list[_Staged] = []
        self._closed: list[Work] = []
        self._told: list[Event] = []
        self.counts = Counts()
        self.dirty = False
        """Whether anything was written that the next commit has to sync."""
        self._bytes = 0
        self._since_ns = work.now_ns()

    @property
    def full(self) -> bool:
        """Whether it is time to commit."""
        if len(self._staged) >= MOST_FILES or self._bytes >= MOST_BYTES:
            return True
        return self._assignment.now_ns() - self._since_ns >= LONGEST_NS

    @property
    def holding(self) -> bool:
        """Whether staged files wait for their names, and the contents they replace still take up room."""
        return bool(self._staged)

    def stage(self, work: Work, temp: bytes, copied: Copied, event: FileCopied, *, racy: bool) -> None:
        """Take a complete temp in; `event` is told once the file has its name for good."""
        self._staged.append(_Staged(work, copied.source.name, temp, copied, racy, event))
        self._bytes += event.bytes
        self.dirty = True

    def tell(self, event: Event) -> None:
        """Have an event told with the commit, in its place between the others."""
        self._told.append(event)

    def fail(self, work: Work, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        """Count and tell a failed entry; its folder is looked at again next time."""
        work.sure = False
        self._fail(path, kind, reason, error)

    def fail_folder(self, path: bytes, reason: Failure, error: str) -> None:
        """Count and tell a folder that could not be visited."""
        self._fail(path, Kind.FOLDER, reason, error)

    def _fail(self, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        self.counts.failed[reason] += 1
        self.tell(
            FileFailed(
                cycle_id=self._assignment.cycle_id,
                pair=self._assignment.pair.name,
                path=path,
                kind=kind,
                reason=reason,
                error=error,
            )
        )

    def close(self, work: Work) -> None:
        """Take in a folder of which everything was staged or settled."""
        self._closed.append(work)

    def drop(self) -> None:
        """Throw staged temps away; what was committed before stays."""
        for staged in self._staged:
            self._unlink(staged)
        self._staged.clear()

    def commit(self) -> None:
        """Sync, rename, finish folders, sync again, remember, tell. Raises `OSError` only for a lost mirror."""
        self._sync_or_void()
        if self._assignment.pair.verify_copies == "readback":
            self._read_back()
        placed = [staged for staged in self._staged if self._place(staged)]
        self._staged.clear()
        done = [each for each in (self._finish(work) for work in self._closed) if each is not None]
        try:
            if self.dirty:
                self._sync(placed)
            self._bench.memory.commit(done)
        except OSError as error:
            self._unsafe(placed, error)
            placed = []
        for staged in placed:
            self._count(staged)
        self._closed.clear()
        self._bytes, self.dirty, self._since_ns = 0, False, self._assignment.now_ns()
        self._publish()

    def _publish(self) -> None:
        for event in self._told:
            self._assignment.emit(event)
        self._told.clear()
        tally, self.counts = self.counts.tally(), Counts()
        if tally.entries or tally.folders:
            self._assignment.emit(
                BatchCommitted(cycle_id=self._assignment.cycle_id, pair=self._assignment.pair.name, tally=tally)
            )

    def _unsafe(self, placed: list[_Staged], error: OSError) -> None:
        reason = Failure.NO_SPACE if failure_of(error) is Failure.NO_SPACE else Failure.SYNC
        for staged in placed:
            self._fail_staged(staged, reason, f"copied, but not known to be safe: {error}")
        if not placed and self._closed:
            first = self._closed[0]
            message = f"{len(self._closed)} folders could not be committed: {error}"
            self.fail(first, first.listing.path, Kind.FOLDER, reason, message)

    def _count(self, staged: _Staged) -> None:
        self.counts.copied += 1
        self.counts.bytes_copied += staged.event.bytes
        self.tell(staged.event)

    def _sync_or_void(self) -> None:
        if not self._staged or self._bench.sync.each:
            return
        try:
            self._bench.sync.all()
        except OSError as error:
            # The kernel marks pages clean after a failed write-back: syncing again would lie. Copy again next time.
            for staged in self._staged:
                self._unlink(staged)
                self._fail_staged(staged, Failure.SYNC, f"the disk did not take it: {error}")
            self._staged.clear()

    def _sync(self, placed: list[_Staged]) -> None:
        if not self._bench.sync.each:
            self._bench.sync.all()
            return
        works = [staged.work for staged in placed] + self._closed
        for path in dict.fromkeys(work.listing.path for work in works):
            fsync_folder(self._trail.goto(path))

    def _read_back(self) -> None:
        good = []
        for staged in self._staged:
            if not staged.copied.checksum:
                good.append(staged)
                continue
            try:
                folder = self._trail.goto(staged.work.listing.path)
                found = self._bench.copyist.cold_checksum(staged.temp, folder)
            except OSError as error:
                self._unlink(staged)
                self._fail_staged(staged, failure_of(error), f"could not be read back: {error}")
                continue
            if found == staged.copied.checksum:
                good.append(staged)
            else:
                self._unlink(staged)
                message = f"read back as {found}, but {staged.copied.checksum} was written"
                self._fail_staged(staged, Failure.VERIFY_MISMATCH, message)
        self._staged = good

    def _place(self, staged: _Staged) -> bool:
        try:
            folder = self._trail.goto(staged.work.listing.path)
            try:
                os.rename(staged.temp, staged.name, src_dir_fd=folder, dst_dir_fd=folder)
            except IsADirectoryError:
                # A folder of that name may only go if it is empty: nothing is deleted from a mirror.
                os.rmdir(staged.name, dir_fd=folder)
                os.rename(staged.temp, staged.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            self._unlink(staged)
            self._fail_staged(staged, failure_of(error), str(error))
            return False
        copied = staged.copied
        staged.work.settled[staged.name] = Settled(copied.source, copied.checksum, copied.inode, staged.racy)
        return True

    def _fail_staged(self, staged: _Staged, reason: Failure, error: str) -> None:
        self.fail(staged.work, staged.event.path, staged.event.kind, reason, error)

    def _unlink(self, staged: _Staged) -> None:
        with suppress(OSError):
            os.unlink(staged.temp, dir_fd=self._trail.goto(staged.work.listing.path))

    def _finish(self, work: Work) -> FolderDone | None:
        """Give the mirror folder its own metadata, last of all, and look at what is there now."""
        listing = work.listing
        self.counts.folders += 1
        try:
            folder = self._trail.goto(listing.path)
            before = stamp_of(os.fstat(folder))
            self._bench.keeper.apply(folder, listing.folder, work.xattrs)
            self.dirty |= stamp_of(os.fstat(folder)) != before
            present, _ = list_entries(folder)
            stamp = stamp_of(os.fstat(folder))
        except OSError as error:
            self.counts.folders -= 1
            self.fail(work, listing.path, Kind.FOLDER, failure_of(error), str(error))
            return None
        records = self._records(work, {entry.name: entry for entry in present})
        summary = FolderSummary(
            fingerprint=listing.fingerprint if work.sure else b"",
            stamp=stamp,
            mirror_fingerprint=mirror_fingerprint(present),
            entries=len(listing.entries) - sum(1 for entry in listing.entries if entry.kind is Kind.FOLDER),
            specials=work.specials,
            recheck=any(record.racy for record in records.values()),
        )
        return FolderDone(listing.path, summary, records)

    def _records(self, work: Work, present: dict[bytes, Entry]) -> dict[bytes, Record]:
        records = dict(work.kept)
        for name, settled in work.settled.items():
            mirror = present.get(name)
            if mirror is not None and mirror.inode == settled.inode and mirror.size == settled.source.size:
                records[name] = Record(settled.source, mirror, settled.checksum, settled.racy)
            else:
                work.sure = False  # somebody else was at the mirror since
        return records
