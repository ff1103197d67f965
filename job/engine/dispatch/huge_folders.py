"""Huge folders: split into parts, synced part by part, and finished when all parts are committed.

The names of one folder at a time are held, compressed. It can be unchanged in the next cycle only if no part failed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from job.core.compressed_list import CompressedList
from job.engine.dispatch.hardlink_dispatch import HardLinks
from job.engine.messages import FinishFolder, IndexLookup, PartDone, SplitFolder, SplitResult, SyncPart, Task
from job.fs.large_dir import NO_ROWS, PackedNames, add_sums


@dataclass(slots=True)
class _HugeFolder:
    split: SplitFolder
    fingerprint: bytes
    parts: int
    waiting: list[PackedNames]
    left: set[int]
    """Numbers of the parts that are not committed."""
    postponed: dict[int, SyncPart]
    """Parts that wait until all hard links are known, by number."""
    total: PartDone


class HugeFolders:
    """The huge folders of one pair in this cycle."""

    def __init__(self, known: IndexLookup, hard_links: HardLinks) -> None:
        self._lookup = known
        self._hard_links = hard_links
        self._waiting: CompressedList[tuple[bytes, bytes, bool]] = CompressedList()
        self._splitting: SplitFolder | None = None
        self._open: dict[bytes, _HugeFolder] = {}
        self._assigned: dict[int, Task] = {}

    def add(self, path: bytes, fingerprint: bytes, *, missing: bool = False) -> None:
        """Add a folder to sync; `fingerprint` is that of the scan, empty if it was not scanned.

        `missing` says whether the scan found that the mirror lacks the folder.
        """
        self._waiting.append((path, fingerprint, missing))

    def next_task(self) -> Task | None:
        """Return the next task; None if all of them wait for assigned tasks."""
        for folder in self._open.values():
            if folder.waiting:
                return self._part(folder)
            if folder.postponed and self._hard_links.finishing:
                return self._postponed(folder)
            if not folder.left:
                del self._open[folder.split.path]
                split = folder.split
                return FinishFolder(split.path, folder.fingerprint, folder.parts, folder.total, split.missing)
        if self._splitting is None and self._waiting:
            path, fingerprint, missing = self._waiting.pop()
            known = self._lookup.index.summary(path)
            self._splitting = SplitFolder(path, fingerprint, known.parts if known else 0, missing)
            return self._splitting
        return None

    def _part(self, folder: _HugeFolder) -> SyncPart:
        # In descending order: if there are more parts than before, an old row serves several new parts, and its own
        # number overwrites it last. A killed run may have left rows of more parts, too.
        names = folder.waiting.pop()
        number, path, known = len(folder.waiting), folder.split.path, folder.split.parts
        rows = self._lookup.rows(path, number)
        borrowed = not rows and number >= known > 0
        source = number % known if borrowed else number
        if borrowed:
            rows = self._lookup.rows(path, source)
        unscanned = not folder.split.fingerprint
        noted, links = self._lookup.noted(path, source), self._hard_links.links_of(path, number)
        return SyncPart(path, number, names, rows, borrowed, unscanned, links, noted)

    def _postponed(self, folder: _HugeFolder) -> SyncPart:
        number, part = folder.postponed.popitem()
        if not part.borrowed:
            part = part._replace(rows=self._lookup.rows(part.path, number), noted=self._lookup.noted(part.path, number))
        return part._replace(links=self._hard_links.links_of(part.path, number))

    def postpone(self, part: SyncPart) -> None:
        """Sync a part, of which nothing was done, again once all hard links are known."""
        folder = self._open.get(part.path)
        if folder is not None and part.number in folder.left:
            folder.postponed[part.number] = part

    def record_assigned(self, item: int, task: Task) -> None:
        """Record the work item that contains a task."""
        if isinstance(task, SyncPart):
            task = task._replace(names=(), rows="", links=None, noted="")  # which take memory
        self._assigned[item] = task

    def record_result(self, divided: Iterable[SplitResult], parts: Iterable[PartDone]) -> None:
        """Record split folders and committed parts."""
        for path, fingerprint, names in divided:
            split = self._splitting
            if split is not None and split.path == path:
                total = PartDone(path, 0, True, 0, 0, False, 0, NO_ROWS)
                self._open[path] = _HugeFolder(split, fingerprint, len(names), names, set(range(len(names))), {}, total)
                self._splitting = None
        for part in parts:
            folder = self._open.get(part.path)
            if folder is not None and part.number in folder.left:
                folder.left.remove(part.number)
                folder.total = _sum_of_parts(folder.total, part)

    def record_done(self, items: Iterable[int]) -> None:
        """Record finished or lost items; a part without a result by then has failed."""
        for item in items:
            task = self._assigned.pop(item, None)
            if task is not None and task is self._splitting:
                self._splitting = None
            elif isinstance(task, SyncPart) and (folder := self._open.get(task.path)):
                number = task.number
                if number in folder.left and number not in folder.postponed:
                    folder.left.remove(number)
                    folder.total = folder.total._replace(complete=False)


def _sum_of_parts(one: PartDone, other: PartDone) -> PartDone:
    return PartDone(
        one.path,
        0,
        one.complete and other.complete,
        one.entries + other.entries,
        one.specials + other.specials,
        one.recheck or other.recheck,
        one.held + other.held,
        add_sums(one.sums, other.sums),
        one.bytes + other.bytes,
    )
