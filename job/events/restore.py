"""Events of a restore of one pair. Their `cycle_id` is that of the restore."""

from job.core.entry import Kind
from job.events.base import EntryEvent, PairEvent


class RestoreStarted(PairEvent):
    """A restore of a pair begins: the target is open and has room."""

    target: str
    at_timestamp_seconds: float
    """The time as of which it restores, in seconds since the epoch."""
    entries: int
    bytes: int
    """What is to be restored, with what the target has already."""


class FileRestored(EntryEvent):
    """An entry that is no folder was restored; its content and its name are synced to the disk."""

    kind: Kind
    bytes: int
    """Written; 0 for a link to a file that was restored under another name."""
    checksum: str
    """`algorithm:hex` of the content; empty for what is no file."""
    checked: bool
    """Whether the checksum was recorded when the file was backed up, and is equal."""
    version: str
    """The version folder it came from; empty for the mirror."""
    reason: str
    """Why it may not be what stood there at that time; empty if it is."""
    renamed: str
    """The new name of the entry that was in the way; empty for none."""


class FileRotten(EntryEvent, level="error"):
    """A kept content does not have its recorded checksum; it was not restored."""

    version: str
    """The version folder that has it; empty for the mirror."""
    error: str


class FileNotRestored(EntryEvent, level="warning"):
    """An entry was not restored; at most 1,000 lines a restore, and none if the target has its content already."""

    kind: Kind
    reason: str
    """`exists`: the target has something else of its name; `not_kept`; `absent`: it was not there at that time; or
    `failed`."""
    error: str


class RestoreFinished(PairEvent):
    """A restore of a pair ended, or was refused before anything was written."""

    exit_code: int
    counts: dict[str, int]
    """Entries by what became of them."""
    bytes: int
    """Written."""
    lacks: tuple[str, ...]
    """Kinds of metadata that were not restored, as the target cannot hold them or this user may not set them."""
    error: str
    """Why it ended early; empty if it did not."""
    duration_seconds: float
