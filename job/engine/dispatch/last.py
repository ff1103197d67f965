"""Last: folders that wait until all other work of a cycle is committed, the least deep ones first.

Those are folders that let in more users than before, and folders from which something was set aside meanwhile, of which
the index is to remember how they look now.
"""

from collections.abc import Iterable

from job.core.compressed_list import Packed
from job.engine.dispatch.hardlinks import HardLinks
from job.engine.messages import Clearance, Close, Onward, Task, Visit
from job.engine.recall import Recall

_MOST_FAILED = 10_000
_MOST_AT_ONCE = 64
"""Folders in one errand."""


class Last:
    """What is left to be done in the end, for the process that sends others out."""

    def __init__(self, known: Recall, hard_links: HardLinks, unlisted: Iterable[bytes]) -> None:
        """`unlisted` are folders of the source that cannot be read: what is below them is not known."""
        self._known = known
        self._hard_links = hard_links
        self._failed: set[bytes] = set(unlisted)
        self._closed: dict[int, Packed[tuple[bytes, bytes]]] = {}
        """Folders and their fingerprints by depth: one has its turn after all that it lies in."""
        self._huge: dict[bytes, Close] = {}
        self._opened: set[bytes] = set()
        """Without those that lie in others."""
        self._moved: Packed[tuple[bytes]] = Packed()

    def failed(self, paths: Iterable[bytes]) -> None:
        """Note what could not be brought up to date."""
        for path in paths:
            # Of very many failures it is enough to know the folders.
            self._failed.add(path if len(self._failed) < _MOST_FAILED else path.rpartition(b"/")[0])

    def heard(self, onward: Onward) -> None:
        """Take in which folders wait, and what became of those that waited."""
        for path, fingerprint, close in onward.closed:
            depth = path.count(b"/") + bool(path)
            self._closed.setdefault(depth, Packed()).append((path, fingerprint))
            if close is not None:
                self._huge[path] = close
        self._opened.update([path for path in onward.opened if not self._is_cleared(path)])
        self._moved.extend((path,) for path in onward.moved)

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
        summary = self._known.memory.summary(path)
        # Of a huge folder the next cycle finds that it moved; to go through it now would cost much more.
        if path in self._opened or summary is None or summary.parts > 1:
            return []
        return [self._visit(path, summary.fingerprint)]

    def _opening(self, path: bytes, fingerprint: bytes) -> Task:
        inside = path + b"/" if path else b""
        failed = tuple(sorted(each for each in self._failed if each == path or each.startswith(inside)))
        clearance = Clearance(self._is_cleared(path), failed)
        if (close := self._huge.pop(path, None)) is not None:
            return close._replace(opening=clearance)
        return self._visit(path, fingerprint)._replace(opening=clearance)

    def _visit(self, path: bytes, fingerprint: bytes) -> Visit:
        rows, noted, links = self._known.rows(path), self._known.noted(path), self._hard_links.links_of(path)
        return Visit(path, fingerprint, rows, links, again=True, noted=noted)

    def _is_cleared(self, path: bytes) -> bool:
        """Tell whether a folder lies in one that was opened."""
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._opened:
                return True
        return False
