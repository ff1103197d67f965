"""Sync files with several names: one name as any other file, then hard links to it for the others.

A name is never without its file: a link is made as a temp and renamed, as a copy is.
"""

import errno
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from job.core.adoption import FolderMatch
from job.core.decide import Action, Decision, decide
from job.core.entry import Entry, FileId, join, permissions, printable
from job.core.outcome import Drift, Failure, Skip, failure_of, reason_text
from job.core.record import LinkName, LinkRecord, Record
from job.engine.context import PairContext, PairRun
from job.engine.copy.actions import Actions, OpenFolders
from job.engine.copy.adoption import Adoption
from job.engine.copy.batch import Batch
from job.engine.copy.finish_folder import Work, work_for
from job.engine.copy.folder_recheck import check_not_replaced
from job.engine.copy.kept_versions import NOT_KEPT, Replaced
from job.engine.messages import HardLinkGroup, SyncHardLinks
from job.engine.versions.keeping import Leaving
from job.engine.volumes import volumes_of
from job.errors import Stopped
from job.events.pair import FileCopied
from job.fs.dircursor import DirCursor, single
from job.fs.listing import Listing, entry_of, file_at
from job.fs.own_files import fsync_folder, removed_on_error
from job.fs.rights import make_writable

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
"""Errors of file systems that have no hard links, or no more for this file."""
_NOT_TO_THIS = {errno.EMLINK, errno.EXDEV}
"""The file has the largest number of links, or lies on another file system of the mirror."""


@dataclass(slots=True)
class _Name:
    """One name, as it was scanned before its file is synced."""

    link_name: LinkName
    work: Work
    entry: Entry
    mirror: Entry | None
    usable: FileId | None
    """The mirror's file, if it is of the right kind."""
    taken: bool = False
    """Whether the mirror's file is kept for another file of the source."""

    @property
    def path(self) -> bytes:
        return join(self.link_name.path, self.link_name.name)

    @property
    def intact(self) -> bool:
        record = self.link_name.record
        return record is not None and self.usable is not None and record.mirror.inode == self.usable.inode


@dataclass(slots=True)
class _File:
    """A file with the name that was synced first, and the others."""

    first: _Name
    action: Action
    others: list[_Name]
    record: Record | None = None
    """The index record of the first name, after its rename; None if it failed."""
    mirror: FileId | None = None
    """The target of the links; None if the first name changed since it was synced."""
    apart: list[_Name] = field(default_factory=list)
    """Names that cannot be linked to the first one, but perhaps to one another."""


