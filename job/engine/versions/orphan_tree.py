"""Walk what is below a folder of the mirror that left the source."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from job.core.entry import Entry, Kind, join
from job.core.record import Record
from job.fs.dircursor import DirCursor, identity
from job.fs.large_dir import names_in, stat_names
from job.fs.listing import Shared, Unreadable, entries_of
from job.fs.scanners import SourceScanner
from job.store.codec import decode_records
from job.store.index import Index


class TreeExtent(NamedTuple):
    """What is below a folder."""

    files: int
    """Entries that are no folders, in scope."""
    size: int
    """Sum of their sizes."""
    excluded: int
    """Entries that are out of scope, which are not counted, nor anything below them."""
    is_mounted: bool
    """Whether a file system is mounted in it."""
    shared: list[tuple[bytes, Entry]]
    """Entries with names elsewhere in the mirror, each with the path of its folder."""


def extent_of(path: bytes, mirrors: DirCursor, source: SourceScanner) -> TreeExtent:
    """Examine a folder of the mirror. Raises `OSError`, also if an entry cannot be examined."""
    files = size = excluded = 0
    device, is_mounted = identity(mirrors.goto(path))[0], False
    linked: list[tuple[bytes, Entry, Shared]] = []
    for at, entries, shared in walk(path, mirrors):
        is_mounted |= identity(mirrors.goto(at))[0] != device
        kept = source.would_include(at, entries)
        excluded += len(entries) - len(kept)
        plain = [entry for entry in kept if entry.kind is not Kind.FOLDER]
        files, size = files + len(plain), size + sum([entry.size for entry in plain])
        linked += [(at, entry, shared[entry.name]) for entry in plain if entry.name in shared]
    here = Counter(entry.inode for _, entry, _ in linked)
    elsewhere = [(at, entry) for at, entry, shared in linked if here[entry.inode] < shared.names]
    return TreeExtent(files, size, excluded, is_mounted, elsewhere)


def records_in(index: Index, path: bytes) -> dict[bytes, Record]:
    """Return the records of all entries of a folder. Raises `OSError` for an unusable index."""
    summary = index.summary(path)
    found: dict[bytes, Record] = {}
    for part in range(summary.parts if summary else 0):
        found |= decode_records(index.rows(path, part))
    return found


def walk(path: bytes, mirrors: DirCursor) -> Iterator[tuple[bytes, list[Entry], dict[bytes, Shared]]]:
    """Yield the entries of a folder and all below it, in chunks, each with the path of its folder. Raises `OSError`.

    A folder without entries has one empty chunk.
    """
    waiting = [path]
    while waiting:
        at = waiting.pop()
        for names in chain(names_in(mirrors.goto(at)), [[]]):
            unreadable, shared = Unreadable(), dict[bytes, Shared]()
            entries = entries_of(stat_names(mirrors.goto(at), names, unreadable, shared))
            for _, error in unreadable:
                raise error
            waiting += [join(at, entry.name) for entry in entries if entry.kind is Kind.FOLDER]
            yield at, entries, shared
