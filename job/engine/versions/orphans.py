"""Find the entries of a mirror folder that its source does not have: orphans.

Deletions are not mirrored (invariant 4), so they stay; the index has since when each is missing. Excluded entries are
none: who excludes what was copied keeps the copy, and an edit of a pattern must not move anything.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from job.core.entry import Entry
from job.core.file_systems import NameRules
from job.core.record import Record
from job.core.versions import OrphanRow
from job.fs.listing import Listing
from job.fs.scanners import SourceScanner
from job.store.version_rows import encode_orphans


def left_behind(
    entries: Iterable[Entry], listing: Listing, names: Collection[bytes], rules: NameRules | None, source: SourceScanner
) -> list[Entry]:
    """Return those entries of a mirror folder that left its source.

    `names` are all names of the source's folder in scope. What could not be examined there, what is left out, and what
    has the name of an entry for the mirror's file system, is no orphan.
    """
    others = [entry for entry in entries if entry[0] not in names]
    if not others or any(each.path == listing.path for each in listing.left_out):
        return []
    known = {name for name, _ in listing.unreadable} | {each.path.rpartition(b"/")[2] for each in listing.left_out}
    if rules is not None:
        taken = {rules.key(name) for name in (*names, *known)}
        others = [entry for entry in others if rules.key(entry.name) not in taken]
    return source.would_include(listing.path, [entry for entry in others if entry.name not in known])


class OrphanFinder:
    """Makes the rows of orphans for folders that are finished."""

    def __init__(self, source: SourceScanner, now_ns: Callable[[], int]) -> None:
        self._source, self._now_ns = source, now_ns

    def rows(
        self, entries: list[Entry], listing: Listing, records: Mapping[bytes, Record], rules: NameRules | None
    ) -> str:
        """Return the rows of those entries of a mirror folder that left its source; empty for none.

        `entries` are those that were not synced; `records` are those before the sync.
        """
        if not entries:
            return ""
        left = left_behind(entries, listing, {entry[0] for entry in listing.entries}, rules, self._source)
        if not left:
            return ""
        now_ns = self._now_ns()
        return encode_orphans([_row(entry, records.get(entry.name), now_ns) for entry in left])


def _row(entry: Entry, record: Record | None, now_ns: int) -> OrphanRow:
    name, inode, mode, _, _, size, mtime_ns, _ = entry
    row = OrphanRow(name, mode, size, now_ns, 0, inode=inode, mtime_ns=max(0, mtime_ns))
    if record is None or (record.mirror.inode, record.mirror.size, record.mirror.mtime_ns) != (inode, size, mtime_ns):
        return row
    return row._replace(checksum=record.checksum, stands_since_ns=record.stands_since_ns)
