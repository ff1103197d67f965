"""Carry out the decision about one entry. Every error of an entry is caught here and reported as its failure."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from job.core.decide import NODEV_SOURCE, Action, Decision, is_device, is_racy
from job.core.entry import TEMP_PREFIX, Entry, Kind, join, permissions
from job.core.outcome import Drift, Failure, Skip, failure_of, reason_text
from job.core.record import Copied, Record
from job.engine.context import PairContext, PairRun, ProgressSink
from job.engine.copy.batch import MOST_BYTES, Batch
from job.engine.copy.content_compare import ContentCompare, attributes_of, fix_metadata, note_metadata, unsupported_of
from job.engine.copy.finish_folder import Settled, Work, since_of
from job.engine.preflight.root_check import RootLost
from job.engine.versions.keeping import Leaving, VersionKeeper
from job.errors import ChangedWhileReadError
from job.events.pair import DriftFound, FileCopied, FileSkipped, FileUpdated, ReplacedByFolder
from job.fs.free_space import check_size
from job.fs.large_dir import name_exists
from job.fs.listing import entry_of
from job.fs.rights import narrow_file, needs_narrowing

_MOST_LOOKUPS = 3
"""Retries for a name that another program replaces."""


class MirrorLost(RootLost):
    """The mirror turned read-only in mid-run: nothing more can be done for the pair."""


@dataclass(frozen=True, slots=True)
class OpenFolders:
    """A folder in work, open in the source and the mirror."""

    work: Work
    source: int
    mirror: int
    names: int = 1
    """Number of mirror names that are to share one file."""
    seen: os.stat_result = field(default_factory=lambda: os.stat_result((0,) * 10))
    """Stat of the mirror folder before any change."""
    mode: int = 0
    """Current st_mode of the mirror folder."""


def make_folder(name: bytes, parent: int) -> None:
    """Make a mirror folder, unless another worker made it already. Raises `OSError`, also for a non-folder."""
    try:
        # No other user may enter before the folder has its owner and mode.
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise


class Actions:
    """Carries out decisions for one pair."""

    def __init__(
        self, context: PairContext, run: PairRun, batch: Batch, keeper: VersionKeeper, progress: ProgressSink
    ) -> None:
        self._context = context
        self._keeper = keeper
        self._run = run
        self._batch = batch
        self._progress = progress
        self._unreported_entries = self._unreported_bytes = 0
        """Entries, and bytes of them that were not copied, not yet reported to progress."""
        self.temps: Iterator[bytes] = map((b"%s%s-%%x" % (TEMP_PREFIX, os.urandom(4).hex().encode())).__mod__, count(1))
        """New names for temps."""

    def count_unchanged(self, work: Work, size: int) -> None:
        """Count the untouched entries of a folder, which have `size` bytes, without an event for each."""
        entries = 0 if work.again else len(work.untouched)
        self._batch.pending_events.counts.skipped[Skip.UNCHANGED] += entries
        self._progress.entry_done(size, entries)

    def report(self, work: Work, plain_files: int = 0, plain_bytes: int = 0) -> None:
        """Report the work since the last call to progress, and these plain files. Raises `Stopped`."""
        work.volume.copier.checkpoint(plain_bytes)
        self.report_entries(plain_files)

    def report_entries(self, plain_files: int) -> None:
        """Report entries since the last call to progress, and plain files whose bytes are reported."""
        entries, size = self._unreported_entries + plain_files, self._unreported_bytes
        self._unreported_entries = self._unreported_bytes = 0
        if entries:
            self._progress.entry_done(size, entries)

    def do(self, opened: OpenFolders, step: Decision, mirror: Entry | None, record: Record | None) -> None:
        """Carry out one decision. Raises only `Stopped` and `MirrorLost`."""
        try:
            try:
                self._carry_out(opened, step, mirror, record)
            except OSError as error:
                self._carry_out_with_space(error, opened, step, mirror, record)
            if step.action is not Action.KEEP and not opened.work.volume.supports_everything:
                self.note_unsupported(opened, step.entry)
        except ChangedWhileReadError as error:
            self._fail(opened, step, Failure.CHANGED_DURING_COPY, reason_text(error), mirror)
        except FileNotFoundError as error:
            if not name_exists(opened.source, step.entry.name):
                self._skip(opened, step, Skip.VANISHED)
            else:
                self._fail(opened, step, failure_of(error), reason_text(error), mirror)
        except OSError as error:
            self.fail(opened, step, error, mirror)

    def fail(self, opened: OpenFolders, step: Decision, error: OSError, mirror: Entry | None) -> None:
        """Report an entry that failed by an error. Raises `MirrorLost` if the mirror turned read-only."""
        reason = failure_of(error)
        self._fail(opened, step, reason, reason_text(error), mirror)
        if reason is Failure.READ_ONLY and not self._batch.recheck.why_read_only(opened.work.listing.path):
            raise MirrorLost(
                f"the mirror {self._run.pair.dest} turned read-only",
                hint="Look at the kernel's log: file systems do that after a disk error.",
            ) from error

    def _limit_rights(self, opened: OpenFolders, entry: Entry, mirror: Entry) -> Entry:
        """Limit the rights of an old copy to those of the source, whether its content is replaced or stays.

        Returns the copy as it is now.
        """
        if entry.kind is not Kind.FILE or mirror.kind is not Kind.FILE or not opened.work.volume.mirror.modes:
            return mirror
        with suppress(OSError):  # the outcome of the content is reported
            seen = narrow_file(entry, opened.source, mirror, opened.mirror, opened.names)
            if seen is not None:
                self._batch.dirty = True
                # Keep the owner that was checked: a file of another owner that replaced it meanwhile then differs.
                return entry_of(mirror.name, seen)._replace(uid=mirror.uid)
        return mirror

    def _limit_rights_if_needed(self, opened: OpenFolders, entry: Entry, mirror: Entry | None) -> Entry | None:
        """Limit the rights of an old copy if the listings show that it grants more than the source."""
        if mirror is None or not needs_narrowing(mirror, entry):
            return mirror
        return self._limit_rights(opened, entry, mirror)

    def note_unsupported(self, opened: OpenFolders, entry: Entry) -> None:
        """Keep in the index the attributes of a file, or owner and times of a symlink, that the mirror cannot hold."""
        volume = opened.work.volume
        if volume.supports_everything:
            return
        if entry.kind is Kind.FILE and not volume.mirror.keeps_attributes:
            writer = self._context.tools.metadata_writer
            note_metadata(opened.work, entry.name, attributes_of(entry, opened.source, writer))
        elif entry.kind is Kind.SYMLINK and not volume.mirror.symlink_metadata and volume.mirror.symlinks:
            with suppress(OSError, ChangedWhileReadError):  # its name was replaced; the next cycle syncs that
                note_metadata(
                    opened.work, entry.name, unsupported_of(entry, opened.source, self._context.tools.metadata_writer)
                )

    def _carry_out_with_space(self, error: OSError, opened: OpenFolders, step: Decision, *known: Any) -> None:
        """Carry a decision out again while versions can be given up for it on a full disk. Raises the last error."""
        size = step.entry.size if step.entry.kind is Kind.FILE else 0
        while True:
            if failure_of(error) is not Failure.NO_SPACE or not self._batch.kept.reclaim(opened.mirror, size):
                raise error
            try:
                self._carry_out(opened, step, *known)
            except OSError as again:
                error = again
            else:
                return

    def _carry_out(self, opened: OpenFolders, step: Decision, mirror: Entry | None, record: Record | None) -> None:
        match step.action:
            case Action.KEEP:
                self._keep(opened, step)
            case Action.COPY:
                self._limit_rights_if_needed(opened, step.entry, mirror)
                self._copy(opened, step, mirror, record)
            case Action.COMPARE_SOURCE | Action.COMPARE_BOTH:
                self._compare(opened, step, mirror, record)
            case Action.MAKE_FOLDER:
                self._make_folder(opened, step, mirror, record)
            case Action.SKIP_SPECIAL:
                opened.work.specials += 1
                self._skip(opened, step, Skip.SPECIAL_FILE)
            case Action.NOTE:
                self._note(opened, step, mirror)
            case Action.REFUSE_NAME:
                self._fail(opened, step, Failure.RESERVED_NAME, f"{step.reason}; exclude it or rename it")

    def _note(self, opened: OpenFolders, step: Decision, mirror: Entry | None) -> None:
        what = "symlinks" if step.entry.kind is Kind.SYMLINK else "specials"
        if step.reason == NODEV_SOURCE:
            what = "nodev"
        opened.work.volume.metadata_writer.refused(what, OSError(errno.EOPNOTSUPP, step.reason))
        self._batch.pending_events.add_refusals(self._path(opened, step.entry))
        note_metadata(
            opened.work, step.entry.name, unsupported_of(step.entry, opened.source, self._context.tools.metadata_writer)
        )
        if what == "nodev" and mirror is not None and is_device(mirror) and not self._batch.holder.is_on:
            # It has no content to lose, and the index keeps all that is needed to make it again.
            os.unlink(mirror.name, dir_fd=opened.mirror)
            self._update(opened, step)
        else:
            self._skip(opened, step, Skip.UNSUPPORTED)

    def _keep(self, opened: OpenFolders, step: Decision) -> None:
        if step.entry.kind is not Kind.FOLDER:  # a folder is counted when it is synced itself
            self._skip(opened, step, Skip.UNCHANGED)

    def _make_folder(self, opened: OpenFolders, step: Decision, mirror: Entry | None, record: Record | None) -> None:
        name = step.entry.name
        if mirror is not None and self._holds(opened, step):
            return
        self._batch.dirty = True
        if mirror is None:
            make_folder(name, opened.mirror)
            return
        path = self._path(opened, step.entry)
        place = self._keeper.take_file(Leaving(mirror, record), path, opened.mirror)
        try:
            # Another worker may have made the folder while the name was free.
            make_folder(name, opened.mirror)
        except OSError:
            self._keeper.put_back(place, path, opened.mirror)
            raise
        self._batch.pending_events.add(
            ReplacedByFolder(cycle_id=self._run.cycle_id, pair=self._run.pair.name, path=path, kind=mirror.kind)
        )

    def _copy(self, opened: OpenFolders, step: Decision, mirror: Entry | None, record: Record | None) -> None:
        work, entry, started_ns = opened.work, step.entry, self._run.now_ns()
        batch, writer = self._batch, work.volume.metadata_writer
        if mirror is not None and self._holds(opened, step):
            return
        check_size(entry.size, work.volume.mirror.largest_file)
        if entry.size >= MOST_BYTES and batch.has_pending:
            batch.commit()  # finished copies must not wait for a large file
        temp, denied = next(self.temps), writer.denied
        batch.journal_temps(work)
        try:
            copied = self._copy_content(opened, entry, temp)
        except OSError as error:
            if failure_of(error) is not Failure.NO_SPACE or not batch.has_pending:
                raise
            batch.commit()  # frees the space of the files that are replaced
            batch.journal_temps(work)
            copied = self._copy_content(opened, entry, temp)
        if mirror is not None and record is not None and batch.holder.is_zeroed(copied, temp, opened.mirror):
            batch.holder.note_zeros(work.listing.path, work.part, entry)
        path = self._path(opened, entry)
        if writer.unreported:
            batch.pending_events.add_refusals(path)
        event = FileCopied(
            cycle_id=self._run.cycle_id,
            pair=self._run.pair.name,
            path=path,
            kind=entry.kind,
            bytes=copied.source.size if copied.checksum else 0,
            checksum=copied.checksum,
            permissions=permissions(writer.mode_of(copied.source.mode)),
            reason=step.reason,
            duration_seconds=max(0.0, (self._run.now_ns() - started_ns) / 1e9),
        )
        if step.drift is not None:
            self.drift(opened, entry, step.drift)
        racy = is_racy(copied.source, started_ns) or writer.denied != denied
        self._note_new_names(opened, entry, copied.source)
        old = None if mirror is None else Leaving(mirror, record, drifted=step.drift is not None)
        batch.add(work, temp, copied, event, racy=racy, old=old)
        self._unreported_entries += 1

    @staticmethod
    def _note_new_names(opened: OpenFolders, listed: Entry, seen: Entry) -> None:
        """Have the next cycle compare a file again that got further names since it was listed, and link them."""
        if seen != listed and listed.name not in opened.work.linked:
            with suppress(OSError):
                if os.stat(listed.name, dir_fd=opened.source, follow_symlinks=False).st_nlink > 1:
                    opened.work.doubtful.add(listed.name)

    def _copy_content(self, opened: OpenFolders, entry: Entry, temp: bytes) -> Copied:
        for left in reversed(range(_MOST_LOOKUPS)):
            try:
                copier = opened.work.volume.copier
                if entry.kind is Kind.FILE:
                    return copier.copy(entry, opened.source, opened.mirror, temp)
                make = copier.copy_link if entry.kind is Kind.SYMLINK else copier.copy_special
                return make(entry, opened.source, opened.mirror, temp)
            except ChangedWhileReadError:
                # Editors save by renaming a new file over the old one: then copy the new one.
                seen = entry_of(entry.name, os.stat(entry.name, dir_fd=opened.source, follow_symlinks=False))
                if not left or seen.kind is not entry.kind or seen.inode == entry.inode:
                    raise
                entry = seen
        raise AssertionError

    def _compare(self, opened: OpenFolders, step: Decision, mirror: Entry | None, record: Record | None) -> None:
        if mirror is None:
            raise AssertionError
        started_ns, listed, denied = self._run.now_ns(), mirror, opened.work.volume.metadata_writer.denied
        mirror = self._limit_rights_if_needed(opened, step.entry, listed) or listed
        both = step.action is Action.COMPARE_BOTH
        volume = opened.work.volume
        found = ContentCompare(volume.copier).compare(
            step.entry, opened.source, mirror, opened.mirror if both else None, record
        )
        if not found.same:
            drift = step.drift if found.drifted else None
            reason = step.reason if drift or both else f"content changed: {step.reason}"
            self._copy(opened, step._replace(drift=drift, reason=reason), mirror, record)
            return
        made, fixed = found.alike, mirror is not listed
        if made is None:
            folders, may_lose = (opened.source, opened.mirror), not self._batch.holder.is_on
            answer = fix_metadata(volume.metadata_writer, step.entry, mirror, folders, opened.names, may_lose=may_lose)
            if answer is None:
                step = step._replace(reason="its metadata cannot be mended in place", drift=None)
                self._copy(opened, step, mirror, record)
                return
            fixed |= answer
            self._batch.pending_events.add_refusals(self._path(opened, step.entry))
            made = entry_of(mirror.name, os.stat(mirror.name, dir_fd=opened.mirror, follow_symlinks=False))
        if (made.inode, made.size) == (mirror.inode, mirror.size):
            racy = is_racy(found.source, started_ns) or opened.work.volume.metadata_writer.denied != denied
            self._note_new_names(opened, step.entry, found.source)
            since_ns = since_of(record, listed, made, found.checksum, has_change_times=volume.clock_ns is None)
            opened.work.settled[step.entry.name] = Settled(found.source, found.checksum, made, racy, since_ns)
        else:
            opened.work.complete = False  # changed by another program: the next cycle compares its content
        if not fixed:
            self._skip(opened, step, Skip.UNCHANGED)
            return
        if record is not None and record.source == found.source and record.mirror != listed:
            self.drift(opened, step.entry, Drift.METADATA)
        self._update(opened, step)

    def _update(self, opened: OpenFolders, step: Decision) -> None:
        self._batch.dirty = True
        self._batch.pending_events.counts.updated += 1
        self._unreported_entries += 1
        self._unreported_bytes += step.entry.size
        self._batch.pending_events.add(
            FileUpdated(
                cycle_id=self._run.cycle_id,
                pair=self._run.pair.name,
                path=self._path(opened, step.entry),
                kind=step.entry.kind,
                permissions=permissions(opened.work.volume.metadata_writer.mode_of(step.entry.mode)),
                reason=step.reason,
            )
        )

    def _skip(self, opened: OpenFolders, step: Decision, reason: Skip) -> None:
        if reason is Skip.VANISHED:
            opened.work.complete = False
        if opened.work.again:
            return  # it was counted before
        self._batch.pending_events.counts.skipped[reason] += 1
        self._unreported_entries += 1
        self._unreported_bytes += step.entry.size
        # Of held entries the pair's event tells the number and examples.
        if self._run.verbose or reason not in {Skip.UNCHANGED, Skip.HELD}:
            path = self._path(opened, step.entry)
            self._batch.pending_events.add(
                FileSkipped(cycle_id=self._run.cycle_id, pair=self._run.pair.name, path=path, reason=reason)
            )

    def _holds(self, opened: OpenFolders, step: Decision) -> bool:
        """Return whether an entry of the mirror has to stay as it is, until a person approves the change."""
        if not self._batch.holder.holds(opened.work.listing.path, opened.work.part, step.entry):
            return False
        opened.work.complete, opened.work.withheld = False, True
        self._skip(opened, step, Skip.HELD)
        return True

    def _fail(self, opened: OpenFolders, step: Decision, reason: Failure, error: str, old: Entry | None = None) -> None:
        """Report a failure; the rights of the `old` copy that stays are limited to those of the source."""
        if old is not None:
            self._limit_rights(opened, step.entry, old)
        self._unreported_entries += 1
        self._unreported_bytes += step.entry.size
        self._batch.fail(opened.work, self._path(opened, step.entry), step.entry.kind, reason, error)

    def drift(self, opened: OpenFolders, entry: Entry, kind: Drift | None) -> None:
        """Count and report drift, if there is any."""
        if kind is None:
            return
        self._batch.pending_events.counts.drift[kind] += 1
        path = self._path(opened, entry)
        self._batch.pending_events.add(
            DriftFound(cycle_id=self._run.cycle_id, pair=self._run.pair.name, path=path, kind=kind)
        )

    @staticmethod
    def _path(opened: OpenFolders, entry: Entry) -> bytes:
        return join(opened.work.listing.path, entry.name)
