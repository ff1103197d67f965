"""Batch: give staged temps their names so that nothing is torn and nothing acknowledged is lost (design 3.3).

The order is the point. Temps are complete, then synced; only then renamed, so that a name never stands for half a
content (invariant 1). Folder metadata comes after the renames, which move folder times. The second sync makes renames
durable before the index believes them, and the index is committed before anybody is told (invariants 2 and 13).
"""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass

from job.core.entry import Kind
from job.core.events import FileCopied
from job.core.outcome import Failure, failure_of
from job.core.record import Copied, FolderDone, RowsDone
from job.files.durable import fsync_folder
from job.files.trail import Trail
from job.tasks.bench import Assignment, Bench
from job.tasks.finish import Settled, Work, finish
from job.tasks.tidings import Tidings

MOST_FILES = 1000
MOST_BYTES = 256 << 20
LONGEST_NS = 5_000_000_000
"""A batch is given its names after so long, so that a stop throws little away."""


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
        self._open: Work | None = None
        self.tidings = Tidings(work, bench.keeper)
        self.dirty = False
        """Whether anything was written that the next commit has to sync."""
        self._asides: list[tuple[Work, bytes]] = []
        self._announced: list[Work] = []
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

    def fail(self, work: Work, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        """Count and tell a failed entry; its folder is looked at again next time."""
        work.sure = False
        self.tidings.fail(path, kind, reason, error)

    def open(self, work: Work) -> None:
        """Note the folder that is being worked on."""
        self._open = work

    def close(self, work: Work) -> None:
        """Take in a folder of which everything was staged or settled."""
        self._open = None
        self._closed.append(work)

    def announce(self, work: Work) -> None:
        """Note, before a temp is made, where it will lie, so that it is found if we are killed."""
        if work.announced:
            return
        with suppress(OSError):  # a full disk: then only the folder's next visit sweeps
            self._bench.leftovers.note(work.listing.path)
        work.announced = True
        self._announced.append(work)

    def _retract(self) -> None:
        """Forget the notes: no temp of ours is left."""
        if self._announced:
            with suppress(OSError):
                self._bench.leftovers.clear()
        for work in self._announced:
            work.announced = False
        self._announced.clear()

    def set_aside(self, work: Work, temp: bytes) -> None:
        """Have what was renamed to `temp` thrown away, once what took its place is safe."""
        self._asides.append((work, temp))

    def drop(self) -> None:
        """Throw staged temps away; what was committed before stays, and so does what needs no temp."""
        for staged in self._staged:
            staged.work.sure = False
            self._unlink(staged)
        self._staged.clear()
        self._retract()

    def commit(self) -> None:
        """Sync, rename, finish folders, sync again, remember, tell. Raises `OSError` only for a lost mirror."""
        self._sync_or_void()
        if self._assignment.pair.verify_copies == "readback":
            self._read_back()
        placed = [staged for staged in self._staged if self._place(staged)]
        self._staged.clear()
        self._throw_away()
        done = [each for each in (self._finish(work) for work in self._closed) if each is not None]
        try:
            if self.dirty:
                self._sync(placed)
            self._bench.memory.commit([folder for folder, _ in done], [rows for _, rows in done])
        except OSError as error:
            self._unsafe(placed, error)
            placed = []
        for staged in placed:
            if staged.name in staged.work.lost:
                self._fail_staged(staged, Failure.TYPE_CONFLICT, "the mirror does not hold it under this name any more")
            else:
                self._count(staged)
        self._closed.clear()
        self._retract()
        self._bytes, self.dirty, self._since_ns = 0, False, self._assignment.now_ns()
        self.tidings.publish()

    def _throw_away(self) -> None:
        # What took its place is synced by now; and it moves the folder's time, so the folder is finished after it.
        for work, temp in self._asides:
            try:
                folder = self._trail.goto(work.listing.path)
                if self._bench.sync.each:
                    fsync_folder(folder)
                os.unlink(temp, dir_fd=folder)
            except OSError:
                work.sure = False  # its next visit sweeps
        self._asides.clear()

    def _unsafe(self, placed: list[_Staged], error: OSError) -> None:
        reason = Failure.NO_SPACE if failure_of(error) is Failure.NO_SPACE else Failure.SYNC
        for staged in placed:
            staged.work.settled.pop(staged.name, None)
            self._fail_staged(staged, reason, f"copied, but not known to be safe: {error}")
        if not placed:
            path = self._closed[0].listing.path if self._closed else b""
            self.tidings.fail(path, Kind.FOLDER, reason, f"{len(self._closed)} folders could not be committed: {error}")
        self._doubt([])

    def _doubt(self, works: list[Work]) -> None:
        # What was mended in them, and in the folder being worked on, is not safe either: it is all compared again.
        for work in works if self._open is None else [*works, self._open]:
            work.sure = False
            work.settled.clear()

    def _count(self, staged: _Staged) -> None:
        self.tidings.counts.copied += 1
        self.tidings.counts.bytes_copied += staged.event.bytes
        self.tidings.tell(staged.event)

    def _sync_or_void(self) -> None:
        if not (self._staged or self._asides) or self._bench.sync.each:
            return
        try:
            self._bench.sync.all()
        except OSError as error:
            # The kernel marks pages clean after a failed write-back: syncing again would lie. Copy again next time.
            message = f"the disk did not take it: {error}"
            for staged in self._staged:
                self._unlink(staged)
                self._fail_staged(staged, Failure.SYNC, message)
            if not self._staged:
                self.tidings.fail(self._asides[0][0].listing.path, Kind.FOLDER, Failure.SYNC, message)
            self._staged.clear()
            self._asides.clear()  # the next visit sweeps them
            self._doubt(self._closed)

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
                _remove_empty(staged.name, folder)
                os.rename(staged.temp, staged.name, src_dir_fd=folder, dst_dir_fd=folder)
            ctime_ns = _ctime_of(staged.name, folder)
        except OSError as error:
            self._unlink(staged)
            self._fail_staged(staged, failure_of(error), str(error))
            return False
        copied = staged.copied
        staged.work.settled[staged.name] = Settled(
            copied.source, copied.checksum, copied.inode, copied.mtime_ns, ctime_ns, staged.racy
        )
        return True

    def _fail_staged(self, staged: _Staged, reason: Failure, error: str) -> None:
        self.fail(staged.work, staged.event.path, staged.event.kind, reason, error)

    def _unlink(self, staged: _Staged) -> None:
        with suppress(OSError):
            os.unlink(staged.temp, dir_fd=self._trail.goto(staged.work.listing.path))

    def _finish(self, work: Work) -> tuple[FolderDone, RowsDone] | None:
        path = work.listing.path
        try:
            folder, rows, changed = finish(work, self._trail.goto(path), self._bench.keeper)
        except OSError as error:
            self.fail(work, path, Kind.FOLDER, failure_of(error), str(error))
            return None
        self.dirty |= changed
        self.tidings.note_refusals(path)
        self.tidings.counts.folders += 1
        return folder, rows


def _remove_empty(name: bytes, folder: int) -> None:
    """Make way for a file by removing a mirror folder, if it is empty: nothing is deleted from a mirror."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise OSError(
                errno.ENOTEMPTY,
                "the mirror has a folder there that is not empty; nothing is deleted from it: move it away",
            ) from None
        raise


def _ctime_of(name: bytes, folder: int) -> int:
    """Tell when a file got its name: what moves it from then on is somebody else. 0 where it has lost it again."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ctime_ns
    except FileNotFoundError:
        return 0
