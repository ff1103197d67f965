"""Staged: one complete temp that waits for its name, and what is to be told of it then."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from job.core.entry import Entry, Kind
from job.core.outcome import Failure, failure_of, reason_text
from job.core.record import Copied
from job.engine.copy.finish import Work
from job.events.service import FileCopied
from job.fs.listing import entry_of


@dataclass(slots=True)
class Staged:
    """A copy on its way to its name."""

    work: Work
    name: bytes
    temp: bytes
    copied: Copied
    racy: bool
    fresh: bool
    """Whether the mirror's folder had no such name."""
    event: FileCopied

    def insist_on_none(self, folder: int) -> None:
        """See that a mirror which takes different names for the same does not have what its listing did not show.

        Raises `OSError`.
        """
        with suppress(FileNotFoundError):
            os.stat(self.name, dir_fd=folder, follow_symlinks=False)
            raise OSError(errno.EINVAL, "the mirror takes it for another name that it has; rename one of them")

    def misread(self, enter: Callable[[Work], int]) -> tuple[Failure, str] | None:
        """Read the temp back from the disk; give what is wrong with it, or None. `enter` opens a mirror folder."""
        if not self.copied.checksum:
            return None
        try:
            folder, algorithm = enter(self.work), self.copied.checksum.partition(":")[0]
            found = self.work.volume.copyist.cold_checksum(self.temp, folder, algorithm)
        except OSError as error:
            return failure_of(error), f"could not be read back: {reason_text(error)}"
        if found == self.copied.checksum:
            return None
        return Failure.VERIFY_MISMATCH, f"read back as {found}, but {self.copied.checksum} was written"

    def made(self, folder: int) -> Entry | None:
        """Look at what just got its name: what moves it from then on is somebody else. None if it is not ours."""
        try:
            made = entry_of(self.name, os.stat(self.name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            return None
        copied = self.copied
        # What is no file has a size of the mirror's own: NTFS notes there which device it is.
        size = made.size if self.event.kind is Kind.FILE else copied.source.size
        if (made.inode, size, made.mtime_ns) != (copied.inode, copied.source.size, copied.mtime_ns):
            return None
        return made
