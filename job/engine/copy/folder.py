"""Sync folders, in the main process or a worker. The failure of one folder does not stop the others."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from job.core.adoption import FolderMatch, inode_mark
from job.core.decide import decide
from job.core.entry import Entry, Kind, join
from job.core.record import Record
from job.engine.context import PairContext, PairRun, ProgressSink
from job.engine.copy.actions import Actions, OpenFolders, make_folder
from job.engine.copy.adoption import Adoption
from job.engine.copy.batch import Batch
from job.engine.copy.cleanup import sweep_folder
from job.engine.copy.content_compare import (
    FolderConfirmer,
    continue_unsupported,
    recorded_entries,
    under_source_names,
)
from job.engine.copy.entries import Entries, link_names_in
from job.engine.copy.finish_folder import Portion, finish_whole, set_times, work_for
from job.engine.copy.hardlink_sync import Linker
from job.engine.copy.permissions import Narrower, Opening
from job.engine.copy.staged_folders import FolderStager
from job.engine.messages import (
    Deliver,
    FinishFolder,
    Links,
    Postponed,
    SplitFolder,
    SplitResult,
    SyncFolder,
    SyncHardLinks,
    SyncPart,
    Task,
    WorkItem,
)
from job.engine.preflight.root_check import DeviceCheck, RootLost
from job.engine.scan import list_again
from job.engine.versions.keeping import VersionKeeper
from job.engine.volumes import volumes_of
from job.errors import Stopped
from job.events.text import plural
from job.fs.dircursor import DirCursor
from job.fs.large_dir import (
    Partitioner,
    count_names,
    partition_count,
    partition_names,
    remove_temps,
    staged_prefix,
    stat_names,
    unpack_names,
)
from job.fs.listing import Huge, Listing, Shared, Unreadable, entries_of, stamp_of, whole_fingerprint
from job.fs.rights import make_writable
from job.store.codec import decode_records


class FolderSync:
    """Runs the work items of one process, all within `at_work`."""

    def __init__(self, context: PairContext, run: PairRun, progress: ProgressSink, deliver: Deliver) -> None:
        self._context = context
        self._run = run
        self._volumes = volumes_of(context.tools, context.mirror, run.pair, run.now_ns)
        self._devices = DeviceCheck(context)
        self._sources, self._mirrors = DirCursor(context.source_root), DirCursor(context.mirror_root)
        # The batch has cursors of its own: a commit in mid-folder must not move ours.
        self._batch_mirrors = DirCursor(context.mirror_root)
        self._batch_sources = DirCursor(context.source_root, kept=2)
        self._keeper = VersionKeeper(context, run)
        self._batch = Batch(context, run, self._keeper, (self._batch_mirrors, self._batch_sources), deliver)
        self._narrower = Narrower(self._sources, self._mirrors, self._batch)
        self._actions = Actions(context, run, self._batch, self._keeper, progress)
        self._entries = Entries(run, self._batch, self._actions)
        self._adoption = Adoption(context, run, self._keeper, self._batch_sources)
        self._linker = Linker(context, run, self._batch, self._actions, self._adoption)
        self._opening = Opening(context, run, self._batch, self._volumes, self._adoption, self._keeper)
        self._confirmer = FolderConfirmer(context, run, self._batch, progress, self._sources, self._mirrors)
        self._stager = FolderStager(context, run, self._batch, self._actions, self._narrower)
        self._progress = progress

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Remove pending temps if the work ends by an error."""
        try:
            yield
        except Stopped:
            # Changes without a temp, such as a mode, are done: they are committed.
            self._batch.drop()
            self._batch.commit()
            raise
        except RootLost:
            self._batch.drop()
            self._batch.give_up()
            raise
        finally:
            self._batch.drop()
            for each in (self._sources, self._mirrors, self._batch_mirrors, self._batch_sources):
                each.close()
            for other in (self._linker, self._adoption, self._opening, self._keeper):
                other.close()

    def go(self, item: WorkItem) -> None:
        """Sync the folders of a work item. Raises `Stopped` or `RootLost`."""
        self._batch.begin(item.number, item.hold)
        for task in item.tasks:
            self._check_stop()
            self._commit_if_full()
            self._run_task(task)
        self._batch.end()
        # Not before `end`: followups are committed together with the end of their work item.
        self._commit_if_full()

    def finish(self) -> None:
        """Commit everything pending."""
        self._batch.commit()

    def _check_stop(self) -> None:
        if self._run.stop():
            raise Stopped("stopped between two entries")

    def _commit_if_full(self) -> None:
        if self._batch.full:
            self._batch.commit()

    def _run_task(self, task: Task) -> None:
        match task:
            case SyncFolder(whole=True):
                self._sync_tree(task.path, task.links)
            case SyncFolder():
                volume = self._volumes.at(task.path)
                if not (self._confirmer.confirms(task, volume) or self._stager.stages(task, volume)):
                    self._sync_folder(task)
            case SplitFolder():
                self._split(task)
            case SyncPart():
                self._sync_part(task)
            case FinishFolder():
                self._close(task)
            case SyncHardLinks():
                self._linker.link_up(task)

    def _sync_tree(self, path: bytes, links: Links | None) -> None:
        """Sync a folder that is new since the scan, and all below it, which was not scanned."""
        for found in self._context.source.walk(path):
            self._check_stop()
            if self._adopts(found.path):
                self._sync_folder(SyncFolder(found.path, b"", "", links, missing=True))
            self._commit_if_full()

    def _adopts(self, path: bytes) -> bool:
        """Check that an unknown mirror folder may be used; a foreign one is set aside."""
        try:
            if why := self._adoption.why_not(path, FolderMatch.UNKNOWN):
                if self._batch.holder.holds_folder(path):
                    return False
                event = self._adoption.make_anew(path, why)
                self._batch.dirty = True
                self._batch.pending_events.retired.append(path)
                self._batch.followups.moved.append(path.rpartition(b"/")[0])
                self._batch.pending_events.events += [event] if event is not None else []
            # The folder above makes no subfolder while it waits for other names of its files.
            above, _, name = path.rpartition(b"/")
            if name:
                make_folder(name, self._mirrors.goto(above))
        except OSError as error:
            self._batch.fail_folder(path, error, "its mirror: ")
            return False
        return True

    def _sync_folder(self, task: SyncFolder) -> None:
        path = task.path
        records = decode_records(task.rows, self._volumes.at(path).options_key)
        try:
            opened = self._open(path, lambda _: self._listing(task, records), task)
        except Huge:
            self._batch.followups.now_huge.append((path, b""))
            return
        if opened is None or self._is_outdated(task, opened):
            return
        records = decode_records(task.rows, opened.work.options_key) if opened.work.options_key else records
        try:
            present, shared = self._mirror_entries(task, opened, records)
        except Huge:
            self._batch.followups.now_huge.append((path, task.fingerprint))
            return
        except OSError as error:
            self._batch.fail_folder(path, error, "its mirror cannot be listed: ")
            return
        present, is_respelled, waits = under_source_names(opened.work, opened.mirror, present, again=task.again)
        self._batch.dirty |= is_respelled
        self._batch.followups.moved += [path] * waits
        listing, opened.work.rows, opened.work.again = opened.work.listing, task.rows, task.again
        if self._is_postponed(task, opened, present, shared, records):
            return
        if not self._opening.permits(task, opened, present):
            return
        continue_unsupported(opened.work, 0, task.noted)
        if task.fingerprint and listing.fingerprint != task.fingerprint:
            self._batch.followups.unscanned += [join(path, name) for name in listing.folders]
        self._entries.go(opened, present, records, task.links)

    def _listing(self, task: SyncFolder, records: dict[bytes, Record]) -> Listing:
        """Return the listing of a source folder: that of the scan if it is still held and valid. Raises `OSError`."""
        source, path = self._context.source, task.path
        as_scanned = source.as_scanned(path, self._sources.goto(path), task.packed, task.fingerprint)
        if as_scanned is not None and records.keys() <= {entry.name for entry in as_scanned.entries}:
            return as_scanned
        return list_again(source, path, records, task.empty_fingerprint)

    def _is_outdated(self, task: SyncFolder, opened: OpenFolders) -> bool:
        """Return whether a folder that is synced once more failed, or changed since; then only its times are set.

        Old copies may wait in it as temps for what replaces them.
        """
        is_outdated = task.again and not task.widening and opened.work.listing.fingerprint != task.fingerprint
        if is_outdated:
            self._batch.dirty |= set_times(opened.work, opened.mirror)
        return is_outdated

    def _is_postponed(
        self,
        task: SyncFolder | SyncPart,
        opened: OpenFolders,
        present: dict[bytes, Entry],
        shared: dict[bytes, Shared],
        records: dict[bytes, Record],
    ) -> bool:
        """Postpone a folder whose files have other names that are not all known yet; True if so."""
        listing, policy = opened.work.listing, opened.work.policy
        opened.work.linked = listing.linked
        if listing.linked and not policy.hard_links:
            why = "the mirror's file system knows one name of a file only"
            opened.work.volume.metadata_writer.refused("hard_links", OSError(errno.EOPNOTSUPP, why))
        if task.links is not None or not (listing.linked or shared):
            return False
        link_names = link_names_in(opened, present, shared, records, policy)
        if not link_names:
            return False
        for entry in listing.entries:
            # Other workers may enter these subfolders now; replace any non-folder that holds their name.
            mirror = present.get(entry.name)
            if entry.kind is Kind.FOLDER and mirror is not None and mirror.kind is not Kind.FOLDER:
                step = decide(join(listing.path, entry.name), entry, mirror, None, policy)
                self._actions.do(opened, step, mirror, None)
        part, fingerprint, missing = None, b"", False
        if isinstance(task, SyncFolder):
            fingerprint, missing = task.fingerprint, task.missing
        else:
            part = task if task.borrowed else task._replace(rows="", noted="")
        self._batch.followups.postponed.append(Postponed(listing.path, fingerprint, part, link_names, missing))
        return True

    def _open(
        self, path: bytes, listed: Callable[[bytes], Listing], task: SyncFolder | None = None
    ) -> OpenFolders | None:
        """Open both sides of a folder; None if that cannot be done. Raises `Huge`."""
        if path in self._batch.pending_events.lost_folders:
            return None
        try:
            listing = listed(path)
            source = self._sources.goto(path)
            if not os.path.samestat(os.fstat(source), listing.folder):
                self._batch.fail_folder(path, OSError(errno.ESTALE, "another folder has its name now"))
                return None
            volume = self._volumes.at(path)
            attributes = self._context.tools.metadata_writer.of_source(source)
            work = work_for(listing, attributes, volume, self._run.pair.options_key, source)
        except Huge:
            raise
        except FileNotFoundError:
            return None  # gone since the scan; its mirror stays
        except OSError as error:
            self._batch.fail_folder(path, error)
            return None
        try:
            self._narrower.above(path, volume)
            source, mirror = self._sources.goto(path), self._mirrors.goto(path)
            seen = os.fstat(mirror)
            self._devices.check(mirror, seen.st_dev, volume.number)
            self._check_same(path, seen, listing.folder, task)
            work.mirror = seen
            self._batch.switch_to(volume)
            volume.metadata_writer.restrict(work.restrictions)
            mode = self._narrower.enter(work, mirror, seen)
            return OpenFolders(work, source, mirror, seen=seen, mode=mode)
        except OSError as error:
            self._batch.fail_folder(path, error, "its mirror cannot be opened: ")
            return None

    def _check_same(self, path: bytes, seen: os.stat_result, source: os.stat_result, task: SyncFolder | None) -> None:
        """Check that a mirror folder is the one that was scanned, or may be used as well. Raises `OSError`."""
        self._adoption.check_not_state_folder(path, seen)
        if task is None or not path:
            return
        left = FolderMatch.SAME if task.mark else FolderMatch.UNKNOWN
        if task.mark and task.mark != inode_mark(stamp_of(seen)):
            left = FolderMatch.OTHER_FOLDER
        if why := self._adoption.why_not_adopted(path, left, seen, source):
            raise OSError(errno.ESTALE, f"another folder has its name now: {why}")

    def _mirror_entries(
        self, task: SyncFolder, opened: OpenFolders, records: dict[bytes, Record]
    ) -> tuple[dict[bytes, Entry], dict[bytes, Shared]]:
        """List a mirror folder, made writable for us; temps that a killed run left are removed.

        Returns its entries by name, and those with several names. Names in `records` that the listing does not show are
        examined: a short listing must not cause good copies to be reported as missing and replaced. Of a folder that
        is as recorded only the names to sync are examined.
        """
        self._batch.dirty |= make_writable(opened.mirror, opened.mode)
        are_known = opened.work.volume.name_rules is None and not task.links
        if are_known and (known := recorded_entries(opened.work, records, task.known_mirror, opened.mirror)):
            return known
        # The lock is held, and no temp of this folder is made yet: temps in it are of killed runs, or those of another
        # new folder that a user moved here.
        retire = partial(self._batch.pending_events.retire, opened.mirror, task.path)
        present, swept = sweep_folder(opened.mirror, staged_prefix(self._run.cycle_id), retire)
        self._batch.dirty |= swept
        entries = {entry.name: entry for entry in present.entries}
        if are_known and task.path and entries.keys() <= {*opened.work.listing.folders}:
            opened.work.is_new = self._opening.is_new(task.path, opened.seen, missing=task.missing)
        if opened.work.volume.name_rules is None and (missing := records.keys() - entries.keys()):
            rows = stat_names(opened.mirror, sorted(missing), [], present.linked)
            entries |= {entry.name: entry for entry in entries_of(rows)}
        return entries, present.linked

    # Huge folders ----------------------------------------------------------------------------------------------------

    def _split(self, task: SplitFolder) -> None:
        path = task.path
        opened = self._open(path, lambda path: self._context.source.part(path, []))
        if opened is None:
            return
        self._batch.dirty |= make_writable(opened.mirror, opened.mode)
        try:
            # Before the first part is begun: no part may remove the temps of another.
            self._batch.dirty |= remove_temps(opened.mirror)
            fingerprint = task.fingerprint or self._fingerprint(path)
            expected = count_names(opened.source)
            parts = partition_count(max(expected, count_names(opened.mirror)), task.parts)
            sorter = Partitioner(parts, rules.key if (rules := opened.work.volume.name_rules) else None)
            names = partition_names(opened.source, opened.mirror, sorter, self._checkpoint, expected)
        except OSError as error:
            self._batch.fail_folder(path, error)
            return
        self._batch.followups.divided.append(SplitResult(path, fingerprint, names))

    def _sync_part(self, task: SyncPart) -> None:
        names = unpack_names(task.names)
        # They include the names of the mirror, and each is examined: a name that a listing hides is not gone.
        opened = self._open(task.path, lambda path: self._context.source.part(path, names))
        if opened is None:
            return
        work, unreadable, shared = opened.work, Unreadable(), dict[bytes, Shared]()
        present = {entry.name: entry for entry in entries_of(stat_names(opened.mirror, names, unreadable, shared))}
        work.portion, work.rows = Portion(task.number, present), "" if task.borrowed else task.rows
        work.complete = not unreadable
        records = decode_records(task.rows, work.options_key)
        if self._is_postponed(task, opened, present, shared, records):
            return
        continue_unsupported(opened.work, task.number, task.noted)
        if task.unscanned:
            self._batch.followups.unscanned += [join(task.path, name) for name in work.listing.folders]
        self._entries.go(opened, present, records, task.links)

    def _close(self, task: FinishFolder) -> None:
        path, held = task.path, task.total.held
        opened = self._open(path, lambda path: self._context.source.part(path, []))
        if opened is None:
            return
        try:
            there = count_names(opened.mirror)
            if there < held:
                raise FileExistsError(errno.EEXIST, f"{plural(held, 'name')} had to be there, and it has {there}")
            if not self._opening.permits(task, opened, [b""] * there) or opened.work.held:
                return
            folder, changed = finish_whole(task, opened.source, opened.mirror, opened.work.volume.metadata_writer)
        except OSError as error:
            self._batch.fail_folder(path, error, "its mirror: ")
            return
        self._batch.dirty |= changed
        self._batch.close_folder(folder)

    def _fingerprint(self, path: bytes) -> bytes:
        shares = [self._context.source.scan_folder(path)]
        for share in range(1, shares[0].shares):
            self._checkpoint()
            shares.append(self._context.source.scan_folder(path, share))
        return whole_fingerprint([each.fingerprint for each in shares])

    def _checkpoint(self) -> None:
        self._check_stop()
        self._progress.bytes_copied(0)
