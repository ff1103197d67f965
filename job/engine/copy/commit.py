"""Hold events back until renamed batches are durable and in the index, and only then emit them (invariants 2 and 13).

One sync and one transaction serve all batches that arrived since the last one. Only the main process does this, so the
index has one writer and the events one order.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from job.core.counts import Counts, Tally
from job.core.entry import Kind, join, printable
from job.core.outcome import Failure, failure_of, reason_text
from job.core.record import FolderDone
from job.core.versions import OrphansSeen
from job.engine.context import PairContext, PairRun
from job.engine.copy.pending import PendingRename, PlainRenames
from job.engine.messages import BatchResult
from job.engine.preflight.root_check import RootLost
from job.engine.versions.keeping import VersionKeeper
from job.engine.volumes import MountedFileSystem
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    CopyFacts,
    FileCopied,
    FileFailed,
    FilesCopied,
    FolderRetired,
    MetadataNotKept,
)
from job.events.text import plural
from job.fs.own_files import MirrorSync
from job.store.index import Index


class PendingEvents:
    """Events and counts of one pair that wait for a commit."""

    def __init__(self, run: PairRun, context: PairContext, keeper: VersionKeeper) -> None:
        self._run = run
        self._writers = [context.tools.metadata_writer, *(each.metadata_writer for each in context.tools.mounted)]
        self.events: list[Event] = []
        """In the order in which they are emitted."""
        self.counts = Counts()
        self._keeper = keeper
        self.retired: list[bytes] = []
        """Folders that left the mirror's tree: index records of anything in them are void."""
        self.lost_folders: set[bytes] = set()
        """Folders that failed: not tried, nor reported, a second time."""

    def add(self, event: Event) -> None:
        """Add an event, which is emitted after the commit."""
        self.events.append(event)

    def add_copy(self, event: FileCopied, holes: int) -> None:
        """Count and report a copy, of which so many bytes are in holes."""
        self.counts.copied += 1
        self.counts.bytes_copied += event.bytes - holes
        self._add_copies([event.facts])

    def _add_copies(self, copies: list[CopyFacts]) -> None:
        last = self.events[-1] if self.events else None
        if isinstance(last, FilesCopied):
            last.copies.extend(copies)
        elif copies:
            self.events.append(FilesCopied(cycle_id=self._run.cycle_id, pair=self._run.pair.name, copies=copies))

    def add_plain(self, plain: PlainRenames) -> list[PendingRename]:
        """Count and report copies of plain files; return those that their folder does not hold any more."""
        lost = plain.work.lost
        kept = [copy for copy in plain.copies if copy[0][0] not in lost] if lost else plain.copies
        self.counts.copied += len(kept)
        self.counts.bytes_copied += sum([copy[0][5] for copy in kept])
        self._add_copies(plain.facts(kept))
        return [plain.general(copy) for copy in plain.copies if copy[0][0] in lost] if lost else []

    def fail(self, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        """Count and report a failed entry."""
        if kind is Kind.FOLDER:
            self.lost_folders.add(path)
        self.counts.failed[reason] += 1
        self.add(
            FileFailed(
                cycle_id=self._run.cycle_id,
                pair=self._run.pair.name,
                path=path,
                kind=kind,
                reason=reason,
                error=error,
            )
        )

    def retire(self, folder: int, above: bytes, name: bytes) -> None:
        """Move a folder of the open one at the path `above` to the versions, unless it is empty. Raises `OSError`."""
        if not self._keeper.removed(name, folder):
            path = join(above, name)
            version = printable(self._keeper.take(path, folder))
            self.add(FolderRetired(cycle_id=self._run.cycle_id, pair=self._run.pair.name, path=path, version=version))
            self.retired.append(path)

    def add_refusals(self, path: bytes) -> None:
        """Report metadata that the mirror refused, first at `path`."""
        for metadata_writer in self._writers:
            for what, error in metadata_writer.take_refusals():
                self.add(
                    MetadataNotKept(
                        cycle_id=self._run.cycle_id, pair=self._run.pair.name, what=what, path=path, error=error
                    )
                )

    def take(self) -> tuple[list[Event], Tally]:
        """Return, and forget, all events and their tally."""
        events, self.events = self.events, []
        self.counts.attributes_unread += sum(metadata_writer.take_unread() for metadata_writer in self._writers)
        tally, self.counts = self.counts.tally(), Counts()
        return events, tally

    def keep_failures(self) -> None:
        """Forget everything but failures, for a mirror that cannot be committed to any more."""
        self.events = [event for event in self.events if isinstance(event, FileFailed)]
        failed, self.counts = self.counts.failed, Counts()
        self.counts.failed = failed


class Commit:
    """Commits the batches of one pair."""

    def __init__(
        self,
        index: Index,
        sync: MirrorSync,
        run: PairRun,
        recheck_roots: Callable[[], None] = lambda: None,
        mounted: Sequence[MountedFileSystem] = (),
        reclaim: Callable[[], bool] = lambda: False,
    ) -> None:
        """`recheck_roots` raises `RootLost` if a root was lost or replaced; `reclaim` makes some for the index.

        `sync` is for the file system of the mirror's root, and `mounted` are others in it.
        """
        self._mounted = mounted
        self._check_place, self._reclaim = recheck_roots, reclaim
        self._index = index
        self._sync = sync
        self._run = run
        self._not_kept: set[str] = set()
        self._is_incomplete = self._is_time_known = False
        self._failed_syncs: dict[int, tuple[int, int]] = {}
        """By file system where a sync failed: the latest work item then, and the time in nanoseconds."""
        self.given = 0
        """The latest work item that was given out."""

    def __call__(self, batches: list[BatchResult]) -> list[BatchResult]:
        """Sync, write the index, emit events; returns the outcome of the batches. Errors become failures.

        Raises `RootLost`, with everything reported as failed.
        """
        try:
            self._check_place()
        except RootLost as error:
            for batch in batches:
                self._emit(self._voided(batch, Failure.SYNC, error.message))
            raise
        batches = self._synced([self._doubted_since_sync(batch) for batch in batches])
        try:
            self._write_rows(batches)
        except OSError as error:
            batches = self._written_or_voided(batches, error)
        for batch in batches:
            self._emit(batch)
        return batches

    def _written_or_voided(self, batches: list[BatchResult], error: OSError) -> list[BatchResult]:
        """Write the index once more if versions can be given up for it; else void the batches."""
        if self._reclaim():
            try:
                self._write_rows(batches)
            except OSError as again:
                error = again
            else:
                return batches
        reason = Failure.NO_SPACE if failure_of(error) is Failure.NO_SPACE else Failure.SYNC
        return [self._voided(batch, reason, reason_text(error)) for batch in batches]

    def _write_rows(self, batches: list[BatchResult]) -> None:
        rows = [each for batch in batches for each in batch.rows]
        folders = self._changed([folder for batch in batches for folder in batch.folders], {row.path for row in rows})
        retired = [path for batch in batches for path in batch.retired]
        versions = [each for batch in batches for each in batch.versions]
        gone = [each for batch in batches for each in batch.given_up.versions]
        if folders or rows or retired or versions or gone:
            incomplete_at = max(self._incomplete_at(batches), *(batch.given_up.until for batch in batches))
            self._index.commit(folders, rows, retired, versions, gone_versions=gone, incomplete_at=incomplete_at)
            self._is_incomplete = False
        self._store_orphans_of_parts(batches)

    def _store_orphans_of_parts(self, batches: list[BatchResult]) -> None:
        """Store those of huge folders, apart from their rows: after a kill all their parts are synced again."""
        parts = [part for batch in batches for part in batch.parts]
        seen = [OrphansSeen(part.path, part.number, part.orphans) for part in parts if part.orphans is not None]
        if seen and not all(map(self._index.orphans.knows, seen)):
            self._index.orphans.commit(seen)

    def _incomplete_at(self, batches: list[BatchResult]) -> float:
        """Return the time if a replaced content was not kept since the last commit, or the index has no such time."""
        self._is_incomplete |= any(batch.unkept for batch in batches)
        if not self._is_incomplete and not self._is_time_known:
            self._is_incomplete = self._index.complete_since == inf
        self._is_time_known = True
        return self._run.now_ns() / 1e9 if self._is_incomplete else 0.0

    def _synced(self, batches: list[BatchResult]) -> list[BatchResult]:
        for volume in {batch.volume for batch in batches}:
            try:
                if volume:
                    self._mounted[volume - 1].check()
                if any(batch.dirty for batch in batches if batch.volume == volume):
                    (self._mounted[volume - 1].sync if volume else self._sync).all()
            except OSError as error:
                self._failed_syncs[volume] = self.given, self._run.now_ns()
                batches = [
                    self._voided(batch, Failure.SYNC, reason_text(error)) if batch.volume == volume else batch
                    for batch in batches
                ]
        return batches

    def _changed(self, folders: list[FolderDone], written: set[bytes]) -> list[FolderDone]:
        # Where every content is read in every cycle, most rows and summaries are the same as before.
        summary_of = self._index.summary
        with self._index.read_transaction():
            return [
                each
                for each in folders
                if each.path in written
                or summary_of(each.path) != each.summary
                or (each.orphans and not self._index.orphans.knows(OrphansSeen(each.path, 0, each.orphans)))
            ]

    def _doubted_since_sync(self, batch: BatchResult) -> BatchResult:
        # syncfs reports a lost write once; batches in progress at that moment may have lost data, so they fail.
        for volume, (item, until_ns) in self._failed_syncs.items():
            is_under_way = batch.since_ns < until_ns
            if not is_under_way and batch.begun > item:
                continue
            if batch.volume == volume and is_under_way:
                return self._voided(batch, Failure.SYNC, "an earlier sync failed")
            if batch.volume == volume:
                return _unremembered(batch)
            # The linked names of a batch may have been made before it began.
            batch = replace(batch, followups=replace(batch.followups, linked=[]))
        return batch

    def _voided(self, batch: BatchResult, reason: Failure, error: str) -> BatchResult:
        return voided(batch, reason, error, self._run)

    def _emit(self, batch: BatchResult) -> None:
        about = {"cycle_id": self._run.cycle_id, "pair": self._run.pair.name}
        for event in batch.events:
            if isinstance(event, MetadataNotKept):
                if event.what in self._not_kept:
                    continue  # another worker met the same refusal
                self._not_kept.add(event.what)
            self._run.emit(event)
        if batch.tally.entries or batch.tally.folders:
            self._run.emit(BatchCommitted(**about, tally=batch.tally))


def voided(batch: BatchResult, reason: Failure, error: str, run: PairRun) -> BatchResult:
    """Turn a batch into failures: the index gets nothing of it, so that the next cycle compares all of it."""
    if not (batch.folders or batch.rows or batch.tally.copied or batch.tally.updated or batch.dirty):
        return batch
    events: list[Event] = []
    for event in batch.events:
        if isinstance(event, FilesCopied):
            events += [_failed(event.event_of(facts), reason, error) for facts in event.copies]
        else:
            events.append(event)
    failures = batch.tally.copied
    if not failures:
        failures = 1
        path = batch.folders[0].path if batch.folders else b""
        message = f"{plural(len(batch.folders), 'folder')} could not be committed: {error}"
        events.append(
            FileFailed(
                cycle_id=run.cycle_id,
                pair=run.pair.name,
                path=path,
                kind=Kind.FOLDER,
                reason=reason,
                error=message,
            )
        )
    failed_by = dict(batch.tally.failed_by)
    failed_by[reason] = failed_by.get(reason, 0) + failures
    tally = batch.tally._replace(copied=0, bytes_copied=0, failed_by=failed_by)
    return replace(_unremembered(batch), events=events, tally=tally)


def _unremembered(batch: BatchResult) -> BatchResult:
    followups = replace(batch.followups, linked=[])
    parts = [part._replace(complete=False, orphans=None) for part in batch.parts]
    return replace(batch, folders=[], rows=[], versions=[], parts=parts, followups=followups)


def _failed(event: FileCopied, reason: Failure, error: str) -> Event:
    message = f"copied, but not known to be safe: {error}"
    return FileFailed(
        cycle_id=event.cycle_id, pair=event.pair, path=event.path, kind=event.kind, reason=reason, error=message
    )
