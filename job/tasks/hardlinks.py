"""Hard links: files with several names wait until every name is known, then they are seen to one by one, with all.

A visit that meets a name whose file has others, and that something may have to be done about, leaves its folder for
later. When all other folders are done, the names are put together by file: those that were met, and those in folders
that did not change, which the index knows. Then each file is copied or compared once, under one of its names, and the
others are linked to that. Last of all the folders are visited, when nothing moves what is to be remembered of them.
"""

from collections.abc import Iterator
from enum import IntEnum

from job.core.packed import Packed
from job.core.record import Member, Record
from job.core.rows import decoded
from job.tasks.bench import Book
from job.tasks.errand import Group, Links, LinkUp, Onward, Task, Visit
from job.tasks.recall import Recall

_MOST_NAMES = 256
_MOST_BYTES = 32 << 20
_MOST_READ = 8
"""Folders whose records are held at once while names are looked up."""


class _Stage(IntEnum):
    MEETING = 0
    LINKING = 1
    ENDING = 2


class HardLinks:
    """What there is to do about files with several names, for the process that sends others out."""

    def __init__(self, book: Book, known: Recall, policy: str) -> None:
        self._book = book
        self._known = known
        self._memory = known.memory
        self._policy = policy
        self._stage = _Stage.MEETING
        self._folders: Packed[tuple[bytes, bytes, bool]] = Packed()
        self._groups: Iterator[Group] = iter(())
        self._met = False
        self._read: dict[tuple[bytes, int], dict[bytes, Record]] = {}

    @property
    def ending(self) -> bool:
        """Whether all that was to be linked is, so that folders that were postponed can be ended."""
        return self._stage is _Stage.ENDING

    def heard(self, onward: Onward) -> None:
        """Take in what somebody met, and what became of it."""
        for path, fingerprint, part, members in onward.postponed:
            self._met = True
            self._book.add(members)
            if part is None:
                self._folders.append((path, fingerprint, False))
        if onward.linked:
            self._book.settle(onward.linked)

    def links_of(self, path: bytes, part: int = 0) -> Links | None:
        """Give what became of the names in a folder; None as long as names may still be met."""
        return None if self._stage is _Stage.MEETING else self._book.of_folder(path, part)

    def go_on(self) -> bool:
        """Begin with what comes next, nobody being out any more; False if there is no more."""
        if not self._met or self.ending:
            return False
        self._stage = _Stage(self._stage + 1)
        if self._stage is _Stage.LINKING:
            for inode in self._book.inodes():
                self._look_up(inode)
                # What a name stood for before may have others, of which the source did not tell that they lost one:
                # an overlay gives who is written to a file of their own, and leaves the others alone.
                before = {each.record.source.inode for each in self._book.of_file(inode) if each.record is not None}
                for other in before - {inode}:
                    self._look_up(other, known=True)
            self._read.clear()
            self._groups = map(self._group, self._book.inodes())
        return True

    def tasks(self) -> list[Task]:
        """Give some of what is to be done now; nothing if there is no more of it."""
        if self._stage is _Stage.LINKING:
            return self._link_ups()
        if self.ending and self._folders:
            path, fingerprint, again = self._folders.pop()
            rows, noted = self._known.rows(path), self._known.noted(path)
            return [Visit(path, fingerprint, rows, self.links_of(path), again, noted=noted)]
        return []

    def _link_ups(self) -> list[Task]:
        groups: list[Group] = []
        names = size = 0
        for group in self._groups:
            groups.append(group)
            names += len(group.members)
            size += group.members[0].size
            if names >= _MOST_NAMES or size >= _MOST_BYTES:
                break
        return [LinkUp(groups[0].members[0].path, groups)] if groups else []

    def _look_up(self, inode: int, *, known: bool = False) -> None:
        """Add the names that nobody met, because nothing changed where they are; perhaps only if they still had it."""
        for path, part, name in self._memory.linked(inode):
            if self._book.has_name(path, name):
                continue
            new = not self._book.has_folder(path)
            record = self._records(path, part).get(name)
            if known and (record is None or record.source.inode != inode):
                continue
            size, mirror = (record.source.size, record.mirror.inode) if record else (0, None)
            self._book.add([Member(inode, path, part, name, size, mirror, record, counted=True)])
            summary = self._memory.summary(path)
            # Of a huge folder the next audit finds that its entries moved; to go through it now would cost much more.
            if new and summary is not None and summary.parts == 1:
                self._folders.append((path, summary.fingerprint, True))

    def _records(self, path: bytes, part: int) -> dict[bytes, Record]:
        # Names of one folder are asked for one by one, each for its own file: its rows are read once for many of them.
        if (path, part) not in self._read:
            if len(self._read) >= _MOST_READ:
                del self._read[next(iter(self._read))]
            self._read[path, part] = decoded(self._memory.rows(path, part), self._policy)
        return self._read[path, part]

    def _group(self, inode: int) -> Group:
        members = self._book.of_file(inode)
        mirrors = {each.mirror for each in members if each.mirror is not None}
        return Group(members, frozenset(each for each in mirrors if self._book.owner_of(each) != inode))
