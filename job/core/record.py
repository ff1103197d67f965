"""Index records of entries and folders, as plain values; `store/index.py` stores them."""

from typing import NamedTuple, TypeAlias

from job.core.entry import Entry, FileId

CLOCK_GRAIN_NS = 2_000_000_000
"""An entry changed less than this before it was read may change again with the same times (git calls it racy): FAT
stores even seconds, and the kernel's clock ticks every few milliseconds."""


OF_BLOCKS = "sparse-"
"""Prefix of the algorithm if the checksum leaves out blocks of zeros (`fs/sparse.py`)."""


def is_by(checksum: str, algorithm: str) -> bool:
    """Return whether a checksum was made by an algorithm, sparse or not."""
    return checksum.removeprefix(OF_BLOCKS).startswith(algorithm + ":")


class Record(NamedTuple):
    """An entry as it was when both sides last had the same content."""

    source: Entry
    mirror: Entry
    checksum: str
    """`algorithm:hex`, or `sparse-algorithm:hex`; empty for a symlink."""
    racy: bool
    """Whether the content must be read again in the next cycle, even if times are equal."""
    since_ns: int = 0
    """When the mirror got the content; 0 if that is the ctime of the mirror's entry, as for a copy left alone."""

    @property
    def stands_since_ns(self) -> int:
        """When the mirror got the content, in nanoseconds since the epoch."""
        return self.since_ns or max(0, self.mirror.ctime_ns)


class Copied(NamedTuple):
    """A complete temporary file in the mirror, before its rename."""

    source: Entry
    """The source, which did not change while it was read."""
    checksum: str
    """`algorithm:hex`; empty for a symlink."""
    inode: int
    """Of the temporary file, which identifies it after the rename."""
    mtime_ns: int
    """Of the temporary file, as the mirror stored it."""
    holes: int = 0
    """Bytes of the content that were neither read nor written."""


class Compared(NamedTuple):
    """Result of comparing a source file with its mirror byte by byte."""

    source: Entry
    """The source, which did not change while it was read."""
    checksum: str
    """Of the source: `algorithm:hex`."""
    same: bool
    """Whether the contents are equal."""
    alike: Entry | None
    """The mirror entry, if its metadata is correct too."""


Stamp: TypeAlias = bytes
"""A mirror folder's stat, opaque: it changes when an entry of the folder is created, removed or renamed."""


class FolderSummary(NamedTuple):
    """Facts with which the scan skips a folder without reading its records."""

    fingerprint: bytes
    """Of the source listing; empty if the folder must be examined again in any case."""
    stamp: Stamp
    mirror_fingerprint: bytes
    entries: int
    """Entries that are neither excluded nor folders."""
    specials: int
    """The never copied ones among `entries`."""
    recheck: bool
    """Whether one of its records is racy."""
    parts: int = 1
    """Number of rows with its records."""


class FolderDone(NamedTuple):
    """A folder whose mirror equals its source; its records are in `RowsDone`."""

    path: bytes
    summary: FolderSummary
    bytes: int = -1
    """Sum of the sizes of its entries in the mirror; -1 for unknown."""
    orphans: str | None = None
    """The rows of its entries that the source does not have (`store/version_rows.py`); None if that is not known."""


class RowsDone(NamedTuple):
    """All records of a folder, or one part of them, in the form of the index."""

    path: bytes
    part: int
    """Number of the part, from 0."""
    rows: str
    """See `store/codec.py`."""
    linked: tuple[tuple[int, bytes], ...] = ()
    """Inode and name of entries with hard links in the source.

    Hints where other names may be: device numbers change, so each is examined before use.
    """
    unsupported: str = ""
    """Their unsupported metadata; see `store/codec.py`."""


class LinkName(NamedTuple):
    """One name of a file, symlink or special file with several names."""

    file: FileId
    """Of the source."""
    path: bytes
    """Of the folder."""
    part: int
    """Of the folder, if that is huge."""
    name: bytes
    size: int
    mirror: FileId | None
    """The mirror's entry of that name, if it is of the right kind."""
    record: Record | None
    counted: bool = False
    """Whether the scan counted it, because its folder did not change."""
    names: int = 0
    """Number of names of the file, in the source or the mirror, whichever is greater; 0 for unknown."""


class LinkOutcome(NamedTuple):
    """Result for one hard-linked name."""

    device: int
    """Device of the file that was linked."""
    record: Record | None
    """The record to store; None if it failed, which was reported."""


class LinkRecord(NamedTuple):
    """The record to store for one hard-linked name."""

    path: bytes
    name: bytes
    record: Record | None
    """None if it failed, which was reported."""
