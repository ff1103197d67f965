"""Hard links: files with several names wait until all names are known, then each is synced once with all its names.

A folder with a changed name of such a file is postponed. When all other folders are committed, names are grouped by
file, that is by device and inode: names that this cycle found, and names in unchanged folders, for which the index has
hints. Each hint is verified in the source, since rows may be stale and inode and device numbers are used again. Then
each file is copied or compared once, under one name, and the other names are linked to it. The postponed folders are
finished last, when their stamps no longer change.
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
from job.fs.scanners import SourceScanner
from job.store.codec import decode_records
from job.store.hardlink_table import HardLinkTable

_MOST_NAMES = 256
_MOST_BYTES = 32 << 20
_MOST_READ = 8
"""Folders whose records are cached while names are looked up."""


class _Stage(IntEnum):
    COLLECTING = 0
    LINKING = 1
    FINISHING = 2


class LinkResolver:
    """Looks up the file behind a name on both sides. Use it with `contextlib.closing`."""

    def __init__(self, source: SourceScanner, roots: tuple[int, int]) -> None:
        """`roots` are the open roots of source and mirror."""
        self._source = source
        self._sources, self._mirrors = map(DirCursor, roots)
        self._reachable: dict[bytes, bool] = {}

    def close(self) -> None:
        """Close the cursors; the roots stay open."""
        self._sources.close()
        self._mirrors.close()

    def clear_cache(self) -> None:
        """Forget which folders were reachable."""
        self._reachable.clear()

    def source_file(self, path: bytes, name: bytes) -> FileId | None:
        """Return the file under a name in the source; None if a scan would not list that name now."""
        try:
            if is_reserved(join(path, single(name))) or not self._is_reachable(path):
                return None
            if not self._source.part(path, [name]).entries:
                return None
            return file_at(name, self._sources.goto(path))
        except (OSError, ValueError):  # a damaged index may hold invalid names
            return None

    def mirror_file(self, path: bytes, name: bytes) -> FileId | None:
        """Return the mirror's file under a name; None if there is none. Raises `OSError` without its folder."""
        return file_at(name, self._mirrors.goto(path))

    def _is_reachable(self, path: bytes) -> bool:
        """Return whether a folder and all its parents exist and are in scope. Raises as `source_file` does inside."""
        above = b""
        for name in path.split(b"/") if path else ():
            here = join(above, single(name))
            if here not in self._reachable:
                self._reachable[here] = name in self._source.part(above, [name]).folders
            if not self._reachable[here]:
                return False
            above = here
        return True


class HardLinks:
    """The stages of syncing hard links, in the main process: collect names, link files, finish folders."""

    def __init__(
        self, table: HardLinkTable, lookup: IndexLookup, options_key: Callable[[bytes], str], resolver: LinkResolver
    ) -> None:
        """`options_key` gives the options key of the file system that holds a mirror path."""
        self._table = table
        self._lookup = lookup
        self._resolver = resolver
        self._index = lookup.index
        self._options_key = options_key
        self._stage = _Stage.COLLECTING
        self._folders: CompressedList[tuple[bytes, bytes, bool, bool]] = CompressedList()
        self._groups: Iterator[HardLinkGroup] = iter(())
        self._any_postponed = False
        self._records_cache: dict[tuple[bytes, int], dict[bytes, Record]] = {}

    @property
    def finishing(self) -> bool:
        """Whether all files are linked, so that postponed folders can be finished."""
        return self._stage is _Stage.FINISHING

    def record_result(self, followups: Followups) -> None:
        """Record postponed folders with their names, and the outcomes of linked names."""
        for path, fingerprint, part, link_names, missing in followups.postponed:
            self._any_postponed = True
            self._table.add(link_names)
            if part is None:
                self._folders.append((path, fingerprint, False, missing))
        if followups.linked:
            self._table.settle(followups.linked)

    def links_of(self, path: bytes, part: int = 0) -> Links | None:
        """Return the outcomes of the names in a folder; None while names are still collected."""
        return None if self._stage is _Stage.COLLECTING else self._table.of_folder(path, part)

    def advance(self) -> bool:
        """Begin the next stage, when no item is assigned; False if there is none."""
        if not self._any_postponed or self.finishing:
            return False
        self._stage = _Stage(self._stage + 1)
        if self._stage is _Stage.LINKING:
            for file in self._table.files():
                self._add_unchanged_names(file)
            self._records_cache.clear()
            self._resolver.clear_cache()
            self._groups = map(self._group, self._table.files())
        return True

    def tasks(self) -> list[Task]:
        """Return some tasks of this stage; none if it has no more."""
        if self._stage is _Stage.LINKING:
            return self._link_tasks()
        if self.finishing and self._folders:
            path, fingerprint, again, missing = self._folders.pop()
            rows, noted = self._lookup.rows(path), self._lookup.noted(path)
            return [SyncFolder(path, fingerprint, rows, self.links_of(path), again, noted=noted, missing=missing)]
        return []

    def _link_tasks(self) -> list[Task]:
        groups: list[HardLinkGroup] = []
        names = size = 0
        for group in self._groups:
            groups.append(group)
            names += len(group.link_names)
            size += group.link_names[0].size
            if names >= _MOST_NAMES or size >= _MOST_BYTES:
                break
        return [SyncHardLinks(groups[0].link_names[0].path, groups)] if groups else []

    def _add_unchanged_names(self, file: FileId) -> None:
        """Add the names of a file in unchanged folders."""
        found = self._table.of_file(file)
        if len(found) >= max(each.names for each in found) > 0:
            return
        # A write to an overlay file system gives one name a file of its own without touching the others, which the
        # mirror still has linked together: look for names of the former file, too.
        shared = {each.mirror for each in found if each.mirror is not None}
        for inode in {file.inode, *(each.record.source.inode for each in found if each.record is not None)}:
            for path, part, name in self._index.linked(inode):
                now = None if self._table.has_name(path, name) else self._resolver.source_file(path, name)
                if now is None:
                    continue
                with suppress(OSError):  # the next scan finds that the mirror lacks the folder
                    held = self._resolver.mirror_file(path, name)
                    if now == file or held in shared:
                        self._add_name(now, held, path, part, name)

    def _add_name(self, file: FileId, mirror: FileId | None, path: bytes, part: int, name: bytes) -> None:
        new = not self._table.has_folder(path)
        record = self._records(path, part).get(name)
        size = record.source.size if record else 0
        self._table.add([LinkName(file, path, part, name, size, mirror, record, counted=True)])
        summary = self._index.summary(path)
        # A huge folder is left to the next audit, which finds that its entries changed: syncing it now would cost more.
        if new and summary is not None and summary.parts == 1:
            self._folders.append((path, summary.fingerprint, True, False))

    def _records(self, path: bytes, part: int) -> dict[bytes, Record]:
        # Names of one folder are looked up one by one, each for its own file: read its rows once for many of them.
        if (path, part) not in self._records_cache:
            if len(self._records_cache) >= _MOST_READ:
                del self._records_cache[next(iter(self._records_cache))]
            self._records_cache[path, part] = decode_records(self._index.rows(path, part), self._options_key(path))
        return self._records_cache[path, part]

    def _group(self, file: FileId) -> HardLinkGroup:
        link_names = self._table.of_file(file)
        mirrors = {each.mirror for each in link_names if each.mirror is not None}
        return HardLinkGroup(link_names, frozenset(each for each in mirrors if self._table.owner_of(each) != file))
