"""The work queue: changed folders in the order in which they can be synced, cut into items of even size.

Folders are independent once the mirror has them: they are created here, parents first, just before they are handed out.
Where another kind of entry still holds the name, they wait until all assigned items are done; the sync of the parent
has replaced it by then. Huge folders go in parts (`huge_folders.py`), hard links last (`hardlink_dispatch.py`).
Widened folders, which let in more users than before, come last, the topmost first, with folders whose stamps changed.
"""

import os
import stat
from collections.abc import Iterable, Iterator

from job.core.adoption import FolderMatch
from job.core.compressed_list import CompressedList
from job.core.entry import Kind, is_reserved, parent_of
from job.engine.copy.actions import make_folder
from job.engine.copy.adoption import Exchange
from job.engine.dispatch.hardlink_dispatch import HardLinks
from job.engine.dispatch.huge_folders import HugeFolders
from job.engine.messages import BatchResult, FinishFolder, Followups, IndexLookup, SyncFolder, Task, Widening, WorkItem
from job.engine.scan import ChangedFolder, ScanResult
from job.events.pair import FileFailed
from job.fs.dircursor import DirCursor

_MOST_FAILED = 10_000
_MOST_AT_ONCE = 64
"""Folders in one item."""


class FinalTasks:
    """Tasks for after all other work of a cycle is committed: widened folders, and folders with stale stamps."""

    def __init__(self, lookup: IndexLookup, hard_links: HardLinks, unlisted: Iterable[bytes]) -> None:
        """`unlisted` are unreadable folders of the source: the content below them is unknown."""
        self._lookup = lookup
        self._hard_links = hard_links
        self._failed: set[bytes] = set(unlisted)
        self._to_widen: dict[int, CompressedList[tuple[bytes, bytes]]] = {}
        """Paths and fingerprints by depth: parents are widened before their subfolders."""
        self._huge: dict[bytes, FinishFolder] = {}
        self._widened: set[bytes] = set()
        """The topmost ones only."""
        self._to_refresh: CompressedList[tuple[bytes]] = CompressedList()
        self._moved: set[bytes] = set()
        """Paths in `_to_refresh`."""

    def failed(self, paths: Iterable[bytes]) -> None:
        """Record failed paths."""
        for path in paths:
            # The set stays bounded: of very many failures the folders are enough.
            self._failed.add(path if len(self._failed) < _MOST_FAILED else path.rpartition(b"/")[0])

    def record_result(self, followups: Followups) -> None:
        """Record folders to widen or refresh, and widened ones."""
        for path, fingerprint, close in followups.closed:
            depth = path.count(b"/") + bool(path)
            self._to_widen.setdefault(depth, CompressedList()).append((path, fingerprint))
            if close is not None:
                self._huge[path] = close
        self._widened.update([path for path in followups.opened if not self._is_widened(path)])
        for path in followups.moved:
            if path not in self._moved:
                if len(self._moved) >= _MOST_FAILED:
                    self._moved.clear()  # it stays bounded: a folder that is synced twice is as good
                self._moved.add(path)
                self._to_refresh.append((path,))

    def tasks(self) -> list[Task]:
        """Return some tasks, when all other work is committed; none if there are no more."""
        tasks = self._widening_tasks()
        while self._to_refresh and len(tasks) < _MOST_AT_ONCE and not any(self._to_widen.values()):
            tasks += self._refresh_tasks(*self._to_refresh.pop())
        return tasks

    def _widening_tasks(self) -> list[Task]:
        """Return the topmost folders, and with them all below widened ones: a commit a level would take minutes."""
        tasks: list[Task] = []
        self._to_widen = {depth: waiting for depth, waiting in self._to_widen.items() if waiting}
        for depth in sorted(self._to_widen):
            waiting = self._to_widen[depth]
            while waiting and len(tasks) < _MOST_AT_ONCE:
                path, fingerprint = waiting.pop()
                if depth > min(self._to_widen) and not self._is_widened(path):
                    waiting.append((path, fingerprint))  # a folder above it may be one of the tasks
                    return tasks
                tasks.append(self._widening_task(path, fingerprint))
        return tasks

    def _refresh_tasks(self, path: bytes) -> list[Task]:
        summary = self._lookup.index.summary(path)
        # A huge folder is left to the next cycle, which finds that its stamp changed: going through it would cost more.
        if path in self._widened or summary is None or summary.parts > 1:
            return []
        return [self._sync_task(path, summary.fingerprint)]

    def _widening_task(self, path: bytes, fingerprint: bytes) -> Task:
        inside = path + b"/" if path else b""
        failed = tuple(sorted(each for each in self._failed if each == path or each.startswith(inside)))
        widening = Widening(self._is_widened(path), failed)
        if (close := self._huge.pop(path, None)) is not None:
            return close._replace(widening=widening)
        return self._sync_task(path, fingerprint)._replace(widening=widening)

    def _sync_task(self, path: bytes, fingerprint: bytes) -> SyncFolder:
        rows, noted, links = self._lookup.rows(path), self._lookup.noted(path), self._hard_links.links_of(path)
        return SyncFolder(path, fingerprint, rows, links, again=True, noted=noted)

    def _is_widened(self, path: bytes) -> bool:
        """Return whether a folder lies in a widened one."""
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._widened:
                return True
        return False


