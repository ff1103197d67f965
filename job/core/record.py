"""What the index knows of an entry and of a folder. Plain values; `store/index.py` stores them."""

from typing import NamedTuple, TypeAlias

from job.core.entry import Entry, FileId

CLOCK_GRAIN_NS = 2_000_000_000
"""An entry changed less than this before it was read may change again without its times moving (as git's racy files):
FAT keeps whole pairs of seconds, the kernel's own clock ticks every few milliseconds."""


OF_BLOCKS = "sparse-"
"""Before the algorithm: a checksum that leaves out blocks of zeros (`fs/sparse.py`)."""


def is_by(checksum: str, algorithm: str) -> bool:
    """Tell whether a checksum was made by an algorithm, with zeros or without."""
    return checksum.removeprefix(OF_BLOCKS).startswith(algorithm + ":")


class Record(NamedTuple):
    """An entry as it was when its content was last known to be equal on both sides."""

    source: Entry
    mirror: Entry
    checksum: str
    """`algorithm:hex`, or `sparse-algorithm:hex`; empty for a symlink."""
    racy: bool
    """Whether the content must be read again next time, whatever the times say."""


class Copied(NamedTuple):
    """A temp in the mirror that holds one complete content and waits for its name."""

    source: Entry
    """The source as it was, before and after, while it was read."""
    checksum: str
    """`algorithm:hex`; empty for a symlink."""
    inode: int
    """Of the temp, by which it is known again after the rename."""
    mtime_ns: int
    """Of the temp, as the mirror kept it."""
    holes: int = 0
    """Bytes of the content that were neither read nor written."""


class Compared(NamedTuple):
    """What a comparison of a source file with its mirror, byte for byte, found."""

    source: Entry
    """The source as it was, before and after, while it was read."""
    checksum: str
    """Of the source: `algorithm:hex`."""
    same: bool
    """Whether the contents are equal."""
    alike: Entry | None
    """The mirror as it was read, if its metadata are right, too."""


Stamp: TypeAlias = bytes
"""A mirror folder's own stat, opaque: it moves when anything is created, removed or renamed in the folder."""


class FolderSummary(NamedTuple):
    """What the look needs to pass a folder over without reading its records."""

    fingerprint: bytes
    """Of the source listing; empty when the folder has to be looked at again whatever it says."""
    stamp: Stamp
    mirror_fingerprint: bytes
    entries: int
    """Entries in scope that are not folders."""
    specials: int
    """Those of them that are never copied."""
    recheck: bool
    """Whether a record in it is racy."""
    parts: int = 1
    """How many rows its records are spread over."""


class FolderDone(NamedTuple):
    """A folder whose mirror is as its source was; its records go into rows of their own."""

    path: bytes
    summary: FolderSummary
    bytes: int = -1
    """Sizes of what the mirror has of its entries, summed up; -1 for unknown."""


class RowsDone(NamedTuple):
    """Records of a folder, all or one part of them, as the index keeps them."""

    path: bytes
    part: int
    """From 0 on."""
    rows: str
    """See `store/codec.py`."""
    linked: tuple[tuple[int, bytes], ...] = ()
    """Those that share their file in the source with other names: inode and name.

    A hint where other names may be: device numbers change, so that each is looked at before it is believed.
    """
    unsupported: str = ""
    """What the mirror cannot hold of them; see `store/codec.py`."""


class LinkName(NamedTuple):
    """One of the names of a file, or of a symlink or special file, that has several."""

    file: FileId
    """Of the source."""
    path: bytes
    """Of the folder."""
    part: int
    """Of the folder, if that is huge."""
    name: bytes
    size: int
    mirror: FileId | None
    """Of what the mirror has under that name, if it is of the right kind."""
    record: Record | None
    counted: bool = False
    """Whether the look counted it already, since its folder did not change."""
    names: int = 0
    """How many names the file has, in the source or the mirror, whichever has more; 0 if that is not known."""


class LinkOutcome(NamedTuple):
    """What became of a name that was seen to with the others of its file."""

    device: int
    """Where the file was, of which all this is true."""
    record: Record | None
    """What is to be remembered; None if it failed, which is told."""


class LinkRecord(NamedTuple):
    """What is to be remembered of a name that was seen to with the others of its file."""

    path: bytes
    name: bytes
    record: Record | None
    """None if it failed, which is told."""
