"""Narrow the rights of mirror folders before anything is written into them, and widen them last (invariant 15).

Narrowing (`fs/rights.py`) includes the folders above: another worker may not have reached them yet.

Widening: entries that left the source stay in the mirror with their old mode; while their folder is closed, no other
user can read them. So a folder that is to admit more users stays closed until all other work of the cycle is committed.
Then everything below it is compared with the source by name once more, and surplus is moved to the versions. If an
entry cannot be moved or synced, the folder stays closed.
"""

import bisect
import errno
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from job.core.acl import ACCESS_ACL, Rights
from job.core.adoption import is_as_created, why_widened
from job.core.entry import STATE_FOLDER, Kind, join, printable
from job.core.file_systems import ByMount
from job.core.outcome import reason_text
from job.core.versions import VersionReason
from job.engine.context import PairContext, PairRun
from job.engine.copy.actions import OpenFolders
from job.engine.copy.adoption import Adoption
from job.engine.copy.batch import Batch
from job.engine.copy.content_compare import is_lost
from job.engine.copy.finish_folder import Work
from job.engine.messages import FinishFolder, PendingWidening, SyncFolder
from job.engine.versions.keeping import VersionKeeper
from job.engine.volumes import Volume
from job.events.pair import EntrySetAside
from job.fs.dircursor import DirCursor
from job.fs.listing import Unlisted
from job.fs.own_files import fsync_folder
from job.fs.rights import NarrowedFolder, narrow_as_listed, narrow_folder, narrow_to_source, wanted_rights

_UNKNOWN = (b"/",)
"""No path: nothing was narrowed yet."""


def close_unread(context: PairContext, unlisted: Iterable[Unlisted]) -> None:
    """Narrow the mirrors of source folders that may not be read; their content stays."""
    closed = [each.path for each in unlisted if each.path and isinstance(each.error, PermissionError)]
    if not closed:
        return
    with closing(DirCursor(context.source_root)) as sources, closing(DirCursor(context.mirror_root)) as mirrors:
        for path in closed:
            above, _, name = path.rpartition(b"/")
            with suppress(OSError):  # the unreadable source is reported
                narrow_as_listed(name, sources.goto(above), mirrors.goto(path))


class Narrower:
    """Narrows folders of one pair, in one process."""

    def __init__(self, sources: DirCursor, mirrors: DirCursor, batch: Batch) -> None:
        self.sources = sources
        self.mirrors = mirrors
        self._batch = batch
        self._last_narrowed: tuple[bytes, ...] = _UNKNOWN
        """The components of the last path of which each folder was narrowed."""

    def above(self, path: bytes, volume: Volume) -> None:
        """Narrow the folders above a path that the last path did not include, at four system calls each.

        Folders that cannot be opened are skipped.
        """
        if not path or not volume.mirror.modes:
            return
        *names, last = path.split(b"/")
        known = self._last_narrowed
        common = 0
        for ours, other in zip(names, known, strict=False):
            if ours != other:
                break
            common += 1
        first = 0 if known is _UNKNOWN else common + 1
        self._last_narrowed = (*names, last)
        for depth in range(first, len(names) + 1):
            with suppress(OSError):
                self._narrow(b"/".join(names[:depth]), volume)

    def _narrow(self, path: bytes, volume: Volume) -> None:
        source, mirror = self.sources.goto(path), self.mirrors.goto(path)
        self._take_in(path, narrow_to_source(source, mirror), volume)

    def enter(self, work: Work, mirror: int, seen: os.stat_result) -> int:
        """Narrow an open mirror folder, and enter it in its metadata writer; returns its st_mode."""
        metadata_writer, path = work.volume.metadata_writer, work.listing.path
        self._last_narrowed = tuple(path.split(b"/")) if path else ()
        held = metadata_writer.present(mirror)
        if not work.volume.mirror.modes:
            metadata_writer.enter(held, seen.st_uid)
            return seen.st_mode
        found = Rights(seen.st_uid, seen.st_gid, seen.st_mode, held.get(ACCESS_ACL))
        narrowed = narrow_folder(mirror, found, wanted_rights(work.listing.folder, work.xattrs))
        self._take_in(path, narrowed, work.volume)
        metadata_writer.enter(held, narrowed.owner)
        return narrowed.mode

    def _take_in(self, path: bytes, narrowed: NarrowedFolder, volume: Volume) -> None:
        self._batch.dirty |= narrowed.changed
        if narrowed.error is not None:
            volume.metadata_writer.refused("mode", narrowed.error)
            self._batch.pending_events.add_refusals(path)


