"""Check that a mirror folder may be used before anything is changed in it; otherwise set it aside, whole.

A user who may write to a mirror folder can rename folders in it, and a user who may write to a source folder can take
over a name that another user gave up. Such a user must not get access to the mirror's content under that name.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from job.core.adoption import FolderMatch, ProcessRights, StatResult, why_not_adopted
from job.core.counts import Tally
from job.core.entry import STATE_FOLDER, Kind, printable
from job.core.file_systems import ByMount, Capabilities
from job.core.outcome import Failure, failure_of, reason_text
from job.core.record import FolderDone, FolderSummary
from job.engine.context import PairContext, PairRun
from job.engine.copy.actions import make_folder
from job.engine.messages import BatchResult, Followups
from job.engine.versions.keeping import VersionKeeper, versions_done
from job.events.base import Event
from job.events.pair import EntrySetAside, FileFailed
from job.fs.dircursor import DirCursor

if TYPE_CHECKING:
    from job.engine.brake.hold import Hold


def standing_of(mirror: Capabilities) -> ProcessRights:
    """Return the rights of this process to folders on a file system."""
    groups = frozenset((os.getegid(), *os.getgroups()))
    return ProcessRights(os.geteuid(), groups, owners=mirror.owners, modes=mirror.modes)


class StateFolderMovedError(OSError):
    """A folder of the mirror is the state folder, renamed."""

    def __init__(self, path: bytes) -> None:
        name, own = printable(path), printable(STATE_FOLDER)
        super().__init__(
            errno.EEXIST,
            f"the mirror's {name} is Truecopy's own folder {own}, which was renamed: rename it to {own} again, "
            f"and check the write permissions of the mirror's root",
        )


class Adoption:
    """Checks folders of one mirror. Use it with `contextlib.closing`."""

    def __init__(
        self, context: PairContext, run: PairRun, keeper: VersionKeeper, sources: DirCursor | None = None
    ) -> None:
        """Use `sources`, a shared cursor, if it is given."""
        self._state_folder = context.mirror_state
        self._about = {"cycle_id": run.cycle_id, "pair": run.pair.name}
        self._sources, self._mirrors = sources or DirCursor(context.source_root), DirCursor(context.mirror_root)
        self._keeper = keeper
        others = {each.point: standing_of(each.mirror) for each in context.tools.mounted}
        self._standing = ByMount(standing_of(context.mirror), others)

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    def standing(self, path: bytes) -> ProcessRights:
        """Return the rights of this process to a folder of the mirror."""
        return self._standing.at(path)

    def check_not_state_folder(self, path: bytes, seen: os.stat_result) -> None:
        """Check that a mirror folder is not the state folder, renamed. Raises `OSError`."""
        if (seen.st_dev, seen.st_ino) == self._state_folder and path != STATE_FOLDER:
            raise StateFolderMovedError(path)

    def why_not(self, path: bytes, left: FolderMatch) -> str:
        """Return why the mirror's folder at a path must not be used; empty if it may be, or is no folder.

        Raises `OSError` if it must not be moved either.
        """
        parent, _, name = path.rpartition(b"/")
        try:
            mirror = os.stat(name, dir_fd=self._mirrors.goto(parent), follow_symlinks=False)
            source = os.stat(name, dir_fd=self._sources.goto(parent), follow_symlinks=False)
        except OSError:
            return ""  # gone or inaccessible: reported when it is synced
        if not stat.S_ISDIR(mirror.st_mode):
            return ""
        self.check_not_state_folder(path, mirror)
        return self.why_not_adopted(path, left, mirror, source)

    def why_not_adopted(self, path: bytes, left: FolderMatch, mirror: StatResult, source: StatResult) -> str:
        """Return the same for a folder whose stats are known."""
        return why_not_adopted(left, mirror, source, self.standing(path))

    def make_anew(self, path: bytes, why: str) -> EntrySetAside | None:
        """Set the mirror's folder aside and make a new one; no event for an empty one. Raises `OSError`."""
        parent, _, name = path.rpartition(b"/")
        folder = self._mirrors.goto(parent)
        before, event = os.fstat(folder), None
        if not self._keeper.removed(name, folder):
            place = self._keeper.take(path, folder)
            event = EntrySetAside(**self._about, path=path, kind=Kind.FOLDER, version=printable(place), reason=why)
        make_folder(name, folder)
        with suppress(OSError):
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
        return event


