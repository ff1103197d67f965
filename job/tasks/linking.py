"""Linking: bring a file with several names up to date, in whatever process: one name as ever, the others linked to it.

A name is never without its file: the link is made beside it and put in place by rename, as a copy is.
"""

import errno
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from job.core.entry import Entry, join, permissions, printable
from job.core.events import FileCopied
from job.core.outcome import Drift, Failure, Skip, failure_of, reason_text
from job.core.plan import Action, Step, decide
from job.core.record import Linked, Member, Record
from job.errors import Stopped
from job.files.durable import fsync_folder
from job.files.listing import entry_of
from job.files.trail import Trail, single
from job.tasks.batch import Batch
from job.tasks.bench import Assignment, Bench, volumes_of
from job.tasks.deeds import Deeds, Place, make_writable
from job.tasks.errand import Group, LinkUp
from job.tasks.finish import Work

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
"""What file systems say that have no hard links, or no more for this file."""


@dataclass(slots=True)
class _Name:
    """One name, as it is found when its file has its turn."""

    member: Member
    work: Work
    entry: Entry
    mirror: Entry | None
    taken: bool = False
    """Whether the mirror's file is to stand for another one of the source."""

    @property
    def path(self) -> bytes:
        return join(self.member.path, self.member.name)

    @property
    def usable(self) -> int | None:
        """Inode of the mirror's file, if it is of the right kind."""
        return self.mirror.inode if self.mirror and self.mirror.kind is self.entry.kind else None

    @property
    def intact(self) -> bool:
        record = self.member.record
        return record is not None and record.mirror.inode == self.usable


@dataclass(slots=True)
class _File:
    """A file, with the name it was brought up to date under, and the others."""

    first: _Name
    action: Action
    others: list[_Name]
    record: Record | None = None
    """What is to be remembered of the first name, once it has its place; None if it failed."""


