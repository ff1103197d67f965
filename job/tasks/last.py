"""Last: folders that wait until all other work of a cycle is committed, outermost first.

Those are folders that let in more users than before, and folders from which something was set aside meanwhile, of which
the index is to remember how they look now.
"""

from collections.abc import Container, Iterable

from job.tasks.errand import Clearance, Closed, Onward, Task, Visit
from job.tasks.hardlinks import HardLinks
from job.tasks.recall import Recall

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
        self._closed: dict[bytes, Closed] = {}
        self._opened: set[bytes] = set()
        self._moved: set[bytes] = set()

    def failed(self, paths: Iterable[bytes]) -> None:
        """Note what could not be brought up to date."""
        for path in paths:
            # Of very many failures it is enough to know the folders.
            self._failed.add(path if len(self._failed) < _MOST_FAILED else path.rpartition(b"/")[0])

    def heard(self, onward: Onward) -> None:
        """Take in which folders wait, and what became of those that waited."""
        for each in onward.closed:
            self._closed[each.path] = each
        self._opened.update(onward.opened)
        self._moved.update(onward.moved)

    def tasks(self) -> list[Task]:
        """Give some of what is to be done, all other work being committed; nothing if there is no more of it."""
        if self._closed:
            # A folder below another one that waits has its turn after that: it need not be compared once more then.
            outermost = [path for path in self._closed if not self._has_above(path, self._closed)]
            return [self._opening(self._closed.pop(path)) for path in sorted(outermost)[:_MOST_AT_ONCE]]
        tasks: list[Task] = []
        for path in sorted(self._moved - self._opened)[:_MOST_AT_ONCE]:
            self._moved.discard(path)
            summary = self._known.memory.summary(path)
            if summary is not None and summary.parts == 1:
                tasks.append(self._visit(path, summary.fingerprint))
        return tasks or (self.tasks() if self._moved - self._opened else [])

    def _opening(self, closed: Closed) -> Task:
        path = closed.path
        inside = path + b"/" if path else b""
        failed = tuple(sorted(each for each in self._failed if each == path or each.startswith(inside)))
        clearance = Clearance(self._has_above(path, self._opened), failed)
        if closed.close is not None:
            return closed.close._replace(opening=clearance)
        return self._visit(path, closed.fingerprint)._replace(opening=clearance)

    def _visit(self, path: bytes, fingerprint: bytes) -> Visit:
        rows, noted, links = self._known.rows(path), self._known.noted(path), self._hard_links.links_of(path)
        return Visit(path, fingerprint, rows, links, again=True, noted=noted)

    @staticmethod
    def _has_above(path: bytes, among: Container[bytes]) -> bool:
        while path:
            path = path.rpartition(b"/")[0]
            if path in among:
                return True
        return False