class Exchange:
    """Checks mirror folders before they are synced, and replaces some. Use it with `contextlib.closing`.

    The main process does this before it submits work items below such a folder: a worker in it would continue in the
    folder that was moved away.
    """

    def __init__(
        self,
        context: PairContext,
        run: PairRun,
        commit: Callable[[list[BatchResult]], list[BatchResult]],
        hold: "Callable[[], Hold | None]" = lambda: None,
    ) -> None:
        """`commit` removes moved folders from the index, and emits the events; `hold` returns what may keep them."""
        self.hold = hold
        self._context = context
        self._keeper = VersionKeeper(context, run)
        self._adoption = Adoption(context, run, self._keeper)
        self._run = run
        self._commit = commit
        self._replaced: set[bytes] = set()
        self._events: list[Event] = []
        self._retired: list[bytes] = []
        self._anew: list[bytes] = []
        self._forgotten: list[FolderDone] = []
        self._failed: dict[Failure, int] = {}

    def close(self) -> None:
        """Close what was opened."""
        self._adoption.close()
        self._keeper.close()

    def is_below_replaced(self, path: bytes) -> bool:
        """Check whether a folder lies in one that was replaced, or could not be: it gets no work item then."""
        if not self._replaced:
            return False
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._replaced:
                return True
        return False

    def replace_unusable(self, path: bytes, left: FolderMatch) -> bool:
        """Check a folder; True if it was replaced, or could not be, which `settle` reports, or is held."""
        try:
            why = self._adoption.why_not(path, left)
            if not why:
                return False
            if (hold := self.hold()) is not None and hold.holds_folder(path):
                self._replaced.add(path)
                return True
            event = self._adoption.make_anew(path, why)
            self._retired.append(path)
            self._anew.append(path)
            self._events += [event] if event is not None else []
        except OSError as error:
            self._fail(path, error)
        self._replaced.add(path)
        return True

    def forget(self, path: bytes, known: FolderSummary | None) -> None:
        """Have `settle` remove the fingerprints of a folder from the index; records of its entries stay."""
        if known is not None:
            unknown = known._replace(fingerprint=b"", stamp=b"", mirror_fingerprint=b"")
            self._forgotten.append(FolderDone(path, unknown))

    def _fail(self, path: bytes, error: OSError) -> None:
        reason = failure_of(error)
        self._failed[reason] = self._failed.get(reason, 0) + 1
        self._events.append(
            FileFailed(
                cycle_id=self._run.cycle_id,
                pair=self._run.pair.name,
                path=path,
                kind=Kind.FOLDER,
                reason=reason,
                error=f"its mirror: {reason_text(error)}",
            )
        )

    def settle(self) -> tuple[list[BatchResult], list[bytes]]:
        """Commit and report the replacements.

        Returns the results, and the new folders, which have to be synced with everything below them.
        """
        if not (self._events or self._retired or self._forgotten):
            return [], []
        batch = BatchResult(
            begun=0,
            since_ns=self._run.now_ns(),
            ended=[],
            events=self._events,
            tally=Tally(failed_by=dict(self._failed)),
            retired=self._retired,
            versions=versions_done(moved, self._context.moment) if (moved := self._keeper.take_moved()) else [],
            folders=self._forgotten,
            followups=Followups(moved=[path.rpartition(b"/")[0] for path in self._anew]),
        )
        anew, self._events, self._retired, self._anew, self._failed = self._anew, [], [], [], {}
        self._forgotten = []
        return self._commit([batch]), anew
