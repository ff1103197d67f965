"""Finish: a folder's own metadata, last of all, and what the index is to remember of it."""

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from job.core.entry import Entry, Kind
from job.core.record import FolderDone, FolderSummary, Record, RowsDone
from job.core.rows import encoded
from job.files.listing import Listing, list_beside, mirror_fingerprint, stamp_of
from job.files.metadata import Keeper


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
    settled: dict[bytes, Settled] = field(default_factory=dict)
    kept: dict[bytes, Record] = field(default_factory=dict)
    """Records that go on as they were."""
    sure: bool = True
    """Whether the folder may be passed over next time; not if anything in it failed or moved away."""
    specials: int = 0
    announced: bool = False
    """Whether it is noted that temps may lie in the mirror folder."""
    lost: set[bytes] = field(default_factory=set)
    """Names whose mirror is not what was put there: somebody else, or the mirror itself, took it away."""


def finish(work: Work, folder: int, keeper: Keeper) -> tuple[FolderDone, RowsDone, bool]:
    """Give an open mirror folder its metadata and look at what is there now; True if the folder itself was changed.

    Raises `OSError`.
    """
    listing = work.listing
    before = stamp_of(os.fstat(folder))
    keeper.apply(folder, listing.folder, work.xattrs)
    # Before the listing: what somebody changes from here on moves the stamp that is remembered.
    stamp = stamp_of(os.fstat(folder))
    present = list_beside(folder, {name: settled.mirror for name, settled in work.settled.items()})
    records = _records(work, {entry.name: entry for entry in present})
    summary = FolderSummary(
        fingerprint=listing.fingerprint if work.sure else b"",
        stamp=stamp,
        mirror_fingerprint=mirror_fingerprint(present),
        entries=len(listing.entries) - sum(1 for entry in listing.entries if entry.kind is Kind.FOLDER),
        specials=work.specials,
        recheck=any(record.racy for record in records.values()),
    )
    rows = RowsDone(listing.path, 0, encoded(records.values()))
    return FolderDone(listing.path, summary), rows, stamp != before


def _records(work: Work, present: dict[bytes, Entry]) -> dict[bytes, Record]:
    records = dict(work.kept)
    for name, settled in work.settled.items():
        if present.get(name) is settled.mirror:
            records[name] = Record(settled.source, settled.mirror, settled.checksum, settled.racy)
        else:
            work.lost.add(name)
    if work.lost or any(present.get(name) != record.mirror for name, record in records.items()):
        # What changed under us must not become the state that later cycles hold the mirror against.
        work.sure = False
    return records
