"""Copy new folders whole: staged beside their place under a temporary name, then placed by one rename.

Nobody else can enter a staged folder, so its files have their final names, owners and modes as soon as they are
written: none needs a rename of its own, nor a stat after it. Only folders that hold plain files and nothing else are
staged. All others take the general path (`folder.py`), and whatever proves to be unusual in the midst of it, too.
"""

import os
import stat
from contextlib import suppress
from itertools import count

from job.core.decide import NEW, Action, Decision
from job.core.entry import STATE_FOLDER, Entry, parent_of
from job.engine.context import PairContext, PairRun
from job.engine.copy.actions import Actions, OpenFolders
from job.engine.copy.batch import Batch
from job.engine.copy.finish_folder import Settled, Work
from job.engine.copy.permissions import Narrower
from job.engine.messages import SyncFolder
from job.engine.preflight.root_check import DeviceCheck
from job.engine.volumes import Volume
from job.errors import Stopped
from job.fs.dircursor import open_folder
from job.fs.large_dir import remove_staged, staged_prefix
from job.fs.listing import Listing
from job.fs.small_copies import PLAIN_BITS, SMALL_BYTES, PlainCopy
from job.fs.xattrs import has_attributes

_AT_ONCE = 64
"""Files that are copied before a stop is noticed, and progress is reported."""


class FolderStager:
    """Stages the folders of one process."""

    def __init__(
        self,
        context: PairContext,
        run: PairRun,
        batch: Batch,
        actions: Actions,
        narrower: Narrower,
    ) -> None:
        self._context, self._run = context, run
        self._batch, self._actions, self._narrower = batch, actions, narrower
        self._sources, self._mirrors = narrower.sources, narrower.mirrors
        self._devices = DeviceCheck(context)
        self._user = os.geteuid()
        # All begin alike in every process of a cycle, and differ in the rest.
        self._names = map((b"%s%s%%x" % (staged_prefix(run.cycle_id), os.urandom(4).hex().encode())).__mod__, count(1))

    def stages(self, task: SyncFolder, volume: Volume) -> bool:
        """Copy a new folder to a staged one; False if it has to take the general path. Raises `Stopped`."""
        if not (task.missing and task.may_stage and task.packed and task.path) or task.rows or task.links:
            return False
        if not volume.stages or self._run.pair.options_key or task.path in self._batch.pending_events.lost_folders:
            return False
        try:
            listing = self._plain_listing(task, volume)
            if listing is None:
                return False
            self._batch.switch_to(volume)
            if len(listing.entries) > self._batch.files_left:
                self._batch.commit()
            return len(listing.entries) <= self._batch.files_left and self._stage(listing, volume)
        except OSError:
            return False

    def _plain_listing(self, task: SyncFolder, volume: Volume) -> Listing | None:
        source = self._sources.goto(task.path)
        listing = self._context.source.as_scanned(task.path, source, task.packed, task.fingerprint)
        if listing is None or not _are_plain(listing.entries):
            return None
        return None if has_attributes(source, security=volume.metadata_writer.security) else listing

    def _stage(self, listing: Listing, volume: Volume) -> bool:
        path, above = listing.path, parent_of(listing.path)
        self._narrower.above(path, volume)
        source, parent = self._sources.goto(path), self._mirrors.goto(above)
        self._batch.staged_in.add(above)
        work, name = Work(listing, {}, volume, options_key=volume.options_key, is_staged=True), next(self._names)
        copies = self._fill(work, source, parent, name, above + b"/" + name if above else name)
        if copies is None:
            return False
        self._batch.add_staged(work, copies, name)
        self._actions.report_entries(len(copies))
        return True

    def _fill(self, work: Work, source: int, parent: int, name: bytes, path: bytes) -> list[PlainCopy] | None:
        """Make the staged folder `name`, at `path`, with all files of the source; None if it must not be, and is gone.

        Raises `OSError` and `Stopped`.
        """
        os.mkdir(name, stat.S_IRWXU, dir_fd=parent)
        done = None
        folder = open_folder(name, parent)
        try:
            work.mirror = os.fstat(folder)
            self._batch.journal_staged(path, work.mirror.st_ino)
            done = self._copy(work, source, folder, work.mirror)
        finally:
            os.close(folder)
            if done is None and work.mirror is not None:
                with suppress(OSError):  # removed by the next run
                    remove_staged(name, parent, work.mirror.st_ino)
        return done

    def _copy(self, work: Work, source: int, folder: int, seen: os.stat_result) -> list[PlainCopy] | None:
        volume, entries = work.volume, work.listing.entries
        done: list[PlainCopy] = []
        failed: list[tuple[Entry, OSError]] = []
        self._devices.check(folder, seen.st_dev, volume.number)
        # A default ACL of the folder above would be inherited by every file.
        if seen.st_uid != self._user or has_attributes(folder, security=volume.metadata_writer.security):
            return None
        while (plain := volume.plain) and (tried := len(done) + len(failed)) < len(entries):
            if self._run.stop():
                raise Stopped("stopped between two entries")
            some = entries[tried : tried + _AT_ONCE]
            copies, left = plain.copy(some, source, folder, None, group=seen.st_gid, owners=volume.mirror.owners)
            done += copies
            failed += [(entry, error) for entry, error in left if error is not None]
            if tried + len(copies) + len(left) > len(done) + len(failed):
                return None
            volume.copier.checkpoint(sum([copy[0][5] for copy in copies]))
        for entry, error in failed:
            self._actions.fail(
                OpenFolders(work, source, folder, seen=seen), Decision(Action.COPY, entry, NEW), error, None
            )
        make, settled = tuple.__new__, work.settled
        for listed, name, checksum, now, racy, _ in done:
            row = name, now.st_ino, now.st_mode, now.st_uid, now.st_gid, now.st_size, now.st_mtime_ns, now.st_ctime_ns
            settled[name] = make(Settled, (listed, checksum, make(Entry, row), racy, 0))
        return done


def _are_plain(entries: list[Entry]) -> bool:
    unusual = [
        entry
        for entry in entries
        if entry[2] & PLAIN_BITS != stat.S_IFREG or entry[5] > SMALL_BYTES or entry[0].startswith(STATE_FOLDER)
    ]
    return not unusual