_MOST_ENTRIES = 256
_MOST_BYTES = 32 << 20
_MOST_FOLDERS = 64


class WorkQueue:
    """Gives out work items. Use it with `contextlib.closing`."""

    def __init__(
        self, found: ScanResult, lookup: IndexLookup, hard_links: HardLinks, roots: tuple[int, int], exchange: Exchange
    ) -> None:
        """`roots` are the open roots of source and mirror; `exchange` handles mirror folders that were replaced."""
        source_root, mirror_root = roots
        self._found = found
        self._lookup = lookup
        self._index = lookup.index
        self._hard_links = hard_links
        self._sources = DirCursor(source_root, kept=2)
        self._mirrors = DirCursor(mirror_root)
        self._huge_folders = HugeFolders(lookup, hard_links)
        self._exchange = exchange
        self._final_tasks = FinalTasks(lookup, hard_links, [each.path for each in found.unlisted])
        self._changes: Iterator[ChangedFolder] = found.changes()
        self._retry: CompressedList[tuple[object, ...]] = CompressedList()
        self._retrying = False
        self._unscanned: list[bytes] = []
        self._known_paths: set[bytes] = set()
        self._failed: set[bytes] = set()
        self._huge_paths: set[bytes] = set()
        self._assigned: set[int] = set()
        self._number = 0

    def close(self) -> None:
        """Close the cursors; the roots stay open."""
        self._sources.close()
        self._mirrors.close()

    @property
    def is_busy(self) -> bool:
        """Whether an item is assigned and not done."""
        return bool(self._assigned)

    def next_item(self) -> WorkItem | None:
        """Return the next item; None if there is none, or none before an assigned one is done."""
        tasks = self._tasks()
        while not tasks and not self._assigned and self._hard_links.advance():
            tasks = self._tasks()
        if not tasks and not self._assigned and not ((hold := self._exchange.hold()) and hold.settle()):
            tasks = self._final_tasks.tasks()  # while anything is held, no folder is opened to more users
        if not tasks:
            return None
        self._number += 1
        self._assigned.add(self._number)
        return WorkItem(self._number, tasks)

    def _tasks(self) -> list[Task]:
        tasks = self._part() or self._next_folders() or self._part()
        if not tasks and self._unscanned:
            path = self._unscanned.pop()
            tasks = [SyncFolder(path, b"", "", self._hard_links.links_of(path), whole=True)]
        if not tasks and self._retry and not self._assigned:
            self._changes = map(ChangedFolder._make, self._retry)
            self._retry, self._retrying = CompressedList(), True
            tasks = self._next_folders() or self._part()
        return tasks or self._hard_links.tasks()

    def _part(self) -> list[Task]:
        task = self._huge_folders.next_task()
        if task is None:
            return []
        self._huge_folders.record_assigned(self._number + 1, task)
        return [task]

    def record_result(self, batch: BatchResult) -> None:
        """Record a committed batch and its followups."""
        self._huge_folders.record_result(batch.followups.divided, batch.parts)
        for postponed in batch.followups.postponed:
            if postponed.part is not None:
                self._huge_folders.postpone(postponed.part)
        self._hard_links.record_result(batch.followups)
        self.record_done(batch.ended)
        if batch.tally.failed_by:
            failures = [event for event in batch.events if isinstance(event, FileFailed)]
            self._failed.update(event.path for event in failures if event.kind is Kind.FOLDER)
            self._final_tasks.failed(event.path for event in failures)
        self._final_tasks.record_result(batch.followups)
        for path, fingerprint in batch.followups.now_huge:
            self._huge_paths.add(path)
            self._huge_folders.add(path, fingerprint)
        self._add_unscanned(batch.followups.unscanned)
        self._unscanned += batch.followups.unplaced  # the general path looks at what is there now

    def record_done(self, numbers: Iterable[int]) -> None:
        """Record finished or lost items."""
        self._assigned.difference_update(numbers)
        self._huge_folders.record_done(numbers)

    def _add_unscanned(self, folders: Iterable[bytes]) -> None:
        """Add folders that appeared since the scan."""
        for path in folders:
            if not self._known_paths:
                # Built on demand: it is rarely needed.
                self._known_paths = {change.path for change in self._found.changes()}
                self._known_paths.update(each.path for each in self._found.unlisted)
            if path not in self._known_paths and not is_reserved(path) and self._index.summary(path) is None:
                self._known_paths.add(path)
                self._unscanned.append(path)

    def _next_folders(self) -> list[Task]:
        with self._index.read_transaction():
            tasks = self._folder_tasks()
        committed, replaced = self._exchange.settle()
        for batch in committed:
            self.record_result(batch)
        self._unscanned += replaced
        return tasks

    def _folder_tasks(self) -> list[Task]:
        tasks: list[Task] = []
        entries = size = 0
        for change in self._changes:
            if self._exchange.is_below_replaced(change.path) or (change.left and self._is_replaced(change)):
                continue
            if change.missing and not self._create_folder(change):
                continue
            if self._retrying and change.path in self._failed:
                continue  # its failure is reported already, by the item that should have created it
            if change.huge:
                self._huge_paths.add(change.path)
                self._huge_folders.add(change.path, change.fingerprint, missing=change.missing or change.new_mirror)
                continue
            tasks.append(self._sync_task(change))
            entries += change.entries
            size += change.size
            if entries >= _MOST_ENTRIES or size >= _MOST_BYTES or len(tasks) >= _MOST_FOLDERS:
                break
        return tasks

    def _sync_task(self, change: ChangedFolder) -> SyncFolder:
        path, lookup = change.path, self._lookup
        links = self._hard_links.links_of(path)
        rows, noted = lookup.rows(path), lookup.noted(path)
        return SyncFolder(
            path,
            change.fingerprint,
            rows,
            links,
            noted=noted,
            empty_fingerprint=change.empty_fingerprint,
            missing=change.missing or change.new_mirror,
            mark=change.mark,
            packed=self._found.packed.pop(path, b""),
            known_mirror=change.known_mirror,
            same_source=change.same_source,
            may_stage=parent_of(path) not in self._huge_paths,
        )

    def _is_replaced(self, change: ChangedFolder) -> bool:
        """Check that a mirror folder which is not as recorded may be used; True if it is set aside, or failed."""
        if change.left == FolderMatch.MISSING:
            # It is created again. Forget the record first: after a kill the new folder must not pass for the old one.
            self._exchange.forget(change.path, self._index.summary(change.path))
            return False
        return self._exchange.replace_unusable(change.path, FolderMatch(change.left))

    def _left_source(self, path: bytes) -> bool:
        # Creating it in vain would change the mtime of its parent, which may be finished.
        parent, _, name = path.rpartition(b"/")
        try:
            os.stat(name, dir_fd=self._sources.goto(parent), follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def _create_folder(self, change: ChangedFolder) -> bool:
        """Create a missing folder in the mirror; False if it left the source, or has to wait for another item."""
        parent, _, name = change.path.rpartition(b"/")
        try:
            mirror = self._mirrors.goto(parent)
            if not _is_folder(name, mirror):  # the sync of the parent may have made it
                if self._left_source(change.path):
                    return False
                make_folder(name, mirror)
        except OSError:
            if self._retrying or self._left_source(change.path):
                return self._retrying
            self._retry.append(tuple(change))
            return False
        return True


def _is_folder(name: bytes, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
