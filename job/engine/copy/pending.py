"""Renames, events and counts that wait for the next commit: nothing is reported before it is durable (invariant 2)."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from job.core.counts import Counts, Tally
from job.core.entry import Kind
from job.core.outcome import Failure, failure_of, reason_text
from job.core.record import Copied
from job.engine.context import PairContext, PairRun
from job.engine.copy.finish_folder import Settled, Work
from job.events.base import Event
from job.events.pair import FileCopied, FileFailed, MetadataNotKept
from job.fs.listing import entry_of


class PendingEvents:
    """Events and counts of one pair that wait for a commit."""

    def __init__(self, run: PairRun, context: PairContext) -> None:
        self._run = run
        self._writers = [context.metadata_writer, *(each.metadata_writer for each in context.mounted)]
        self.events: list[Event] = []
        """In the order in which they are emitted."""
        self.counts = Counts()
        self.lost_folders: set[bytes] = set()
        """Folders that failed: not tried, nor reported, a second time."""

    def add(self, event: Event) -> None:
        """Add an event, which is emitted after the commit."""
        self.events.append(event)

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
        self.counts = Counts(failed=self.counts.failed)


@dataclass(slots=True)
class PendingRename:
    """A complete temp that waits for its name."""

    work: Work
    name: bytes
    temp: bytes
    copied: Copied
    racy: bool
    fresh: bool
    """Whether the mirror had no entry of this name."""
    event: FileCopied

    def insist_on_none(self, folder: int) -> None:
        """Check that a mirror which treats different names as equal has no entry of this name. Raises `OSError`."""
        with suppress(FileNotFoundError):
            os.stat(self.name, dir_fd=folder, follow_symlinks=False)
            raise OSError(errno.EINVAL, "the mirror takes it for another name that it has; rename one of them")

    def settle(self, folder: int) -> None:
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
            self.work.settled[name] = Settled(copied.source, copied.checksum, made, self.racy)
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
