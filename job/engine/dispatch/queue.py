"""Rounds: which folder may be visited when, cut into errands of a fair size.

Folders are independent of each other once the mirror has them: so they are made here, parents first, just before
somebody is sent to them. Where something else still has the name, they wait until everybody else is back; the visit of
the folder above them has replaced it by then. Huge folders are seen to in parts (`division.py`), and what holds hard
links after everything else (`hardlinks.py`).

Last: folders that wait until all other work of a cycle is committed, the least deep ones first.

Those are folders that let in more users than before, and folders from which something was set aside meanwhile, of which
the index is to remember how they look now.
"""

import os
from collections.abc import Iterable, Iterator

from job.core.adoption import FolderMatch
from job.core.compressed_list import CompressedList
from job.core.entry import Kind, is_reserved
from job.engine.copy.actions import make_folder
from job.engine.copy.adoption import Exchange
from job.engine.dispatch.hardlinks import HardLinks
from job.engine.dispatch.huge_folders import HugeFolders
from job.engine.messages import BatchResult, FinishFolder, Followups, IndexLookup, SyncFolder, Task, Widening, WorkItem
from job.engine.scan import ChangedFolder, ScanResult
from job.events.service import FileFailed
from job.fs.dircursor import DirCursor

_MOST_FAILED = 10_000
_MOST_AT_ONCE = 64
"""Folders in one errand."""


class FinalTasks:
    """What is left to be done in the end, for the process that sends others out."""

    def __init__(self, known: IndexLookup, hard_links: HardLinks, unlisted: Iterable[bytes]) -> None:
        """`unlisted` are folders of the source that cannot be read: what is below them is not known."""
        self._known = known
        self._hard_links = hard_links
        self._failed: set[bytes] = set(unlisted)
        self._closed: dict[int, CompressedList[tuple[bytes, bytes]]] = {}
        """Folders and their fingerprints by depth: one has its turn after all that it lies in."""
        self._huge: dict[bytes, FinishFolder] = {}
        self._opened: set[bytes] = set()
        """Without those that lie in others."""
        self._moved: CompressedList[tuple[bytes]] = CompressedList()

    def failed(self, paths: Iterable[bytes]) -> None:
        """Note what could not be brought up to date."""
        for path in paths:
            # Of very many failures it is enough to know the folders.
            self._failed.add(path if len(self._failed) < _MOST_FAILED else path.rpartition(b"/")[0])

    def heard(self, followups: Followups) -> None:
        """Take in which folders wait, and what became of those that waited."""
        for path, fingerprint, close in followups.closed:
            depth = path.count(b"/") + bool(path)
            self._closed.setdefault(depth, CompressedList()).append((path, fingerprint))
            if close is not None:
                self._huge[path] = close
        self._opened.update([path for path in followups.opened if not self._is_cleared(path)])
        self._moved.extend((path,) for path in followups.moved)

    def tasks(self) -> list[Task]:
        """Give some of what is to be done, all other work being committed; nothing if there is no more of it."""
        tasks: list[Task] = []
        while self._closed and not tasks:
            depth = min(self._closed)
            waiting = self._closed[depth]
            tasks = [self._opening(*waiting.pop()) for _ in range(min(len(waiting), _MOST_AT_ONCE))]
            if not waiting:
                del self._closed[depth]
        while self._moved and len(tasks) < _MOST_AT_ONCE and not self._closed:
            tasks += self._renewed(*self._moved.pop())
        return tasks

    def _renewed(self, path: bytes) -> list[Task]:
        summary = self._known.index.summary(path)
        # Of a huge folder the next cycle finds that it moved; to go through it now would cost much more.
        if path in self._opened or summary is None or summary.parts > 1:
            return []
        return [self._visit(path, summary.fingerprint)]

    def _opening(self, path: bytes, fingerprint: bytes) -> Task:
        inside = path + b"/" if path else b""
        failed = tuple(sorted(each for each in self._failed if each == path or each.startswith(inside)))
        clearance = Widening(self._is_cleared(path), failed)
        if (close := self._huge.pop(path, None)) is not None:
            return close._replace(widening=clearance)
        return self._visit(path, fingerprint)._replace(widening=clearance)

    def _visit(self, path: bytes, fingerprint: bytes) -> SyncFolder:
        rows, noted, links = self._known.rows(path), self._known.noted(path), self._hard_links.links_of(path)
        return SyncFolder(path, fingerprint, rows, links, again=True, noted=noted)

    def _is_cleared(self, path: bytes) -> bool:
        """Tell whether a folder lies in one that was opened."""
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._opened:
                return True
        return False


_MOST_ENTRIES = 256
_MOST_BYTES = 32 << 20
_MOST_FOLDERS = 64


