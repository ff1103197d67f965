"""Finish a folder: set its own metadata, after everything in it, and make its index record."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from stat import S_IFDIR
from typing import NamedTuple, TypeAlias

from job.core.decide import Policy
from job.core.entry import TYPE_BITS, Entry, Kind
from job.core.outcome import Failure
from job.core.record import FolderDone, FolderSummary, Record, RowsDone, Stamp
from job.engine.messages import FinishFolder, PartDone
from job.engine.versions.orphans import OrphanFinder
from job.engine.volumes import Volume
from job.fs.large_dir import fingerprint_of_sums, stat_names, sum_rows
from job.fs.listing import Listing, Shared, entries_of, entry_of, list_beside, mirror_fingerprint, stamp_of
from job.fs.metadata import MetadataWriter
from job.fs.mounts import NODEV, mount_restrictions
from job.store import codec
from job.store.codec import UnsupportedMetadata, encode_records

_IS_RACY = attrgetter("racy")
_MOST_BYTES = (1 << 63) - 1
"""Largest number of SQLite: two files of holes can have more bytes together."""


class Settled(NamedTuple):
    """An entry whose mirror holds the right content."""

    source: Entry
    """The source when it was read."""
    checksum: str
    mirror: Entry
    """The mirror with its final name and metadata."""
    racy: bool
    since_ns: int = 0
    """As in `Record`."""


def since_of(record: Record | None, before: Entry, mirror: Entry, checksum: str, *, has_change_times: bool) -> int:
    """Return `since_ns` of a mirror entry that was found to have a content, and may have it for long.

    Its record tells since when, else its ctime `before` its metadata were set, or a link was made.
    """
    if record is not None and (record.mirror.inode, record.checksum) == (mirror.inode, checksum):
        since_ns = record.stands_since_ns if has_change_times else record.since_ns
    else:
        since_ns = max(0, before.ctime_ns) if has_change_times else 0
    return 0 if since_ns == mirror.ctime_ns else since_ns


@dataclass(slots=True)
class Work:
    """The state of one folder in work."""

    listing: Listing
    xattrs: dict[bytes, bytes]
    volume: Volume
    """The file system that its mirror lies on."""
    settled: dict[bytes, Settled] = field(default_factory=dict)
    kept: dict[bytes, Record] = field(default_factory=dict)
    """Records that stay as they are."""
    untouched: dict[bytes, Entry] = field(default_factory=dict)
    """Mirror entries that match the index and are not touched in this cycle."""
    complete: bool = True
    """Whether the next scan may skip the folder; not if anything in it failed or changed."""
    specials: int = 0
    options_key: str = ""
    """Key of the options, and of the mount flags of the source if they depend on these."""
    restrictions: str = ""
    """Mount flags of the source that restrict files (`fs/mounts.py`), if the options depend on them."""
    linked: Mapping[bytes, Shared] = field(default_factory=dict)
    """Names that share their file in the source with others."""
    doubtful: set[bytes] = field(default_factory=set)
    """Names whose content is compared in the next cycle, even if times are equal."""
    noted: str = ""
    """Unsupported metadata of its entries, as the index has them."""
    unsupported: dict[bytes, UnsupportedMetadata | None] = field(default_factory=dict)
    """Unsupported metadata of synced entries; None for those that have none."""
    unsupported_bytes: int = 0
    """Size of the attributes in `unsupported`."""
    reasons: dict[bytes, str] = field(default_factory=dict)
    """Reasons to copy plain files that the mirror has already."""
    again: bool = False
    """Whether its unchanged entries are counted already."""
    failure: Failure | None = None
    """Failure of its last failed entry."""
    lost: set[bytes] = field(default_factory=set)
    """Names whose file was replaced or removed after its rename."""
    rows: str = ""
    """The index rows of its entries, which are written only if they change."""
    held: bool = False
    """Whether the mirror folder keeps its metadata for now, because the new metadata admits more users."""
    mirror: os.stat_result | None = None
    """Stat of the mirror folder when it was opened; None if that was not checked."""
    before: Mapping[bytes, Record] = field(default_factory=dict)
    """The records of its entries before the sync."""
    portion: "Portion | None" = None
    """Set for one part of a huge folder."""
    is_new: bool = False
    """Whether the mirror folder was made in this cycle and had no files, so that it has only what was synced."""
    withheld: bool = False
    """Whether an entry was not replaced, as the brake holds it."""
    is_staged: bool = False
    """Whether it was staged: it is new, and has all its files but not its metadata."""

    @property
    def part(self) -> int:
        """The number of the part, 0 for a whole folder."""
        return self.portion.number if self.portion else 0

    @property
    def policy(self) -> Policy:
        """The policy for its entries."""
        policy = self.volume.policy
        return policy._replace(nodev=True) if NODEV in self.restrictions else policy

    @property
    def attribute_bytes(self) -> int:
        """Bytes of attributes that are held in memory until the folder is finished."""
        return self.unsupported_bytes + sum(map(len, self.xattrs.values())) if self.xattrs else self.unsupported_bytes


class Portion(NamedTuple):
    """One part of a huge folder."""

    number: int
    present: dict[bytes, Entry]
    """The mirror's entries before the part was begun."""


