"""Rename complete temps to their final names, in batches.

The order matters. Temps are complete, then synced; then what they replace is linked to the versions; then they are
renamed, so that a name always has a complete content (invariant 1), and none is lost (invariant 4). Folder metadata is
set after the renames, which change folder times. Then `commit.py` syncs the renames before the index has them, and
writes the index before events are emitted (invariant 2).
"""

import errno
import os
from collections.abc import Collection
from contextlib import suppress

from job.core.entry import Kind, parent_of
from job.core.outcome import Failure, Skip, failure_of, reason_text
from job.core.record import Copied, FolderDone
from job.engine.brake.holder import Holder
from job.engine.context import PairContext, PairRun
from job.engine.copy.commit import PendingEvents, voided
from job.engine.copy.finish_folder import Finished, Work, finish, finish_part
from job.engine.copy.folder_recheck import Recheck
from job.engine.copy.kept_versions import KeptVersions
from job.engine.copy.pending import PendingRename, PendingRenames, PlainRenames, StagedFolders
from job.engine.messages import BatchResult, Deliver, Followups, ItemHold, PartDone
from job.engine.versions.keeping import Leaving, VersionKeeper
from job.engine.versions.orphans import OrphanFinder
from job.engine.volumes import Volume
from job.events.pair import FileCopied
from job.fs.dircursor import DirCursor
from job.fs.own_files import MirrorSync, fsync_folder
from job.fs.small_copies import PlainCopy

MOST_FILES = 1000
MOST_BYTES = 256 << 20
MOST_ENTRIES = 8192
"""Finished folders and their entries, changed or not, that are held in memory."""
LONGEST_NS = 5_000_000_000
"""Maximum age of a batch, so that a stop loses little work."""