class Linker:
    """Syncs files with several names for a `FolderSync`."""

    def __init__(self, context: PairContext, run: PairRun, batch: Batch, actions: Actions, adoption: Adoption) -> None:
        self._context = context
        self._adoption = adoption
        self._run = run
        self._volumes = volumes_of(context.tools, context.mirror, run.pair, run.now_ns)
        self._batch = batch
        self._actions = actions
        self._sources, self._mirrors = DirCursor(context.source_root), DirCursor(context.mirror_root)
        self._beside = DirCursor(context.mirror_root)
        self._last: tuple[bytes, int, int, int] | None = None
        """Path, device, inode number and ctime of the mirror folder that was checked last."""

    def close(self) -> None:
        """Close what was opened."""
        for cursor in (self._sources, self._mirrors, self._beside):
            cursor.close()

    def link_up(self, task: SyncHardLinks) -> None:
        """Sync files under all their names. Raises `Stopped` or `MirrorLost`."""
        # In the order of folders, so that each is opened once: names of one file lie far apart.
        link_names = sorted((each for group in task.groups for each in group.link_names), key=_place_of)
        scanned = {_place_of(link_name): self._scan(link_name) for link_name in link_names}
        waiting = [self._names_of(group, scanned) for group in task.groups]
        while waiting:
            waiting = self._link_files([file for names in waiting if (file := self._sync_first(names)) is not None])

    def _link_files(self, files: list[_File]) -> list[list[_Name]]:
        """Link the other names of files to the first; returns, by file, those that are to be linked to one another."""
        # The target of a link must have its final name, and be synced.
        self._batch.commit()
        for file in files:
            file.record = self._outcome(file.first, file.action)
            self._record_result(file.first, file.record)
            file.mirror = self._link_target(file)
        others = [(name, file) for file in files for name in file.others]
        others.sort(key=lambda each: _place_of(each[0].link_name))
        alone: list[tuple[_Name, Action]] = []
        for name, file in self._keep_replaced([each for each in others if not self._is_held(*each)]):
            action = self._link_to_file(name, file)
            if action is not None:
                alone.append((name, action))
            if self._batch.full:
                self._batch.commit()
        if alone:
            self._batch.commit()
        for name, action in alone:
            self._record_result(name, self._outcome(name, action))
        return [file.apart for file in files if file.apart]

    def _is_held(self, name: _Name, file: _File) -> bool:
        """Check whether a name has to keep its content in the mirror, as the brake has tripped."""
        place = name.link_name.path, name.link_name.part
        if name.mirror is None or name.usable == file.mirror or not self._batch.holder.holds(*place, name.entry):
            return False
        name.work.complete, name.work.withheld = False, True
        self._record_result(name, None)
        return True

    def _keep_replaced(self, others: list[tuple[_Name, _File]]) -> list[tuple[_Name, _File]]:
        """Keep what links replace, all together; names whose content cannot be kept fail, and are left out."""
        replaced: list[Replaced] = [
            (name.work, [Leaving(name.mirror, name.link_name.record)], False)
            for name, file in others
            if file.mirror is not None and name.mirror is not None and name.usable != file.mirror
        ]
        unkept = self._batch.kept.keep(replaced, self._batch.recheck.enter)
        failed = {id(work): error for work, errors in unkept for error in errors.values()}
        for name in [name for name, _ in others if id(name.work) in failed]:
            self._fail(name, failure_of(failed[id(name.work)]), f"{NOT_KEPT}: {reason_text(failed[id(name.work)])}")
        return [each for each in others if id(each[0].work) not in failed]

    # The first name --------------------------------------------------------------------------------------------------

    @staticmethod
    def _names_of(group: HardLinkGroup, scanned: dict[tuple[bytes, bytes], "_Name | None"]) -> list[_Name]:
        names = [name for link_name in group.link_names if (name := scanned[_place_of(link_name)]) is not None]
        for name in names:
            name.taken = name.usable in group.taken
        return names

    def _sync_first(self, names: list[_Name]) -> _File | None:
        shares = Counter(name.usable for name in names)
        names.sort(key=lambda each: (each.usable is None or each.taken, not each.intact, -shares[each.usable]))
        for number, name in enumerate(names):
            if self._run.stop():
                raise Stopped("stopped between two files")
            step = self._decide(name)
            self._carry_out(name, step, shares[name.usable])
            if name.work.complete:
                return _File(name, step.action, names[number + 1 :])
            # It failed, which is reported, or vanished; the file has other names.
            self._record_result(name, None)
        return None

    def _scan(self, link_name: LinkName) -> _Name | None:
        path, name = link_name.path, link_name.name
        try:
            listing = self._context.source.part(path, [name])
        except OSError:
            return None
        if not listing.entries or not self._is_listed(link_name, listing):
            return None  # its folder, which is synced after this, syncs the entry that has the name now
        entry = listing.entries[0]
        volume = self._volumes.at(path)
        work = work_for(listing, {}, volume, self._run.pair.options_key, self._sources.goto(path))
        work.again = link_name.counted
        try:
            work.mirror = self._checked_folder(work)
            seen = os.stat(single(name), dir_fd=self._mirrors.goto(path), follow_symlinks=False)
        except FileNotFoundError:
            return _Name(link_name, work, entry, None, None)
        except OSError as error:
            found = _Name(link_name, work, entry, None, None)
            self._fail(found, failure_of(error), f"its mirror: {reason_text(error)}")
            return None
        mirror = entry_of(name, seen)
        usable = FileId(seen.st_dev, seen.st_ino) if mirror.kind is entry.kind else None
        return _Name(link_name, work, entry, mirror, usable)

    def _checked_folder(self, work: Work) -> os.stat_result:
        """Check a mirror folder, which may have been replaced since it was synced, and limit its rights.

        Raises `OSError` if it must not be used.
        """
        path = work.listing.path
        seen = os.fstat(self._mirrors.goto(path))
        if self._last != (path, seen.st_dev, seen.st_ino, seen.st_ctime_ns):
            self._adoption.check_not_state_folder(path, seen)
            if path and (why := self._adoption.why_not_adopted(path, FolderMatch.UNKNOWN, seen, work.listing.folder)):
                raise OSError(errno.ESTALE, f"in the mirror, another folder has its name now: {why}")
            if work.volume.mirror.modes:
                self._batch.recheck.narrow(work, path)
            seen = os.fstat(self._mirrors.goto(path))
            self._last = path, seen.st_dev, seen.st_ino, seen.st_ctime_ns
        return seen

    def _is_listed(self, link_name: LinkName, listing: Listing) -> bool:
        """Check that the one entry of a listing is the file of a link name."""
        shared = listing.linked.get(link_name.name)
        if shared is None:
            return self._is_still(link_name)
        return FileId(shared.device, listing.entries[0].inode) == link_name.file

    def _is_still(self, link_name: LinkName) -> bool:
        """Check that a name of the source still has its file."""
        with suppress(OSError):
            return file_at(link_name.name, self._sources.goto(link_name.path)) == link_name.file
        return False

    def _carry_out(self, name: _Name, step: Decision, names: int) -> None:
        path = name.link_name.path
        try:
            self._batch.switch_to(name.work.volume)
            opened = OpenFolders(name.work, self._sources.goto(path), self._writable(name.work), names)
            name.work.volume.metadata_writer.leave(name.work.restrictions)
        except OSError as error:
            self._batch.fail(name.work, name.path, name.entry.kind, failure_of(error), reason_text(error))
            return
        self._actions.do(opened, step, name.mirror, name.link_name.record)
        self._actions.report(name.work)

    def _writable(self, work: Work) -> int:
        """Open a mirror folder for writing. Raises `OSError` if it was replaced since it was checked."""
        folder = self._mirrors.goto(work.listing.path)
        seen = os.fstat(folder)
        check_not_replaced(work, folder, seen)
        self._batch.dirty |= make_writable(folder, seen.st_mode)
        return folder

    def _outcome(self, name: _Name, action: Action) -> Record | None:
        settled = name.work.settled.get(name.link_name.name)
        if settled is not None:
            return Record(settled.source, settled.mirror, settled.checksum, settled.racy, settled.since_ns)
        if action is Action.KEEP and name.work.complete:
            return name.link_name.record
        return None

    def _link_target(self, file: _File) -> FileId | None:
        """Return the mirror's file under the first name; None if either side changed since it was synced."""
        first, record = file.first.link_name, file.record
        if record is None or not file.others or not self._is_still(first):
            return None
        found = self._mirror_file(first)
        return found if found is not None and found.inode == record.mirror.inode else None

    def _mirror_file(self, link_name: LinkName) -> FileId | None:
        with suppress(OSError):
            return file_at(link_name.name, self._beside.goto(link_name.path))
        return None

    def _fail(self, name: _Name, reason: Failure, error: str) -> None:
        self._batch.fail(name.work, name.path, name.entry.kind, reason, error)
        self._record_result(name, None)

    def _record_result(self, name: _Name, record: Record | None) -> None:
        # A name that neither failed nor is settled is synced with its folder.
        if record is not None or name.work.failure is not None or name.work.withheld:
            self._batch.followups.linked.append(LinkRecord(name.link_name.path, name.link_name.name, record))

    # The other names -------------------------------------------------------------------------------------------------

    def _link_to_file(self, name: _Name, file: _File) -> Action | None:
        """Link a name to its file; returns the action that syncs it alone, if it cannot be linked."""
        record = file.record
        if record is None:
            reason = file.first.work.failure or Failure.CHANGED_DURING_COPY
            message = f"it is the same file as {printable(file.first.path)}, which could not be brought up to date"
            self._fail(name, reason, message)
            return None
        own = Record(
            record.source._replace(name=name.link_name.name),
            record.mirror._replace(name=name.link_name.name),
            record.checksum,
            record.racy,
            record.stands_since_ns,  # the ctime moves with each link
        )
        if file.mirror is None or not self._is_still(name.link_name):
            self._batch.kept.undo(name.work, name.link_name.name)
            return None  # changed by another program: its folder, or the next cycle, syncs it
        try:
            action = self._link_or_copy(file, name, own)
        except OSError as error:
            self._batch.kept.undo(name.work, name.link_name.name)
            self._fail(name, failure_of(error), reason_text(error))
            return None
        if action is None and name not in file.apart:
            self._record_result(name, own)
        return action

    def _sync_alone(self, name: _Name) -> Action:
        """Sync a name as if it had no others; inode numbers alone prove no drift."""
        step = self._decide(name)
        self._carry_out(name, step, 1)
        return step.action

    def _decide(self, name: _Name) -> Decision:
        if name.taken:
            return Decision(Action.COPY, name.entry, "the mirror has it linked to what is another file now")
        return decide(name.path, name.entry, name.mirror, name.link_name.record, name.work.policy)

    def _link_or_copy(self, file: _File, name: _Name, record: Record) -> Action | None:
        """Link a name to the file; where that fails, sync it alone and return the action."""
        first = file.first
        if name.usable == file.mirror:
            self._report_drift(name)
            if not name.link_name.counted:
                self._batch.pending_events.counts.skipped[Skip.UNCHANGED] += 1
            return None
        if self._run.stop():
            raise Stopped("stopped between two links")
        self._batch.switch_to(name.work.volume)
        self._batch.journal_temps(name.work)
        temp, folder = next(self._actions.temps), self._writable(name.work)
        try:
            self._link(file, temp, folder)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._batch.kept.undo(name.work, name.link_name.name)
            name.work.volume.metadata_writer.refused("hard_links", error)
            self._batch.pending_events.add_refusals(name.path)
            if error.errno not in _NOT_TO_THIS:
                return self._sync_alone(name)
            file.apart.append(name)
            return None
        self._rename(name, temp, folder)
        self._report_drift(name)
        self._report_copy(first, name, record)
        return None

    def _link(self, file: _File, temp: bytes, folder: int) -> None:
        """Make a hard link to a file as a temp. Raises `OSError`, one of `_NO_LINKS` where the mirror has none."""
        first = file.first.link_name
        os.link(first.name, temp, src_dir_fd=self._beside.goto(first.path), dst_dir_fd=folder, follow_symlinks=False)
        with removed_on_error(temp, folder):
            seen = os.stat(temp, dir_fd=folder, follow_symlinks=False)
            if FileId(seen.st_dev, seen.st_ino) == file.mirror and seen.st_nlink > 1:
                return
            if self._mirror_file(first) != file.mirror:
                raise OSError(errno.ESTALE, "its first name changed in the mirror while it was being linked")
            # Seen with sshfs and mergerfs: a link that looks like a copy is treated as one.
            raise OSError(errno.EOPNOTSUPP, "a hard link looks like a file of its own there")

    def _rename(self, name: _Name, temp: bytes, folder: int) -> None:
        with removed_on_error(temp, folder):
            self._batch.put(temp, name.link_name.name, folder, name.path)
        self._batch.dirty = True
        if name.work.volume.sync.each:
            fsync_folder(folder)

    def _report_copy(self, first: _Name, name: _Name, record: Record) -> None:
        self._batch.pending_events.add_copy(
            FileCopied(
                **self._run.about,
                path=name.path,
                kind=name.entry.kind,
                bytes=0,
                checksum=record.checksum,
                permissions=permissions(name.work.volume.metadata_writer.mode_of(record.source.mode)),
                reason=f"a hard link to {printable(first.path)}",
                duration_seconds=0.0,
            ),
            holes=0,
        )

    def _report_drift(self, name: _Name) -> None:
        record = name.link_name.record
        if record is None or record.source != name.entry:
            return
        opened = OpenFolders(name.work, -1, -1)
        if name.mirror is None:
            self._actions.drift(opened, name.entry, Drift.MISSING)
        elif not name.intact:
            self._actions.drift(opened, name.entry, Drift.REPLACED)


def _place_of(link_name: LinkName) -> tuple[bytes, bytes]:
    return link_name.path, link_name.name