class WorkQueue:
    """Gives out errands. Use it with `contextlib.closing`."""

    def __init__(
        self, found: ScanResult, known: IndexLookup, hard_links: HardLinks, roots: tuple[int, int], exchange: Exchange
    ) -> None:
        """`roots` are the open ones of source and mirror; `exchange` sees to folders that are not as they were left."""
        source_root, mirror_root = roots
        self._found = found
        self._known = known
        self._index = known.index
        self._hard_links = hard_links
        self._sources = DirCursor(source_root, kept=2)
        self._mirrors = DirCursor(mirror_root)
        self._division = HugeFolders(known, hard_links)
        self._exchange = exchange
        self._last = FinalTasks(known, hard_links, [each.path for each in found.unlisted])
        self._changes: Iterator[ChangedFolder] = found.changes()
        self._later: CompressedList[tuple[object, ...]] = CompressedList()
        self._second = False
        self._late: list[bytes] = []
        self._met: set[bytes] = set()
        self._failed: set[bytes] = set()
        self._out: set[int] = set()
        self._number = 0

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    @property
    def out(self) -> bool:
        """Whether somebody is still out on an errand."""
        return bool(self._out)

    def take(self) -> WorkItem | None:
        """Give the next errand; None if there is none, or none before somebody else is back."""
        tasks = self._tasks()
        while not tasks and not self._out and self._hard_links.go_on():
            tasks = self._tasks()
        if not tasks and not self._out:
            tasks = self._last.tasks()
        if not tasks:
            return None
        self._number += 1
        self._out.add(self._number)
        return WorkItem(self._number, tasks)

    def _tasks(self) -> list[Task]:
        tasks = self._part() or self._next_visits() or self._part()
        if not tasks and self._late:
            path = self._late.pop()
            tasks = [SyncFolder(path, b"", "", self._hard_links.links_of(path), whole=True)]
        if not tasks and self._later and not self._out:
            self._changes = map(ChangedFolder._make, self._later)
            self._later, self._second = CompressedList(), True
            tasks = self._next_visits() or self._part()
        return tasks or self._hard_links.tasks()

    def _part(self) -> list[Task]:
        task = self._division.next()
        if task is None:
            return []
        self._division.sent(self._number + 1, task)
        return [task]

    def heard(self, batch: BatchResult) -> None:
        """Take in what was committed, and what there is to do because of it."""
        self._division.heard(batch.followups.divided, batch.parts)
        for postponed in batch.followups.postponed:
            if postponed.part is not None:
                self._division.postpone(postponed.part)
        self._hard_links.heard(batch.followups)
        self.ended(batch.ended)
        if batch.tally.failed_by:
            failures = [event for event in batch.events if isinstance(event, FileFailed)]
            self._failed.update(event.path for event in failures if event.kind is Kind.FOLDER)
            self._last.failed(event.path for event in failures)
        self._last.heard(batch.followups)
        for path, fingerprint in batch.followups.now_huge:
            self._division.ask(path, fingerprint)
        self._unseen(batch.followups.unscanned)

    def ended(self, numbers: Iterable[int]) -> None:
        """Note errands that are done with, or lost."""
        self._out.difference_update(numbers)
        self._division.ended(numbers)

    def _unseen(self, folders: Iterable[bytes]) -> None:
        """Have folders visited that came since the look; those it knew are left out."""
        for path in folders:
            if not self._met:
                # Rarely asked for, so that it is not kept at hand.
                self._met = {change.path for change in self._found.changes()}
                self._met.update(each.path for each in self._found.unlisted)
            if path not in self._met and not is_reserved(path) and self._index.summary(path) is None:
                self._met.add(path)
                self._late.append(path)

    def _next_visits(self) -> list[Task]:
        with self._index.read_transaction():
            visits = self._visits()
        committed, anew = self._exchange.settle()
        for batch in committed:
            self.heard(batch)
        self._late += anew
        return visits

    def _visits(self) -> list[Task]:
        visits: list[Task] = []
        entries = size = 0
        for change in self._changes:
            if self._exchange.is_seen_to(change.path) or (change.left and self._exchanged(change)):
                continue
            if change.missing and self._is_gone(change.path):
                continue
            if change.missing and not self._make(change.path) and not self._second:
                self._later.append(tuple(change))
                continue
            if self._second and change.path in self._failed:
                continue  # told already, by who was to make it
            if change.huge:
                self._division.ask(change.path, change.fingerprint, missing=change.missing or change.new_mirror)
                continue
            visits.append(self._visit(change))
            entries += change.entries
            size += change.size
            if entries >= _MOST_ENTRIES or size >= _MOST_BYTES or len(visits) >= _MOST_FOLDERS:
                break
        return visits

    def _visit(self, change: ChangedFolder) -> SyncFolder:
        path, known = change.path, self._known
        links = self._hard_links.links_of(path)
        rows, noted = known.rows(path), known.noted(path)
        return SyncFolder(
            path,
            change.fingerprint,
            rows,
            links,
            noted=noted,
            empty_fingerprint=change.empty_fingerprint,
            missing=change.missing or change.new_mirror,
            mark=change.mark,
        )

    def _exchanged(self, change: ChangedFolder) -> bool:
        """See that a mirror folder which is not as it was left may be used; True if it is set aside, or failed."""
        if change.left == FolderMatch.MISSING:
            # It is made anew, as the folder that is recorded. If we are killed meanwhile, it is not that one.
            self._exchange.forget(change.path, self._index.summary(change.path))
            return False
        return self._exchange.see_to(change.path, FolderMatch(change.left))

    def _is_gone(self, path: bytes) -> bool:
        # The folder above it may be finished: what is made there in vain would move its time, and stay.
        parent, _, name = path.rpartition(b"/")
        try:
            os.stat(name, dir_fd=self._sources.goto(parent), follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def _make(self, path: bytes) -> bool:
        parent, _, name = path.rpartition(b"/")
        try:
            make_folder(name, self._mirrors.goto(parent))
        except OSError:
            return False
        return True