Finished: TypeAlias = tuple[FolderDone | PartDone, RowsDone | None]
"""The records of a folder, or of a part of one, and its rows if they changed."""


def work_for(listing: Listing, xattrs: dict[bytes, bytes], volume: Volume, options_key: str, source: int) -> Work:
    """Return the state for a listed folder of the source, which is open; `options_key` is that of the pair."""
    if not options_key:
        return Work(listing, xattrs, volume, options_key=volume.options_key)
    restrictions = mount_restrictions(source)
    return Work(listing, xattrs, volume, options_key=f"{volume.options_key}/{restrictions}", restrictions=restrictions)


def as_recorded(
    folders: Iterable[bytes], records: Mapping[bytes, Record], seen: os.stat_result, known_mirror: bytes
) -> dict[bytes, Entry] | None:
    """Return the entries of a mirror folder by name if it is as recorded: these subfolders and records; else None.

    It is if they have the recorded fingerprint, and its stat `seen` the recorded stamp; `known_mirror` has both. As in
    every folder that did not change, files that were changed in place are found by the next audit.
    """
    entries = {name: Entry(name, 0, S_IFDIR, 0, 0, 0, 0, 0) for name in folders}
    entries |= {name: record.mirror for name, record in records.items()}
    found = stamp_of(seen) + mirror_fingerprint(sorted(entries.values()))
    return entries if found == known_mirror else None


def _present(work: Work, folder: int) -> list[Entry]:
    """Return the entries of an open mirror folder after its sync, sorted; it is listed unless they are known."""
    settled = {name: settled.mirror for name, settled in work.settled.items()}
    if (work.is_new or work.is_staged) and work.complete and not work.lost:
        folders = {entry.name: entry for entry in work.listing.entries if entry[2] == S_IFDIR}
        if len(settled) + len(folders) == len(work.listing.entries):
            return sorted((settled | folders).values())
    return list_beside(folder, work.untouched | settled)


def finish(work: Work, folder: int, orphans: OrphanFinder) -> tuple[FolderDone, RowsDone | None, bool]:
    """Set the metadata of an open mirror folder and list it; True if the folder itself was changed.

    Raises `OSError`.
    """
    listing, denied = work.listing, work.volume.metadata_writer.denied
    # Before the listing: later changes by another program move the stamp.
    stamp, is_changed = _set_metadata(work, folder)
    if work.volume.metadata_writer.denied != denied:
        work.complete = False  # the next cycle tries to set the mode again
    present = _present(work, folder)
    named = {entry.name: entry for entry in present}
    if work.volume.name_rules is None and (hidden := (work.settled.keys() | work.untouched.keys()) - named.keys()):
        # A server may list a new name late.
        seen = entries_of(stat_names(folder, hidden, []))
        present = sorted([*present, *seen])
        named |= {entry.name: entry for entry in seen}
    if work.volume.name_rules is not None:
        named = work.volume.name_rules.matched([entry.name for entry in listing.entries], named)
    if [name for name in listing.folders if name in named and named[name][2] != S_IFDIR]:
        work.complete = False  # another program has put something in the place of a subfolder
    records = _records(work, named)
    summary = FolderSummary(
        fingerprint=listing.fingerprint if work.complete else b"",
        stamp=stamp,
        mirror_fingerprint=mirror_fingerprint(present),
        entries=_count(listing),
        specials=work.specials,
        recheck=any(map(_IS_RACY, records.values())),
    )
    changed = _rows(work, 0, records)
    left = "" if work.is_new or work.is_staged else _orphans(work, named, orphans)
    return FolderDone(listing.path, summary, _bytes_of(records), left), changed, is_changed


def _orphans(work: Work, named: Mapping[bytes, Entry], orphans: OrphanFinder) -> str:
    settled, untouched = work.settled, work.untouched
    others = [entry for name, entry in named.items() if name not in settled and name not in untouched]
    return orphans.rows(others, work.listing, work.before, work.volume.name_rules)


