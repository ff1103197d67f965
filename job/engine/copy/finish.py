"""Finish: a folder's own metadata, last of all, and what the index is to remember of it."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from stat import S_IFDIR
from typing import NamedTuple

from job.core.decide import Policy
from job.core.entry import TYPE_BITS, Entry, Kind
from job.core.outcome import Failure
from job.core.record import FolderDone, FolderSummary, Record, RowsDone
from job.engine.context import Volume
from job.engine.messages import FinishFolder, PartDone
from job.fs.large_dir import fingerprint_of_sums, stat_names, sum_rows
from job.fs.listing import Listing, Shared, entries_of, entry_of, list_beside, mirror_fingerprint, stamp_of
from job.fs.metadata import MetadataWriter
from job.fs.mounts import NODEV, mount_restrictions
from job.store import codec
from job.store.codec import UnsupportedMetadata, encode_records

_IS_RACY = attrgetter("racy")
_MOST_BYTES = (1 << 63) - 1
"""What SQLite takes for a number: two files of holes can have more bytes together."""


class Settled(NamedTuple):
    """An entry whose mirror holds the right content."""

    source: Entry
    """As it was when it was read."""
    checksum: str
    mirror: Entry
    """As we left it, once it had its name and its metadata."""
    racy: bool


@dataclass(slots=True)
class Work:
    """One folder on its way to a row of the index."""

    listing: Listing
    xattrs: dict[bytes, bytes]
    volume: Volume
    """The file system that its mirror lies on."""
    settled: dict[bytes, Settled] = field(default_factory=dict)
    kept: dict[bytes, Record] = field(default_factory=dict)
    """Records that go on as they were."""
    untouched: dict[bytes, Entry] = field(default_factory=dict)
    """Mirror entries that were as they were left, and that nothing is done to."""
    complete: bool = True
    """Whether the folder may be passed over next time; not if anything in it failed or moved away."""
    specials: int = 0
    in_journal: bool = False
    """Whether it is noted that temps may lie in the mirror folder."""
    options_key: str = ""
    """Options under which the mirror is made, and how the source is mounted if they depend on that."""
    restrictions: str = ""
    """What that mount takes from files (`fs/mounts.py`), if the options depend on it."""
    linked: Mapping[bytes, Shared] = field(default_factory=dict)
    """Names that share their file in the source with others."""
    doubtful: set[bytes] = field(default_factory=set)
    """Names that have to be looked at again next time, whatever the times say."""
    noted: str = ""
    """What the index has of what the mirror cannot hold of its entries."""
    unsupported: dict[bytes, UnsupportedMetadata | None] = field(default_factory=dict)
    """The same, of entries that were looked at; None of those that the mirror holds whole."""
    unsupported_bytes: int = 0
    """What the attributes in `unsupported` take."""
    again: bool = False
    """Whether what needs nothing is counted already."""
    failure: Failure | None = None
    """Why the last entry of it that failed did."""
    lost: set[bytes] = field(default_factory=set)
    """Names whose mirror is not what was put there: somebody else, or the mirror itself, took it away."""
    rows: str = ""
    """What the index has of its entries: it is not written again if it stays so."""
    held: bool = False
    """Whether the mirror folder keeps its metadata for now, since it is to be opened to more users."""
    mirror: os.stat_result | None = None
    """Its mirror folder as it was entered; None where that was not looked at."""
    portion: "Portion | None" = None
    """Set where this is one part of a huge folder."""

    @property
    def policy(self) -> Policy:
        """What decides about its entries besides themselves."""
        policy = self.volume.policy
        return policy._replace(nodev=True) if NODEV in self.restrictions else policy

    @property
    def attribute_bytes(self) -> int:
        """What attributes take that are held in memory until the folder is finished."""
        return self.unsupported_bytes + sum(map(len, self.xattrs.values())) if self.xattrs else self.unsupported_bytes


class Portion(NamedTuple):
    """One part of a huge folder."""

    number: int
    present: dict[bytes, Entry]
    """The mirror's entries, as they were when the part was begun."""


def work_for(listing: Listing, xattrs: dict[bytes, bytes], volume: Volume, options_key: str, source: int) -> Work:
    """Begin the work on a listed folder of the source, which is open; `options_key` is the pair's."""
    if not options_key:
        return Work(listing, xattrs, volume, options_key=volume.options_key)
    restrictions = mount_restrictions(source)
    return Work(listing, xattrs, volume, options_key=f"{volume.options_key}/{restrictions}", restrictions=restrictions)


def finish(work: Work, folder: int) -> tuple[FolderDone, RowsDone | None, bool]:
    """Give an open mirror folder its metadata and look at what is there now; True if the folder itself was changed.

    Raises `OSError`.
    """
    listing = work.listing
    before = stamp_of(os.fstat(folder))
    if not work.held:
        work.volume.metadata_writer.apply(folder, listing.folder, work.xattrs)
    # Before the listing: what somebody changes from here on moves the stamp that is remembered.
    stamp = stamp_of(os.fstat(folder))
    present = list_beside(folder, work.untouched | {name: settled.mirror for name, settled in work.settled.items()})
    named = {entry.name: entry for entry in present}
    if work.volume.name_rules is None and (hidden := (work.settled.keys() | work.untouched.keys()) - named.keys()):
        # A server may show a name late that it has already; what was taken away cannot be examined either.
        seen = entries_of(stat_names(folder, hidden, []))
        present = sorted([*present, *seen])
        named |= {entry.name: entry for entry in seen}
    if work.volume.name_rules is not None:
        named = work.volume.name_rules.matched([entry.name for entry in listing.entries], named)
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
    return FolderDone(listing.path, summary, _bytes_of(records)), changed, stamp != before


def finish_part(work: Work, portion: Portion, folder: int) -> tuple[PartDone, RowsDone | None]:
    """Sum up one part of a huge folder, whose mirror is open; the folder itself has its turn after all parts.

    Only what was put there is looked at again. What somebody else changes meanwhile differs from what is remembered.
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
    )
    return done, _rows(work, portion.number, records)


def _rows(work: Work, part: int, records: dict[bytes, Record]) -> RowsDone | None:
    """Give what the index is to have of a folder's entries; None if it has that already."""
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
    """Give the mirror's entries with what was put there since."""
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
    """Give the open mirror of a huge folder its metadata, all its parts being done; True if it was changed.

    Raises `OSError`.
    """
    before = stamp_of(os.fstat(folder))
    metadata_writer.apply(folder, os.fstat(source), metadata_writer.of_source(source))
    stamp, total = stamp_of(os.fstat(folder)), close.total
    summary = FolderSummary(
        fingerprint=close.fingerprint if total.complete else b"",
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
    records = dict(work.kept)
    for name, settled in work.settled.items():
        # Equal, not the same: where listings tell no inode numbers, it had to be looked at again.
        if present.get(name) == settled.mirror:
            racy = settled.racy or name in work.doubtful
            records[name] = Record(settled.source, settled.mirror, settled.checksum, racy)
        else:
            work.lost.add(name)
    # What changed under us must not become the state that later cycles hold the mirror against.
    if work.lost or [name for name, record in records.items() if present.get(name) != record.mirror]:
        work.complete = False
    return records