class Linker:
    """Goes on errands for files with several names, with the tools of a visitor."""

    def __init__(self, bench: Bench, work: Assignment, batch: Batch, deeds: Deeds) -> None:
        self._bench = bench
        self._assignment = work
        self._volumes = volumes_of(bench, work.pair)
        self._batch = batch
        self._deeds = deeds
        self._sources = Trail(bench.source_root)
        self._mirrors = Trail(bench.mirror_root)
        self._beside = Trail(bench.mirror_root)

    def close(self) -> None:
        """Close what was opened."""
        for trail in (self._sources, self._mirrors, self._beside):
            trail.close()

    def link_up(self, task: LinkUp) -> None:
        """Bring files up to date, and all their names. Raises `Stopped` or `MirrorLost`."""
        # In the order of their folders, each of which is opened once then: names of one file lie far apart.
        members = sorted((member for group in task.groups for member in group.members), key=_place_of)
        looked = {_place_of(member): self._look(member) for member in members}
        files = [self._first(group, [looked[_place_of(member)] for member in group.members]) for group in task.groups]
        # What others are to be linked to must have its name, and be safe under it.
        self._batch.commit()
        others = [(name, file) for file in files if file is not None for name in file.others]
        for file in files:
            if file is not None:
                file.record = self._outcome(file.first, file.action)
                self._note(file.first, file.record)
        alone: list[tuple[_Name, Action]] = []
        for name, file in sorted(others, key=lambda each: _place_of(each[0].member)):
            action = self._see_to(name, file)
            if action is not None:
                alone.append((name, action))
        if alone:
            self._batch.commit()
        for name, action in alone:
            self._note(name, self._outcome(name, action))

    # The first name --------------------------------------------------------------------------------------------------

    def _first(self, group: Group, looked: list[_Name | None]) -> _File | None:
        names = [name for name in looked if name is not None]
        for name in names:
            name.taken = name.usable in group.taken
        shares = Counter(name.usable for name in names)
        names.sort(key=lambda each: (each.usable is None or each.taken, not each.intact, -shares[each.usable]))
        for number, name in enumerate(names):
            if self._assignment.stop():
                raise Stopped("stopped between two files")
            step = decide(name.path, name.entry, name.mirror, name.member.record, name.work.volume.means)
            if name.taken:
                step = Step(Action.COPY, name.entry, "the mirror has it linked to what is another file now")
            self._do(name, step, shares[name.usable])
            if name.work.sure:
                return _File(name, step.action, names[number + 1 :])
            # It failed, which is told, or went away just now; the file has other names still.
            self._note(name, None)
        return None

    def _look(self, member: Member) -> _Name | None:
        path, name = member.path, member.name
        try:
            listing = self._bench.source.part(path, [name])
        except OSError:
            return None
        if not listing.entries or listing.entries[0].inode != member.inode:
            return None  # its folder is visited after this, and sees to what has the name now
        entry = listing.entries[0]
        volume = self._volumes.at(path)
        work = Work(listing, {}, volume, policy=self._assignment.pair.policy, again=member.counted)
        try:
            seen = os.stat(single(name), dir_fd=self._mirrors.goto(path), follow_symlinks=False)
        except FileNotFoundError:
            return _Name(member, work, entry, None)
        except OSError as error:
            found = _Name(member, work, entry, None)
            self._fail(found, failure_of(error), f"its mirror: {reason_text(error)}")
            return None
        return _Name(member, work, entry, entry_of(name, seen))

    def _do(self, name: _Name, step: Step, names: int) -> None:
        path = name.member.path
        try:
            self._batch.turn_to(name.work.volume)
            place = Place(name.work, self._sources.goto(path), self._writable(path), names)
            name.work.volume.keeper.leave()
        except OSError as error:
            self._batch.fail(name.work, name.path, name.entry.kind, failure_of(error), reason_text(error))
            return
        self._deeds.do(place, step, name.mirror, name.member.record)

    def _writable(self, path: bytes) -> int:
        folder = self._mirrors.goto(path)
        self._batch.dirty |= make_writable(folder, os.fstat(folder).st_mode)
        return folder

    def _outcome(self, name: _Name, action: Action) -> Record | None:
        settled = name.work.settled.get(name.member.name)
        if settled is not None:
            return Record(settled.source, settled.mirror, settled.checksum, settled.racy)
        if action is Action.KEEP and name.work.sure:
            return name.member.record
        return None

    def _fail(self, name: _Name, reason: Failure, error: str) -> None:
        self._batch.fail(name.work, name.path, name.entry.kind, reason, error)
        self._note(name, None)

    def _note(self, name: _Name, record: Record | None) -> None:
        # Nothing is noted of what neither failed nor is settled: its folder's visit sees to it by itself.
        if record is not None or name.work.failure is not None:
            self._batch.onward.linked.append(Linked(name.member.path, name.member.name, record))

    # The other names -------------------------------------------------------------------------------------------------

    def _see_to(self, name: _Name, file: _File) -> Action | None:
        """Have a name stand for its file; gives what is done about it alone, if that cannot be."""
        record = file.record
        if record is None:
            reason = file.first.work.failure or Failure.CHANGED_DURING_COPY
            told = f"it is the same file as {printable(file.first.path)}, which could not be brought up to date"
            self._fail(name, reason, told)
            return None
        own = Record(
            record.source._replace(name=name.member.name),
            record.mirror._replace(name=name.member.name),
            record.checksum,
            record.racy,
        )
        try:
            action = self._other(file.first, name, own)
        except OSError as error:
            self._fail(name, failure_of(error), reason_text(error))
            return None
        if action is None:
            self._note(name, own)
        return action

    def _other(self, first: _Name, name: _Name, record: Record) -> Action | None:
        """Have a name stand for the file, too. Where that cannot be it is brought up to date alone: gives how."""
        if name.usable == record.mirror.inode:
            self._drift(name)
            if not name.member.counted:
                self._batch.tidings.counts.skipped[Skip.UNCHANGED] += 1
            return None
        if self._assignment.stop():
            raise Stopped("stopped between two links")
        self._batch.announce(name.work)
        temp, folder = self._deeds.new_temp(), self._writable(name.member.path)
        try:
            os.link(
                first.member.name,
                temp,
                src_dir_fd=self._beside.goto(first.member.path),
                dst_dir_fd=folder,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # It is compared then, as if it had no other names; inode numbers alone prove no drift.
            name.work.volume.keeper.refused("hard_links", error)
            self._batch.tidings.note_refusals(name.path)
            step = decide(name.path, name.entry, name.mirror, name.member.record, name.work.volume.means)
            self._do(name, step, 1)
            return step.action
        self._put(name, temp, folder, record.mirror)
        self._drift(name)
        self._tell(first, name, record)
        return None

    def _put(self, name: _Name, temp: bytes, folder: int, wanted: Entry) -> None:
        try:
            _check(temp, folder, wanted)
            self._batch.put(temp, name.member.name, folder, name.path)
        except OSError:
            with suppress(OSError):
                os.unlink(temp, dir_fd=folder)
            raise
        self._batch.dirty = True
        if name.work.volume.sync.each:
            fsync_folder(folder)

    def _tell(self, first: _Name, name: _Name, record: Record) -> None:
        self._batch.tidings.counts.copied += 1
        self._batch.tidings.tell(
            FileCopied(
                cycle_id=self._assignment.cycle_id,
                pair=self._assignment.pair.name,
                path=name.path,
                kind=name.entry.kind,
                bytes=0,
                checksum=record.checksum,
                permissions=permissions(self._bench.keeper.mode_of(record.source.mode)),
                reason=f"a hard link to {printable(first.path)}",
                duration_seconds=0.0,
            )
        )

    def _drift(self, name: _Name) -> None:
        record = name.member.record
        if record is None or record.source != name.entry:
            return
        place = Place(name.work, -1, -1)
        if name.mirror is None:
            self._deeds.drift(place, name.entry, Drift.MISSING)
        elif not name.intact:
            self._deeds.drift(place, name.entry, Drift.REPLACED)


def _check(temp: bytes, folder: int, wanted: Entry) -> None:
    if os.stat(temp, dir_fd=folder, follow_symlinks=False).st_ino != wanted.inode:
        raise OSError(errno.ESTALE, "its first name in the mirror is no longer the file that was copied")


def _place_of(member: Member) -> tuple[bytes, bytes]:
    return member.path, member.name
