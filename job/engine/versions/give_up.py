"""Give up versions on a full disk, so that the copy goes on: what expired first, then the oldest.

The newest version folders stay, and so do all versions of a path that the mirror does not hold: nothing else has those
contents. The free space is measured after each folder; where two in a row give nothing, because a snapshot or another
name holds the blocks, no more are removed. This is done where the copy fails, which may be a worker: the index gets to
know of it with the batch.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from zoneinfo import ZoneInfo

from job.config import fields
from job.core.retention import Retention, VersionFate, folders_to_give_up, is_futile
from job.core.versions import Moment
from job.engine.context import PairContext, PairRun
from job.engine.messages import GivenUp
from job.engine.versions.judge import Going, Judge, is_given_up
from job.events.base import Event
from job.events.pair import VersionsGaveNothing, VersionsGivenUp
from job.fs.dircursor import closing_fd, open_root
from job.fs.free_space import Shortage, shortage
from job.fs.own_files import syncfs
from job.fs.version_tree import VersionTree, open_versions
from job.store.version_table import VersionsGone

_FOR_INDEX = Shortage(32 << 10, 4)


class Reclaimer:
    """Makes room on the disk of one mirror, in one process."""

    def __init__(self, context: PairContext, run: PairRun) -> None:
        self._context, self._run = context, run
        self._is_futile = False
        self._least_failed: int | None = None
        """Bytes that all versions together could not give."""
        self._gone: list[VersionsGone] = []
        self._until = 0.0
        self._events: list[Event] = []

    def reclaim(self, size: int) -> bool:
        """Make room for a file of `size` bytes; True if it is worth to try it once more.

        Something is given up also if the disk has room, as a quota shows nowhere else; but not if another process just
        made some.
        """
        return self._with_tree(size)

    def reclaim_for_index(self) -> bool:
        """Make room for a commit of the index, if the disk is full; True if it is worth to try it once more.

        Less than that is a help as well.
        """
        return self._with_tree(None)

    def _with_tree(self, size: int | None) -> bool:
        settings = self._run.pair.versions
        if settings is None or self._is_futile:
            return False
        try:
            tree = open_versions(self._context.mirror_root, self._context.mirror_state)
        except OSError:
            return False
        if tree is None:
            return False
        with closing(tree):
            waited = _lock(tree.root)
            _sync(tree.root)  # btrfs still counts the temp that had no room
            lacking = shortage(tree.root, size or 0)
            if size is None and any(lacking):
                lacking = _FOR_INDEX
            elif size is not None and not any(lacking) and not waited:
                lacking = Shortage(max(size, 1), 0)
            if not any(lacking):
                return waited
            now = self._run.now_ns() / 1e9
            retention = Retention(fields.keep(settings.keep), tree.moments, now, ZoneInfo(self._run.zone))
            with closing(Judge(tree, self._context.mirror_root, retention, lambda _: ())) as judge:
                return self._give_up(tree, judge, retention, lacking)

    def take(self) -> tuple[GivenUp, list[Event]]:
        """Return, and forget, what was given up, and the events."""
        taken = GivenUp(self._gone, self._until), self._events
        self._gone, self._until, self._events = [], 0.0, []
        return taken

    def _give_up(self, tree: VersionTree, judge: Judge, retention: Retention, missing: Shortage) -> bool:
        if self._least_failed is not None and missing.bytes >= self._least_failed:
            return False
        if missing is not _FOR_INDEX and not self._is_enough(tree, judge, retention, missing):
            self._least_failed = missing.bytes
            return False
        ends = {moment: float(later.seconds) for moment, later in pairwise(tree.moments)}
        free = [_free(tree.root, missing)]
        files = size = 0
        for moment, going in self._in_order(tree, judge, retention):
            removed = self._remove(tree, moment, going)
            if removed[0]:
                self._until = max(self._until, ends.get(moment, self._run.now_ns() / 1e9))
            files, size = files + removed[0], size + removed[1]
            _sync(tree.root)
            free.append(_free(tree.root, missing))
            if free[-1] - free[0] >= (missing.bytes or missing.names):
                break
            if is_futile(free):
                self._is_futile = True
                self._events.append(VersionsGaveNothing(**self._run.about, files=files, bytes=size))
                break
        return max(free) > free[0]

    def _is_enough(self, tree: VersionTree, judge: Judge, retention: Retention, missing: Shortage) -> bool:
        """Return whether all that may be given up has as much as is missing: else nothing is."""
        blocks = names = 0
        for moment, going in self._in_order(tree, judge, retention):
            for each in going:
                blocks += tree.sizes(moment, each.folder, each.names)[1]
                names += len(each.names)
            if blocks >= missing.bytes and names >= missing.names:
                return True
        return False

    @staticmethod
    def _in_order(tree: VersionTree, judge: Judge, retention: Retention) -> Iterator[tuple[Moment, list[Going]]]:
        """Yield what expired, then the rest, each by version folder, the oldest first."""
        moments = [*folders_to_give_up(tree.moments, retention)]

        def expires(fate: VersionFate) -> bool:
            return fate.expires

        for goes in (expires, is_given_up):
            for moment in moments:
                going: list[Going] = []
                for found in judge.chunks([moment]):
                    for each in judge.going(found, goes):
                        held = judge.held(each.folder, each.names)
                        going.append(each._replace(names={n: why for n, why in each.names.items() if n in held}))
                if any(each.names for each in going):
                    yield moment, going

    def _remove(self, tree: VersionTree, moment: Moment, going: list[Going]) -> tuple[int, int]:
        files = size = 0
        for each in going:
            removed = tree.remove(moment, each.folder, list(each.names))
            files, size = files + len(removed.names), size + removed.bytes
            is_emptied = tree.prune(moment, each.folder)
            if removed.names or is_emptied:
                self._gone.append(VersionsGone(each.folder, moment, removed.names, removed.bytes, is_emptied))
        if files:
            folder = moment.name.decode("ascii")
            self._events.append(VersionsGivenUp(**self._run.about, folder=folder, files=files, bytes=size))
        return files, size


def _lock(folder: int) -> bool:
    """Lock an open folder until it is closed, so that no two processes give up at once; True if one was waited for."""
    with suppress(OSError):
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(folder, fcntl.LOCK_EX)
            return True
    return False


def reclaim_for_index(context: PairContext, run: PairRun) -> bool:
    """Give up versions if the mirror's disk is full; True if it is worth to try a commit of the index once more."""
    reclaimer = Reclaimer(context, run)
    is_worth = reclaimer.reclaim_for_index()
    (gone, until), events = reclaimer.take()
    for event in events:
        run.emit(event)
    if gone:
        with suppress(OSError):  # rows without versions count for nothing
            context.index.version_table.begin_to_drop(until)
            context.index.version_table.drop(gone)
    return is_worth


def _free(folder: int, missing: Shortage) -> int:
    found = os.fstatvfs(folder)
    return found.f_ffree if missing.names and not missing.bytes else found.f_bfree * found.f_frsize


def _sync(folder: int) -> None:
    """Let the file system count what was freed; by a descriptor of its own, as each reports a failed write once."""
    with suppress(OSError), closing_fd(open_root(f"/proc/self/fd/{folder}")) as own:
        syncfs(own)
