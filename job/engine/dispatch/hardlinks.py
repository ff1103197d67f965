"""Hard links: files with several names wait until every name is known, then they are seen to one by one, with all.

A visit that meets a name whose file has others, and that something may have to be done about, leaves its folder for
later. When all other folders are done, the names are put together by file, that is by device and inode: those that were
met, and those in folders that did not change. The index has hints where these may be. Each hint is looked at in the
source before it counts: rows may be stale, inode numbers are used again, and devices get other numbers. Then each file
is copied or compared once, under one of its names, and the others are linked to that. Last of all the folders are
visited, when nothing moves what is to be remembered of them.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import IntEnum

from job.core.compressed_list import CompressedList
from job.core.entry import FileId, is_reserved, join
from job.core.record import LinkName, Record
from job.engine.messages import Followups, HardLinkGroup, IndexLookup, Links, SyncFolder, SyncHardLinks, Task
from job.fs.dircursor import DirCursor, single
from job.fs.listing import file_at
from job.fs.trees import SourceScanner
from job.store.codec import decode_records
from job.store.hardlinks import HardLinkTable

_MOST_NAMES = 256
_MOST_BYTES = 32 << 20
_MOST_READ = 8
"""Folders whose records are held at once while names are looked up."""


class _Stage(IntEnum):
    MEETING = 0
    LINKING = 1
    ENDING = 2


class LinkResolver:
    """Looks up what names stand for on both sides. Use it with `contextlib.closing`."""

    def __init__(self, source: SourceScanner, roots: tuple[int, int]) -> None:
        """`roots` are the open ones of source and mirror."""
        self._source = source
        self._sources, self._mirrors = map(DirCursor, roots)
        self._reached: dict[bytes, bool] = {}

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    def forget(self) -> None:
        """Look at all folders anew from now on."""
        self._reached.clear()

    def source_file(self, path: bytes, name: bytes) -> FileId | None:
        """Tell which file a name in a folder stands for; None if a walk of the source would not meet that name now."""
        try:
            if is_reserved(join(path, single(name))) or not self._reaches(path):
                return None
            if not self._source.part(path, [name]).entries:
                return None
            return file_at(name, self._sources.goto(path))
        except (OSError, ValueError):  # an index may hold what is no name
            return None

    def mirror_file(self, path: bytes, name: bytes) -> FileId | None:
        """Tell what the mirror has under a name; None if there is no such name. Raises `OSError` without its folder."""
        return file_at(name, self._mirrors.goto(path))

    def _reaches(self, path: bytes) -> bool:
        """Tell whether a folder and all above it are there and in scope. Raises as `source_file` may."""
        above = b""
        for name in path.split(b"/") if path else ():
            here = join(above, single(name))
            if here not in self._reached:
                self._reached[here] = name in self._source.part(above, [name]).folders
            if not self._reached[here]:
                return False
            above = here
        return True


class HardLinks:
    """What there is to do about files with several names, for the process that sends others out."""

    def __init__(
        self, table: HardLinkTable, known: IndexLookup, options_key: Callable[[bytes], str], resolver: LinkResolver
    ) -> None:
        """`options_key` gives that of the file system that holds the mirror of a path."""
        self._table = table
        self._known = known
        self._resolver = resolver
        self._index = known.index
        self._policy = options_key
        self._stage = _Stage.MEETING
        self._folders: CompressedList[tuple[bytes, bytes, bool, bool]] = CompressedList()
        self._groups: Iterator[HardLinkGroup] = iter(())
        self._met = False
        self._read: dict[tuple[bytes, int], dict[bytes, Record]] = {}

    @property
    def ending(self) -> bool:
        """Whether all that was to be linked is, so that folders that were postponed can be ended."""
        return self._stage is _Stage.ENDING

    def heard(self, followups: Followups) -> None:
        """Take in what somebody met, and what became of it."""
        for path, fingerprint, part, link_names, missing in followups.postponed:
            self._met = True
            self._table.add(link_names)
            if part is None:
                self._folders.append((path, fingerprint, False, missing))
        if followups.linked:
            self._table.settle(followups.linked)

    def links_of(self, path: bytes, part: int = 0) -> Links | None:
        """Give what became of the names in a folder; None as long as names may still be met."""
        return None if self._stage is _Stage.MEETING else self._table.of_folder(path, part)

    def go_on(self) -> bool:
        """Begin with what comes next, nobody being out any more; False if there is no more."""
        if not self._met or self.ending:
            return False
        self._stage = _Stage(self._stage + 1)
        if self._stage is _Stage.LINKING:
            for file in self._table.files():
                self._complete(file)
            self._read.clear()
            self._resolver.forget()
            self._groups = map(self._group, self._table.files())
        return True

    def tasks(self) -> list[Task]:
        """Give some of what is to be done now; nothing if there is no more of it."""
        if self._stage is _Stage.LINKING:
            return self._link_ups()
        if self.ending and self._folders:
            path, fingerprint, again, missing = self._folders.pop()
            rows, noted = self._known.rows(path), self._known.noted(path)
            return [SyncFolder(path, fingerprint, rows, self.links_of(path), again, noted=noted, missing=missing)]
        return []

    def _link_ups(self) -> list[Task]:
        groups: list[HardLinkGroup] = []
        names = size = 0
        for group in self._groups:
            groups.append(group)
            names += len(group.link_names)
            size += group.link_names[0].size
            if names >= _MOST_NAMES or size >= _MOST_BYTES:
                break
        return [SyncHardLinks(groups[0].link_names[0].path, groups)] if groups else []

    def _complete(self, file: FileId) -> None:
        """Add the names that nobody met, because nothing changed where they are."""
        met = self._table.of_file(file)
        if len(met) >= max(each.names for each in met) > 0:
            return
        # What a name stood for before may have others, of which the source did not tell that they lost one: an overlay
        # gives what is written to a file of its own, and leaves the others alone. The mirror has them linked still.
        shared = {each.mirror for each in met if each.mirror is not None}
        for inode in {file.inode, *(each.record.source.inode for each in met if each.record is not None)}:
            for path, part, name in self._index.linked(inode):
                now = None if self._table.has_name(path, name) else self._resolver.source_file(path, name)
                if now is None:
                    continue
                with suppress(OSError):  # the next look finds that the mirror lacks the folder
                    held = self._resolver.mirror_file(path, name)
                    if now == file or held in shared:
                        self._meet(now, held, path, part, name)

    def _meet(self, file: FileId, mirror: FileId | None, path: bytes, part: int, name: bytes) -> None:
        new = not self._table.has_folder(path)
        record = self._records(path, part).get(name)
        size = record.source.size if record else 0
        self._table.add([LinkName(file, path, part, name, size, mirror, record, counted=True)])
        summary = self._index.summary(path)
        # Of a huge folder the next audit finds that its entries moved; to go through it now would cost much more.
        if new and summary is not None and summary.parts == 1:
            self._folders.append((path, summary.fingerprint, True, False))

    def _records(self, path: bytes, part: int) -> dict[bytes, Record]:
        # Names of one folder are asked for one by one, each for its own file: its rows are read once for many of them.
        if (path, part) not in self._read:
            if len(self._read) >= _MOST_READ:
                del self._read[next(iter(self._read))]
            self._read[path, part] = decode_records(self._index.rows(path, part), self._policy(path))
        return self._read[path, part]

    def _group(self, file: FileId) -> HardLinkGroup:
        link_names = self._table.of_file(file)
        mirrors = {each.mirror for each in link_names if each.mirror is not None}
        return HardLinkGroup(link_names, frozenset(each for each in mirrors if self._table.owner_of(each) != file))