if TYPE_CHECKING:
    from job.engine.copy.cleanup import Surplus

_CLOCK_STEP_NS = 20_000_000
"""The kernel's file timestamps lag behind its clock by less than this."""


class StaysClosedError(OSError):
    """A folder of the mirror is not widened."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno or errno.EPERM, why_closed(error))


class Opening:
    """Holds back the metadata of mirror folders that admit more users, and prepares the folders for them."""

    def __init__(
        self,
        context: PairContext,
        run: PairRun,
        batch: Batch,
        volumes: ByMount[Volume],
        adoption: Adoption,
        keeper: VersionKeeper,
    ) -> None:
        self._batch = batch
        self._adoption = adoption
        self._keeper = keeper
        self._context, self._volumes = context, volumes
        self._surplus: Surplus | None = None
        self._uncleared: list[bytes] = []
        """Sorted paths of folders that could not be compared or cleared in this cycle."""
        self._errors: dict[bytes, OSError] = {}
        """By path in `_uncleared`."""
        self._about = {"cycle_id": run.cycle_id, "pair": run.pair.name}
        self._pair = run.pair
        self._entered_ns = context.opened_ns

    def close(self) -> None:
        """Close what was opened."""
        if self._surplus is not None:
            self._surplus.close()

    def _compared(self) -> "Surplus":
        from job.engine.copy.cleanup import Surplus  # noqa: PLC0415  # rarely needed, and each start would pay for it

        if self._surplus is None:
            context, volumes = self._context, self._volumes
            roots = (context.source_root, context.mirror_root)
            self._surplus = Surplus(context.source, roots, self._pair, lambda path: volumes.at(path).mirror)
        return self._surplus

    def permits(self, task: SyncFolder | FinishFolder, opened: OpenFolders, present: Collection[bytes]) -> bool:
        """Set surplus aside before a folder admits more users; False if that fails."""
        work, path, seen = opened.work, opened.work.listing.path, opened.seen
        why = self._why_widened(work, seen)
        is_new = self.is_new(path, seen, missing=task.missing)
        if is_new and path and isinstance(task, SyncFolder) and task.links is None and task.widening is None:
            # Nothing was synced in it yet: files in it are those of another new folder that a user moved here.
            is_new = {*present} <= {*work.listing.folders}
        if self._is_held(opened) or not why or is_new or not self.holds_anything(path, present):
            return True
        if any(each.path == path for each in work.listing.left_out):
            # Nothing in it is in scope, so it is unknown which entries the source still has.
            self._hold(work, opened.mirror, seen)
            return True
        close = task if isinstance(task, FinishFolder) else None
        # Results below a folder that changed since the scan may be outdated: the next cycle opens it.
        too_early = close is None and work.listing.fingerprint != task.fingerprint
        if task.widening is None or too_early:
            self._hold(work, opened.mirror, seen)
            work.complete = False
            if not too_early:
                self._batch.followups.closed.append(PendingWidening(path, task.fingerprint, close))
            return True
        try:
            if not task.widening.cleared:
                self._prepare(path, why, task.widening.failed)
        except OSError as error:
            self._batch.fail_folder(path, error)
            return False
        self._batch.followups.opened.append(path)
        return True

    def _is_held(self, opened: OpenFolders) -> bool:
        """Hold back the metadata of a mirror folder if an attribute would be lost while the brake is on."""
        work, holder = opened.work, self._batch.holder
        entered = work.volume.metadata_writer.entered
        if not (holder.is_on and is_lost(entered, work.xattrs) and holder.holds_folder(work.listing.path)):
            return False
        self._hold(work, opened.mirror, opened.seen)
        work.complete = False
        return True

    def _why_widened(self, work: Work, seen: os.stat_result) -> str:
        """Return the reason if a mirror folder admits more users once it has its metadata; else an empty text."""
        volume, standing = work.volume, self._adoption.standing(work.listing.path)
        access = volume.metadata_writer.entered.get(ACCESS_ACL)
        differs = volume.mirror.acls and access != work.xattrs.get(ACCESS_ACL)
        return why_widened(seen, work.listing.folder, standing, acl_differs=differs)

    def is_new(self, path: bytes, seen: os.stat_result, *, missing: bool) -> bool:
        """Check that a mirror folder, which the scan found `missing`, was made in this cycle with all its content.

        An older closed folder may have been renamed to it since.
        """
        if not missing or not path:
            return missing
        if not is_as_created(seen, self._adoption.standing(b"").user):
            return False
        return 0 < self._entered_ns - _CLOCK_STEP_NS <= seen.st_mtime_ns

    @staticmethod
    def holds_anything(path: bytes, present: Iterable[bytes]) -> bool:
        """Check whether a mirror folder has any entry except the state folder."""
        return any(path or name != STATE_FOLDER for name in present)

    def _hold(self, work: Work, folder: int, seen: os.stat_result) -> None:
        """Hold back the metadata of an open mirror folder, except rights that it loses."""
        work.held = True
        mode = stat.S_IMODE(seen.st_mode)
        tighter = mode & (work.listing.folder.st_mode | ~0o077)
        if tighter != mode:
            with suppress(OSError):  # reported when its metadata is set
                os.fchmod(folder, tighter)
                self._batch.dirty = True

    def _prepare(self, path: bytes, why: str, failed: Collection[bytes]) -> None:
        """Set aside the surplus below a folder. Raises `StaysClosedError`.

        A folder with an uncleared one in it is not compared again: of nested folders, each would compare all below it.
        """
        surplus = self._compared()
        error = self._error_below(path)
        try:
            if error is None:
                surplus.check_done(path, failed)
                self._clear(path, why, surplus)
        except OSError as raised:
            error = raised
        if error is not None:
            raise StaysClosedError(error) from error

    def _clear(self, path: bytes, why: str, surplus: "Surplus") -> None:
        try:
            for at, folder, entries, why_left in surplus.below(path):
                self._set_aside(at, folder, entries, why_left_over(why_left, path, why))
        except OSError as error:
            bisect.insort(self._uncleared, surplus.at)
            self._errors[surplus.at] = error
            raise

    def _error_below(self, path: bytes) -> OSError | None:
        inside = path + b"/" if path else b""
        for start in (path, inside):  # other names may sort between the two
            index = bisect.bisect_left(self._uncleared, start)
            for found in self._uncleared[index : index + 1]:
                if found == path or found.startswith(inside):
                    return self._errors[found]
        return None

    def _set_aside(self, at: bytes, folder: int, entries: Sequence[tuple[bytes, Kind]], reason: str) -> None:
        kinds, before = dict(entries), os.fstat(folder)
        self._batch.dirty = True
        places, error = self._keeper.move(list(kinds), folder, at, VersionReason.RETIRED)
        with suppress(OSError):
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
        fsync_folder(folder)
        self._batch.followups.moved.append(at)
        for name, place in places.items():
            path = join(at, name)
            if kinds[name] is Kind.FOLDER:
                self._batch.pending_events.retired.append(path)
            version = printable(place)
            self._batch.pending_events.add(
                EntrySetAside(**self._about, path=path, kind=kinds[name], version=version, reason=reason)
            )
        if error is not None:
            raise error


def why_left_over(left: str, path: bytes, why: str) -> str:
    """Return why surplus has to leave the mirror; `left` is why it is surplus, `why` the reason of the widening."""
    what = printable(path) if path else "the mirror's root"
    return f"{left}, and {what} lets in more users, as {why}"


def why_closed(error: OSError) -> str:
    """Return why a mirror folder is not widened, and the next step."""
    next_step = getattr(error, "next_step", "mend that, and the next cycle opens the folder")
    return f"its mirror stays as closed as it was: {reason_text(error)}; {next_step}"