def _set_metadata(work: Work, folder: int) -> tuple[Stamp, bool]:
    """Set the metadata of an open mirror folder, unless it is held; return its stamp, and whether that changed."""
    writer, wanted = work.volume.metadata_writer, work.listing.folder
    if work.is_staged and not work.held:
        writer.set_initial(folder, wanted, work.xattrs, work.mirror)
        now = os.fstat(folder)
        if writer.suits(now, wanted):
            return stamp_of(now), True
    before = stamp_of(os.fstat(folder))
    if not work.held:
        writer.apply(folder, wanted, work.xattrs)
    stamp = stamp_of(os.fstat(folder))
    return stamp, stamp != before or work.is_staged


def set_times(work: Work, folder: int) -> bool:
    """Set the times of an open mirror folder, and nothing else; True if that was possible."""
    wanted = work.listing.folder
    with suppress(OSError):  # the next cycle syncs it
        os.utime(folder, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        return True
    return False


def finish_part(work: Work, portion: Portion, folder: int, orphans: OrphanFinder) -> Finished:
    """Finish one part of a huge folder, whose mirror is open; the folder itself is finished after all parts.

    Only entries that this cycle wrote are examined again, so changes by other programs differ from the records.
    """
    listing = work.listing
    present = _present_now(work, portion.present, folder)
    records = _records(work, present)
    done = PartDone(
        path=listing.path,
        number=portion.number,
        complete=work.complete,
        entries=_count(listing),
        specials=work.specials,
        recheck=any(map(_IS_RACY, records.values())),
        held=sum(1 for entry in listing.entries if entry.name in present),
        sums=sum_rows(list(present.values())),
        bytes=_bytes_of(records),
        orphans=_orphans(work, present, orphans),
    )
    return done, _rows(work, portion.number, records)


def _rows(work: Work, part: int, records: dict[bytes, Record]) -> RowsDone | None:
    """Return the index rows of a folder's entries; None if they did not change."""
    rows = encode_records(records.values(), work.options_key)
    noted = _noted(work, records) if work.noted or work.unsupported else ""
    if rows == work.rows and noted == work.noted:
        return None
    linked = [(records[name].source.inode, name) for name in work.linked if name in records]
    return RowsDone(work.listing.path, part, rows, tuple(linked), noted)


def _noted(work: Work, records: dict[bytes, Record]) -> str:
    before = {name: each for name, each in codec.decode_unsupported(work.noted).items() if name in records}
    return codec.encode_unsupported(
        {name: each for name, each in (before | work.unsupported).items() if each is not None}
    )


def _present_now(work: Work, present: dict[bytes, Entry], folder: int) -> dict[bytes, Entry]:
    """Return the mirror's entries, with those that were written since."""
    now = dict(present)
    for entry in work.listing.entries:
        name, settled, before = entry.name, work.settled.get(entry.name), present.get(entry.name)
        if settled is None and (entry.kind is not Kind.FOLDER or (before and before.kind is Kind.FOLDER)):
            continue
        now.pop(name, None)
        with suppress(OSError):
            seen = entry_of(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
            if settled is None:
                now[name] = seen
            elif seen.inode == settled.mirror.inode:
                now[name] = settled.mirror
    return now


def finish_whole(
    close: FinishFolder, source: int, folder: int, metadata_writer: MetadataWriter
) -> tuple[FolderDone, bool]:
    """Set the metadata of the open mirror of a huge folder, after all its parts; True if it was changed.

    Raises `OSError`.
    """
    before, denied = stamp_of(os.fstat(folder)), metadata_writer.denied
    metadata_writer.apply(folder, os.fstat(source), metadata_writer.of_source(source))
    stamp, total = stamp_of(os.fstat(folder)), close.total
    summary = FolderSummary(
        fingerprint=close.fingerprint if total.complete and metadata_writer.denied == denied else b"",
        stamp=stamp,
        mirror_fingerprint=fingerprint_of_sums(total.sums),
        entries=total.entries,
        specials=total.specials,
        recheck=total.recheck,
        parts=close.parts,
    )
    return FolderDone(close.path, summary, min(_MOST_BYTES, total.bytes)), stamp != before


def _bytes_of(records: dict[bytes, Record]) -> int:
    return min(_MOST_BYTES, sum([record.source.size for record in records.values()]))


def _count(listing: Listing) -> int:
    return sum([entry.mode & TYPE_BITS != S_IFDIR for entry in listing.entries])


def _records(work: Work, present: dict[bytes, Entry]) -> dict[bytes, Record]:
    records, make = dict(work.kept), tuple.__new__
    for name, settled in work.settled.items():
        # Compare by value: a listing without inode numbers gives new entries.
        if present.get(name) == settled.mirror:
            racy = settled.racy or name in work.doubtful
            records[name] = make(Record, (settled[0], settled[2], settled[1], racy, settled[4]))
        else:
            work.lost.add(name)
    # Changes by another program must not become the state that later cycles compare with.
    if work.lost or [name for name, record in records.items() if present.get(name) != record.mirror]:
        work.complete = False
    return records
