"""Division: the huge folders that are being brought up to date in parts, and what is to be done about them next.

Names are held of one folder at a time only, and packed. A folder is remembered when all its parts are committed, and as
known good only if each of them was as it should be.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from job.core.compressed_list import CompressedList
from job.engine.dispatch.hardlinks import HardLinks
from job.engine.messages import FinishFolder, IndexLookup, PartDone, SplitFolder, SplitResult, SyncPart, Task
from job.fs.large_dir import NOTHING, Names, added


@dataclass(slots=True)
class _Folder:
    split: SplitFolder
    fingerprint: bytes
    parts: int
    waiting: list[Names]
    left: set[int]
    """Parts that are not committed."""
    postponed: dict[int, SyncPart]
    """Parts that wait until all hard links are known."""
    total: PartDone


class HugeFolders:
    """Huge folders under way."""

    def __init__(self, known: IndexLookup, hard_links: HardLinks) -> None:
        self._known = known
        self._hard_links = hard_links
        self._asked: CompressedList[tuple[bytes, bytes, bool]] = CompressedList()
        self._splitting: SplitFolder | None = None
        self._open: dict[bytes, _Folder] = {}
        self._out: dict[int, Task] = {}

    def ask(self, path: bytes, fingerprint: bytes, *, missing: bool = False) -> None:
        """Have a folder brought up to date; `fingerprint` is what the look saw, empty if nobody looked at it.

        `missing` is whether the look found that the mirror has no such folder.
        """
        self._asked.append((path, fingerprint, missing))

    def next(self) -> Task | None:
        """Tell what to do next; None if nothing can be done before somebody is back."""
        for folder in self._open.values():
            if folder.waiting:
                return self._part(folder)
            if folder.postponed and self._hard_links.ending:
                return self._postponed(folder)
            if not folder.left:
                del self._open[folder.split.path]
                split = folder.split
                return FinishFolder(split.path, folder.fingerprint, folder.parts, folder.total, split.missing)
        if self._splitting is None and self._asked:
            path, fingerprint, missing = self._asked.pop()
            known = self._known.index.summary(path)
            self._splitting = SplitFolder(path, fingerprint, known.parts if known else 0, missing)
            return self._splitting
        return None

    def _part(self, folder: _Folder) -> SyncPart:
        # The last one first: where there are more parts than before, a row of then is read for several parts before it
        # is written over. A killed run may have left rows of more parts, too.
        names = folder.waiting.pop()
        number, path, known = len(folder.waiting), folder.split.path, folder.split.parts
        rows = self._known.rows(path, number)
        borrowed = not rows and number >= known > 0
        source = number % known if borrowed else number
        if borrowed:
            rows = self._known.rows(path, source)
        unscanned = not folder.split.fingerprint
        noted, links = self._known.noted(path, source), self._hard_links.links_of(path, number)
        return SyncPart(path, number, names, rows, borrowed, unscanned, links, noted)

    def _postponed(self, folder: _Folder) -> SyncPart:
        number, part = folder.postponed.popitem()
        if not part.borrowed:
            part = part._replace(rows=self._known.rows(part.path, number), noted=self._known.noted(part.path, number))
        return part._replace(links=self._hard_links.links_of(part.path, number))

    def postpone(self, part: SyncPart) -> None:
        """Have a part, which nothing was done about, seen to again when all hard links are known."""
        folder = self._open.get(part.path)
        if folder is not None and part.number in folder.left:
            folder.postponed[part.number] = part

    def sent(self, item: int, task: Task) -> None:
        """Note who sees to a task that came from here."""
        self._out[item] = task._replace(names=(), rows="", links=None, noted="") if isinstance(task, SyncPart) else task

    def heard(self, divided: Iterable[SplitResult], parts: Iterable[PartDone]) -> None:
        """Take in what was divided, and parts that are committed."""
        for path, fingerprint, names in divided:
            split = self._splitting
            if split is not None and split.path == path:
                total = PartDone(path, 0, True, 0, 0, False, 0, NOTHING)
                self._open[path] = _Folder(split, fingerprint, len(names), names, set(range(len(names))), {}, total)
                self._splitting = None
        for part in parts:
            folder = self._open.get(part.path)
            if folder is not None and part.number in folder.left:
                folder.left.remove(part.number)
                folder.total = _together(folder.total, part)

    def ended(self, items: Iterable[int]) -> None:
        """Note errands that are done with, or lost; a part that was not heard of by now failed."""
        for item in items:
            task = self._out.pop(item, None)
            if task is not None and task is self._splitting:
                self._splitting = None
            elif isinstance(task, SyncPart) and (folder := self._open.get(task.path)):
                self._missed(folder, task.number)

    @staticmethod
    def _missed(folder: _Folder, number: int) -> None:
        if number in folder.left and number not in folder.postponed:
            folder.left.remove(number)
            folder.total = folder.total._replace(complete=False)


def _together(one: PartDone, other: PartDone) -> PartDone:
    return PartDone(
        one.path,
        0,
        one.complete and other.complete,
        one.entries + other.entries,
        one.specials + other.specials,
        one.recheck or other.recheck,
        one.held + other.held,
        added(one.sums, other.sums),
        one.bytes + other.bytes,
    )
