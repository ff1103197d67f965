"""Temps and staged folders that wait for the next commit, and how they get their names."""

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from job.core.counts import Counts
from job.core.decide import NEW
from job.core.entry import Entry, Kind, parent_of
from job.core.outcome import Failure, Skip, failure_of, reason_text
from job.core.record import Copied
from job.engine.brake.holder import Holder
from job.engine.context import PairRun
from job.engine.copy.finish_folder import Settled, Work
from job.engine.copy.kept_versions import NOT_KEPT, Replaced
from job.engine.versions.keeping import Leaving
from job.events.pair import CopyFacts, FileCopied, FilesCopied
from job.fs.dircursor import DirCursor
from job.fs.large_dir import name_exists, remove_staged
from job.fs.listing import entry_of
from job.fs.rights import in_writable
from job.fs.small_copies import PlainCopy

_LARGE_BYTES = 1 << 20
"""From this size a synced file is dropped from the page cache."""


@dataclass(slots=True)
class PendingRename:
    """A complete temp that waits for its name."""

    work: Work
    name: bytes
    temp: bytes
    copied: Copied
    racy: bool
    old: Leaving | None
    """The mirror's entry of this name, if it had one."""
    event: FileCopied

    def give_name(self, folder: int, put: Callable[[bytes, bytes, int, bytes], None]) -> None:
        """Rename the temp in its open folder by `put`. Raises `OSError`."""
        volume, size = self.work.volume, self.event.bytes
        if size >= _LARGE_BYTES:
            volume.copier.release(self.temp, folder, size)
        if self.old is None and volume.name_rules is not None:
            self._insist_on_none(folder)
        put(self.temp, self.name, folder, self.event.path)
        self._settle(folder)

    def unlink(self, enter: Callable[[Work], int]) -> None:
        """Remove the temp, if that is possible. `enter` opens a mirror folder."""
        with suppress(OSError):
            os.unlink(self.temp, dir_fd=enter(self.work))

    def fault(self, error: OSError, enter: Callable[[Work], int]) -> tuple[Failure, str]:
        """Return why it could not be renamed."""
        with suppress(OSError):
            if error.errno == errno.ENOENT and name_exists(enter(self.work), self.temp):
                return Failure.NAME, reason_text(error)  # exFAT answers ENOENT for a name that it cannot hold
        return failure_of(error), reason_text(error)

    def _insist_on_none(self, folder: int) -> None:
        """Check that a mirror which treats different names as equal has no entry of this name. Raises `OSError`."""
        with suppress(FileNotFoundError):
            os.stat(self.name, dir_fd=folder, follow_symlinks=False)
            raise OSError(errno.EINVAL, "the mirror takes it for another name that it has; rename one of them")

    def _settle(self, folder: int) -> None:
        """Record the entry that has the name now, in its open folder, if it is this temp. Raises `OSError`."""
        name, copied = self.name, self.copied
        try:
            # Later changes are made by another program.
            made = entry_of(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            self.work.lost.add(name)
            return
        # Only files have a size to compare: NTFS stores device numbers there.
        size = made.size if self.event.kind is Kind.FILE else copied.source.size
        if (made.inode, size, made.mtime_ns) == (copied.inode, copied.source.size, copied.mtime_ns):
            self.work.settled[name] = Settled(copied.source, copied.checksum, made, self.racy, self.work.volume.since())
        else:
            self.work.lost.add(name)

    def misread(self, enter: Callable[[Work], int]) -> tuple[Failure, str] | None:
        """Read the temp back from the disk; return its fault, or None. `enter` opens a mirror folder."""
        if not self.copied.checksum:
            return None
        try:
            folder, algorithm = enter(self.work), self.copied.checksum.partition(":")[0]
            found = self.work.volume.copier.cold_checksum(self.temp, folder, algorithm)
        except OSError as error:
            return failure_of(error), f"could not be read back: {reason_text(error)}"
        if found == self.copied.checksum:
            return None
        return Failure.VERIFY_MISMATCH, f"read back as {found}, but {self.copied.checksum} was written"


@dataclass(slots=True)
class PlainRenames:
    """Complete copies of plain files of one folder, which wait for their names, or for the place of their folder."""

    work: Work
    copies: list[PlainCopy]
    run: PairRun
    staged: bytes = b""
    """Name of the staged folder that holds them; empty for temps."""

    def rename(self, folder: int) -> list[PendingRename]:
        """Rename the temps in their open folder; return those that could not be renamed."""
        failed: list[PendingRename] = []
        renamed: list[PlainCopy] = []
        settled, lost, make = self.work.settled, self.work.lost, tuple.__new__
        for copy in self.copies:
            source, temp, checksum, made, racy, _ = copy
            name = source[0]
            try:
                os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                failed.append(self.general(copy))
                continue
            renamed.append(copy)
            try:
                seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                lost.add(name)
                continue
            size, stored_ns = seen.st_size, seen.st_mtime_ns
            if (seen.st_ino, size, stored_ns) == (made.st_ino, source[5], made.st_mtime_ns):
                row = name, made.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, size, stored_ns, seen.st_ctime_ns
                settled[name] = make(Settled, (source, checksum, make(Entry, row), racy, 0))
            else:
                lost.add(name)
        self.copies = renamed
        return failed

    def facts(self, copies: list[PlainCopy]) -> list[CopyFacts]:
        """Return what is reported of copied files."""
        path, reason_of = self.work.listing.path, self.work.reasons.get
        prefix = path + b"/" if path else b""
        about = [(source, checksum, ns / 1e9) for source, _, checksum, _, _, ns in copies]
        return [
            (prefix + of[0], Kind.FILE, of[5], checksum, f"{of[2] & 0o777:03o}", reason_of(of[0], NEW), seconds)
            for of, checksum, seconds in about
        ]

    def general(self, copy: PlainCopy) -> PendingRename:
        """Return a copy in the general form."""
        copied = Copied(copy.source, copy.checksum, copy.made.st_ino, copy.made.st_mtime_ns)
        (facts,) = self.facts([copy])
        event = FilesCopied(cycle_id=self.run.cycle_id, pair=self.run.pair.name, copies=[]).event_of(facts)
        return PendingRename(self.work, copy.source.name, copy.temp, copied, copy.racy, self._old(copy), event)

    def replaced(self) -> list[Leaving]:
        """Return what the copies replace."""
        return [old for copy in self.copies if (old := self._old(copy)) is not None]

    def _old(self, copy: PlainCopy) -> Leaving | None:
        if copy[0][0] not in self.work.reasons:
            return None
        record = self.work.kept[copy[0][0]]
        return Leaving(record.mirror, record)


class PendingRenames:
    """All temps that wait for their names: plain files by folder, all others one by one."""

    def __init__(self, run: PairRun) -> None:
        self._run = run
        self._general: list[PendingRename] = []
        self._plain: list[PlainRenames] = []
        self.files = 0
        """Number of temps."""

    def add(self, rename: PendingRename) -> None:
        """Add a temp."""
        self._general.append(rename)
        self.files += 1

    def add_plain(self, work: Work, copies: list[PlainCopy]) -> None:
        """Add temps of plain files of a folder."""
        if copies:
            self._plain.append(PlainRenames(work, copies, self._run))
            self.files += len(copies)

    def works(self) -> list[Work]:
        """Return the folder of each temp."""
        return [rename.work for rename in self._general] + [plain.work for plain in self._plain]

    def replaced(self) -> list[Replaced]:
        """Return what the temps replace, by folder."""
        found: list[Replaced] = [(plain.work, plain.replaced(), True) for plain in self._plain if plain.work.reasons]
        for _, group in groupby(self._general, lambda rename: id(rename.work)):
            renames = [rename for rename in group if rename.old is not None]
            if renames:
                leaving = [
                    rename.old._replace(temp=rename.temp, temp_inode=rename.copied.inode)
                    for rename in renames
                    if rename.old is not None
                ]
                found.append((renames[0].work, leaving, False))
        return found

    def take_plain(self) -> list[PlainRenames]:
        """Return, and forget, plain files."""
        plain, self._plain = self._plain, []
        self.files = len(self._general)
        return plain

    def take_all(self, works: Collection[int] | None = None) -> list[PendingRename]:
        """Return, and forget, all temps, or those in works with these `id`s, in the general form."""
        renames = self._general + [plain.general(copy) for plain in self.take_plain() for copy in plain.copies]
        self._general = [each for each in renames if works is not None and id(each.work) not in works]
        self.files = len(self._general)
        return [each for each in renames if works is None or id(each.work) in works]

    def hold_back(self, holder: Holder, enter: Callable[[Work], int], counts: Counts) -> None:
        """Remove temps that would replace contents, if so many contents have become zeros that the brake trips now."""
        if not holder.trips():
            return
        for rename in self.take_all():
            work = rename.work
            if rename.old is None or not holder.holds(work.listing.path, work.part, rename.copied.source):
                self.add(rename)
                continue
            rename.unlink(enter)
            work.complete, work.withheld = False, True
            counts.skipped[Skip.HELD] += 1

    def remove_misread(self, enter: Callable[[Work], int]) -> Iterator[tuple[PendingRename, tuple[Failure, str]]]:
        """Read all temps back from the disk; remove and yield those that differ, with the fault."""
        for rename in self.take_all():
            if fault := rename.misread(enter):
                rename.unlink(enter)
                yield rename, fault
            else:
                self.add(rename)

    def remove_unkept(
        self, failed: Iterable[tuple[Work, dict[bytes, OSError]]], enter: Callable[[Work], int]
    ) -> Iterator[tuple[PendingRename, tuple[Failure, str]]]:
        """Remove and yield temps whose old contents could not be kept, with the fault."""
        for work, errors in failed:
            for rename in self.take_all({id(work)}):
                error = errors.get(rename.name)
                if error is None:
                    self.add(rename)
                    continue
                rename.unlink(enter)
                yield rename, (failure_of(error), f"{NOT_KEPT}: {reason_text(error)}")

    def rename_general(
        self, enter: Callable[[Work], int], put: Callable[[bytes, bytes, int, bytes], None]
    ) -> Iterator[tuple[PendingRename, tuple[Failure, str] | None]]:
        """Rename all temps in the general form; yield each with its fault, or None. A faulty one is removed.

        `enter` opens a folder, `put` renames in one.
        """
        entered: Work | None = None
        folder = -1
        renames, self._general = self._general, []
        self.files -= len(renames)
        for rename in renames:
            try:
                if rename.work is not entered:
                    folder, entered = enter(rename.work), rename.work
                rename.give_name(folder, put)
            except OSError as error:
                entered = None
                fault = rename.fault(error, enter)
                rename.unlink(enter)
                yield rename, fault
            else:
                yield rename, None

    def rename_plain(self, enter: Callable[[Work], int]) -> Iterator[Work]:
        """Rename plain files; yield each folder in which all are renamed. Others go on in the general form.

        `enter` opens a folder.
        """
        for _, group in groupby(self._plain, lambda plain: id(plain.work)):
            failed: list[PendingRename] = []
            for plain in group:
                try:
                    failed += plain.rename(enter(plain.work))
                except OSError:
                    failed += map(plain.general, plain.copies)
                    plain.copies = []
            self._general += failed
            if not failed:
                yield plain.work


class StagedFolders:
    """The staged folders of one batch."""

    def __init__(self, run: PairRun, mirrors: DirCursor) -> None:
        """Move this cursor."""
        self._run = run
        self._mirrors = mirrors
        self._waiting: list[PlainRenames] = []
        self.files = 0

    def add(self, work: Work, copies: list[PlainCopy], staged: bytes) -> None:
        """Add a complete staged folder, by its name."""
        self._waiting.append(PlainRenames(work, copies, self._run, staged))
        self.files += len(copies)

    def remove(self, works: Collection[int] | None = None) -> list[PlainRenames]:
        """Remove all, or those of works with these `id`s; return them."""
        gone = self._take(works)
        for plain in gone:
            with suppress(OSError):  # removed by the next sync of the folder above
                parent = self._mirrors.goto(parent_of(plain.work.listing.path))
                if plain.work.mirror is not None:
                    remove_staged(plain.staged, parent, plain.work.mirror.st_ino, mixed=True)
        return gone

    def place(self, retire: Callable[[int, bytes, bytes], None]) -> tuple[list[PlainRenames], list[PlainRenames]]:
        """Give all their places, where an empty folder was made before; return also those that are removed instead.

        Another program has put something in their places. What it put into them, `retire` moves to the versions.
        """
        renamed: set[int] = set()
        for plain in self._waiting:
            path = plain.work.listing.path
            with suppress(OSError):
                parent = self._mirrors.goto(parent_of(path))
                names = plain.staged, path.rpartition(b"/")[2]
                in_writable(parent, partial(os.rename, *names, src_dir_fd=parent, dst_dir_fd=parent))
                renamed.add(id(plain.work))
        there, unplaced = self._take(renamed), self.remove()
        for plain in unplaced:
            above = parent_of(plain.work.listing.path)
            with suppress(OSError):  # it is gone, unless there is a folder in it
                retire(self._mirrors.goto(above), above, plain.staged)
        return there, unplaced

    def _take(self, works: Collection[int] | None) -> list[PlainRenames]:
        taken = [plain for plain in self._waiting if works is None or id(plain.work) in works]
        self._waiting = [plain for plain in self._waiting if works is not None and id(plain.work) not in works]
        self.files -= sum([len(plain.copies) for plain in taken])
        return taken