class Batch:
    """Collects complete temps and finished folders, and commits them together."""

    def __init__(
        self,
        context: PairContext,
        run: PairRun,
        keeper: VersionKeeper,
        cursors: tuple[DirCursor, DirCursor],
        deliver: Deliver,
    ) -> None:
        """`deliver` gets each result; a commit moves the cursors of mirror and source."""
        self._context = context
        self._run = run
        self._cursor = cursors[0]
        self.recheck = Recheck(cursors[1], self._cursor, context.mirror_root)
        self._deliver = deliver
        self._pending = PendingRenames(run)
        self.staged = StagedFolders(run, self._cursor)
        self.holder = Holder(run.pair)
        self.kept = KeptVersions(context, run, keeper, self.holder)
        self._orphans = OrphanFinder(context.source, run.now_ns)
        self._closed: list[Work] = []
        self._open: Work | None = None
        self.pending_events = PendingEvents(run, context, keeper)
        self.volume: Volume | None = None
        """The mirror's file system of all entries in the batch."""
        self.dirty = False
        """Whether anything was written that has to be synced."""
        self.followups = Followups()
        self._journaled: set[bytes] = set()
        self.staged_in: set[bytes] = set()
        """Folders whose times changed, because others were staged in them."""
        self._bytes = self._entries = self._item = self._begun = 0
        self._since_ns = run.now_ns()
        self._ended: list[int] = []
        self._folders: list[FolderDone] = []

    def switch_to(self, volume: Volume) -> None:
        """Continue on another file system of the mirror; the entries on the previous one are committed first."""
        if volume is self.volume:
            return
        if self.has_pending or self._closed or self._folders or self.dirty:
            self.commit()
        self.volume = volume

    @property
    def _sync(self) -> MirrorSync:
        return self._context.tools.sync if self.volume is None else self.volume.sync

    def begin(self, item: int, hold: ItemHold | None = None) -> None:
        """Begin a work item."""
        self.holder.begin(hold)
        self._item = item
        self._begun = self._begun or item

    def end(self) -> None:
        """End the work item: it is done once this batch is committed."""
        self._ended.append(self._item)
        self._item = 0

    @property
    def files_left(self) -> int:
        """Number of files that may be added before it is time to commit."""
        return max(0, MOST_FILES - self._pending.files - self.staged.files)

    @property
    def full(self) -> bool:
        """Whether it is time to commit."""
        is_large = not self.files_left or self._bytes >= MOST_BYTES or self._entries >= MOST_ENTRIES
        return is_large or self._run.now_ns() - self._since_ns >= LONGEST_NS

    @property
    def has_pending(self) -> bool:
        """Whether temps wait for their names, and the contents that they replace still take space."""
        return bool(self._pending.files or self.staged.files)

    def add(
        self, work: Work, temp: bytes, copied: Copied, event: FileCopied, *, racy: bool, old: Leaving | None
    ) -> None:
        """Add a complete temp, which replaces an `old` entry; `event` is emitted once the rename is durable."""
        self._pending.add(PendingRename(work, copied.source.name, temp, copied, racy, old, event))
        self._bytes += event.bytes
        self.dirty = True

    def add_plain(self, work: Work, copies: list[PlainCopy]) -> None:
        """Add complete temps of plain files of a folder."""
        self._pending.add_plain(work, copies)
        self._bytes += sum([copy[0][5] for copy in copies])
        self.dirty = True

    def add_staged(self, work: Work, copies: list[PlainCopy], staged: bytes) -> None:
        """Add a folder that is staged under this name."""
        self.staged.add(work, copies, staged)
        self._bytes += sum([copy[0][5] for copy in copies])
        self.dirty = True
        self.close(work)

    def fail(self, work: Work, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        """Count and report a failed entry; the next cycle scans its folder again."""
        work.complete, work.failure = False, reason
        if reason is Failure.READ_ONLY and (read_only := self.recheck.why_read_only(work.listing.path)):
            error = read_only
        self.pending_events.fail(path, kind, reason, error)

    def fail_folder(self, path: bytes, error: OSError, what: str = "") -> None:
        """Count and report a folder that failed as a whole."""
        reason = failure_of(error)
        read_only = self.recheck.why_read_only(path) if reason is Failure.READ_ONLY else ""
        self.pending_events.fail(path, Kind.FOLDER, reason, read_only or f"{what}{reason_text(error)}")

    def open(self, work: Work) -> None:
        """Begin a folder."""
        self._open = work

    def close(self, work: Work) -> None:
        """Add a folder whose entries are all pending or settled."""
        self._open = None
        self._closed.append(work)
        self._entries += 1 + len(work.listing.entries)
        self._bytes += 16 * work.attribute_bytes  # held in memory: up to a megabyte a folder

    def close_folder(self, folder: FolderDone) -> None:
        """Add a huge folder that has its metadata, after all its parts were committed."""
        self._folders.append(folder)
        self.pending_events.add_refusals(folder.path)
        self.pending_events.counts.folders += 1

    def journal_temps(self, work: Work) -> None:
        """Enter the folder of a work in the temp journal before a temp is made, so that it is removed after a kill."""
        self.switch_to(work.volume)
        if work.listing.path not in self._journaled:
            with suppress(OSError):  # on a full disk it is removed when the folder is synced next
                self._context.temp_journal.note(work.listing.path)
            self._journaled.add(work.listing.path)

    def journal_staged(self, path: bytes, inode: int) -> None:
        """Enter a staged folder, with its inode number: only what was staged is removed after a kill."""
        with suppress(OSError):
            self._context.temp_journal.note(b"%s/%x" % (path, inode))

    def drop(self) -> None:
        """Remove pending temps; everything committed before, and changes without a temp, stay.

        So does the temp journal: an exception may have left temps that are not pending yet.
        """
        for rename in self._take_back():
            rename.work.complete = False
        self.kept.drop()

    def give_up(self) -> None:
        """Deliver failures only, for a mirror that cannot be committed to any more."""
        self.pending_events.keep_failures()
        self._folders.clear()
        self.dirty = False
        self._deliver(self._take_result([]))

    def commit(self) -> None:
        """Sync, rename, finish folders and deliver the result. Errors are reported as failures."""
        self._sync_or_void()
        if self._run.pair.verify_copies == "readback":
            self._read_back()
        self._recheck_folders()
        self._keep_replaced()
        renamed = self._rename_general()
        staged, done = self._place_staged()
        # After the others: of two names that the mirror treats as equal neither may look complete.
        done += self._rename_plain()
        renamed += self._rename_general()
        done += map(self._finish, self._closed)
        self._count(renamed, staged)
        noted = self._journaled or self.staged_in or self.kept.any
        batch = self._take_result(done)
        if self.dirty and self._sync.each:
            batch = self._folders_synced(batch, renamed)
        self._closed.clear()
        if noted:
            with suppress(OSError):
                self._context.temp_journal.clear()
        self._journaled.clear()
        self.staged_in.clear()
        self._bytes, self._entries, self.dirty = 0, 0, False
        self._deliver(batch)
        self._since_ns = self._run.now_ns()

    def _take_result(self, finished: list[Finished | None]) -> BatchResult:
        given_up, warnings = self.kept.take_given_up()
        events, tally = self.pending_events.take()
        done = [each for each in finished if each is not None]
        batch = BatchResult(
            begun=self._begun,
            since_ns=self._since_ns,
            ended=self._ended,
            folders=[*self._folders, *(folder for folder, _ in done if isinstance(folder, FolderDone))],
            parts=[part for part, _ in done if isinstance(part, PartDone)],
            rows=[rows for _, rows in done if rows is not None],
            events=warnings + events,
            tally=tally,
            dirty=self.dirty and not self._sync.each,
            volume=self.volume.number if self.volume else 0,
            retired=self.pending_events.retired,
            versions=self.kept.take(),
            given_up=given_up,
            unkept=self.kept.take_incomplete(),
            held=self.holder.take(),
            followups=self.followups,
        )
        self._begun, self._ended, self._folders, self.followups = self._item, [], [], Followups()
        self.pending_events.retired = []
        return batch

    def _folders_synced(self, batch: BatchResult, renamed: list[PendingRename]) -> BatchResult:
        works = [rename.work for rename in renamed] + self._closed
        paths = [work.listing.path for work in works] + [folder.path for folder in batch.folders]
        try:
            self.recheck.forget()
            for path in dict.fromkeys(paths):
                fsync_folder(self._cursor.goto(path))
        except OSError as error:
            self._distrust([])
            return voided(batch, Failure.SYNC, reason_text(error), self._run)
        return batch

    def _distrust(self, works: list[Work]) -> None:
        # Metadata fixed in them, and in the open folder, may be lost, too: the next cycle compares all of it.
        for work in works if self._open is None else [*works, self._open]:
            work.complete = False
            work.settled.clear()

    def _count(self, renamed: list[PendingRename], staged: list[PlainRenames]) -> None:
        copies = self._pending.take_plain() + staged
        lost = [each for plain in copies for each in self.pending_events.add_plain(plain)]
        for rename in renamed:
            if rename.name in rename.work.lost:
                lost.append(rename)
            else:
                self.pending_events.add_copy(rename.event, rename.copied.holes)
        for rename in lost:
            self._fail_rename(rename, Failure.TYPE_CONFLICT, "the mirror does not hold it under this name any more")

    def _recheck_folders(self) -> None:
        """Drop copies from source folders that were replaced since; a vanished folder is no failure."""
        works = {id(work): work for work in [*self._pending.works(), *self._closed]}
        wrong = self.recheck.check(works.values())
        self.dirty |= self.recheck.take_narrowed()
        lost = self._take_back(wrong) if wrong else []
        for rename in lost:
            self._give_up_folder(rename.work, rename.event.path, rename.event.kind, wrong[id(rename.work)])
        for number in wrong.keys() - {id(rename.work) for rename in lost}:
            self._give_up_folder(works[number], works[number].listing.path, Kind.FOLDER, wrong[number])

    def _give_up_folder(self, work: Work, path: bytes, kind: Kind, error: OSError) -> None:
        work.held, work.complete = True, False
        if not isinstance(error, FileNotFoundError):
            reason = Failure.CHANGED_DURING_COPY if error.errno == errno.ESTALE else failure_of(error)
            self.fail(work, path, kind, reason, f"its folder: {reason_text(error)}")
        elif kind is not Kind.FOLDER:
            self.pending_events.counts.skipped[Skip.VANISHED] += 1

    def _sync_or_void(self) -> None:
        if not self.has_pending or self._sync.each:
            return
        try:
            self._sync.all()
        except OSError as error:
            # The kernel marks pages clean after a failed write-back: a second sync would succeed. Copy again next time.
            message = f"the disk did not take it: {reason_text(error)}"
            for rename in self._take_back():
                self._fail_rename(rename, Failure.SYNC, message)
            self._distrust(self._closed)

    def _keep_replaced(self) -> None:
        enter = self.recheck.enter
        self._pending.hold_back(self.holder, enter, self.pending_events.counts)
        for rename, fault in self._pending.remove_unkept(self.kept.keep(self._pending.replaced(), enter), enter):
            self._fail_rename(rename, *fault)

    def _read_back(self) -> None:
        for rename, fault in self._pending.remove_misread(self.recheck.enter):
            self._fail_rename(rename, *fault)

    def _take_back(self, works: Collection[int] | None = None) -> list[PendingRename]:
        """Remove all temps and staged folders, or those of works with these `id`s; return them in the general form."""
        renames = self._pending.take_all(works)
        for rename in renames:
            rename.unlink(self.recheck.enter)
        staged = self.staged.remove(works)
        self._forget(staged)
        return renames + [plain.general(copy) for plain in staged for copy in plain.copies]

    def _forget(self, staged: list[PlainRenames]) -> None:
        """Take staged folders from the closed ones."""
        gone = {id(plain.work) for plain in staged}
        self._closed = [work for work in self._closed if id(work) not in gone]

    def _place_staged(self) -> tuple[list[PlainRenames], list[Finished | None]]:
        """Give staged folders their places; finish those that are there, and return them.

        It changes the times of the folders above: those that are not finished after it are synced again.
        """
        there, unplaced = self.staged.place(self.pending_events.retire)
        self._forget([*there, *unplaced])
        self.followups.unplaced += [plain.work.listing.path for plain in unplaced]
        ahead = {work.listing.path for work in [*self._closed, self._open] if work}
        self.followups.moved += self.staged_in - ahead
        done: list[Finished | None] = []
        for plain in there:
            try:
                self.recheck.enter(plain.work)
                done.append(self._finish(plain.work))
            except OSError as error:  # another folder has its name now
                self.fail(plain.work, plain.work.listing.path, Kind.FOLDER, failure_of(error), reason_text(error))
                for copy in plain.copies:
                    self._fail_rename(plain.general(copy), failure_of(error), reason_text(error))
                plain.copies = []
        return there, done

    def _rename_plain(self) -> list[Finished | None]:
        """Rename plain files, and finish their folders while they are open; return the finished ones."""
        closed = {id(work): work for work in self._closed}
        renamed = self._pending.rename_plain(self.recheck.enter)
        done = [self._finish(work) for work in renamed if closed.pop(id(work), None)]
        self._closed = [*closed.values()]
        return done

    def _rename_general(self) -> list[PendingRename]:
        """Rename pending temps in the general form; return those that have their name now."""
        renamed: list[PendingRename] = []
        for rename, fault in self._pending.rename_general(self.recheck.enter, self.put):
            if fault is None:
                renamed.append(rename)
            else:
                self.kept.undo(rename.work, rename.name)
                self._fail_rename(rename, *fault)
        return renamed

    def put(self, temp: bytes, name: bytes, folder: int, path: bytes) -> None:
        """Rename a temp of an open folder to `name`, at `path`; retire a folder of that name. Raises `OSError`."""
        try:
            self.kept.put(temp, name, folder, path)
        except IsADirectoryError:
            self.pending_events.retire(folder, parent_of(path), name)
            os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _fail_rename(self, rename: PendingRename, reason: Failure, error: str) -> None:
        self.fail(rename.work, rename.event.path, rename.event.kind, reason, error)

    def _finish(self, work: Work) -> Finished | None:
        path = work.listing.path
        try:
            if work.portion is not None:
                return finish_part(work, work.portion, self.recheck.enter(work), self._orphans)
            folder, rows, changed = finish(work, self.recheck.enter(work), self._orphans)
        except OSError as error:
            self.fail(work, path, Kind.FOLDER, failure_of(error), reason_text(error))
            return None
        self.dirty |= changed
        self.pending_events.add_refusals(path)
        self.pending_events.counts.folders += not work.again
        return folder, rows
