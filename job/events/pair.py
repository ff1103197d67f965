"""Facts about one pair, its entries and its progress. They are told as `events/service.py`, which names every event."""

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Drift, Failure, Refusal, Result, Skip, UnloggedReason
from job.events.base import EntryEvent, PairEvent


class PairStarted(PairEvent):
    """The gate was passed; looking begins."""

    name = "pair_started"

    source: str
    mirror: str
    audit: bool
    """Whether every mirror file is held against the index in this cycle."""


class PairRefused(PairEvent):
    """A guard refused the pair; nothing was written."""

    name = "pair_refused"
    level = "error"

    reason: Refusal
    error: str
    hint: str


class PairBusy(PairEvent):
    """Another instance works on this mirror; nothing was written."""

    name = "pair_busy"
    level = "warning"

    error: str
    hint: str


class LeaseTakenOver(PairEvent):
    """Another machine left a lease on this mirror and renewed it no more, as after a power cut; it is ours now."""

    name = "lease_taken_over"
    level = "warning"

    left_by: str


class PairFailed(PairEvent):
    """The pair had to be given up in mid-run; what was committed before stays valid."""

    name = "pair_failed"
    level = "error"

    error: str
    hint: str


class MirrorCreated(PairEvent):
    """The mirror did not exist and was made, since it was not known to have existed."""

    name = "mirror_created"

    mirror: str


class MirrorNotRecorded(PairEvent):
    """That the mirror exists cannot be recorded outside of it: if it is missing, it is made anew, not refused."""

    name = "mirror_not_recorded"
    level = "warning"

    mirror: str
    error: str


class HistoryReset(PairEvent):
    """Counting begins anew: what was kept under the pair's name, or in its mirror, belongs to another pair."""

    name = "history_reset"
    level = "warning"

    reason: str


class StateFolderLost(PairEvent):
    """A mirror that was used before has no `.truecopy` any more: what was kept in it is gone, and it is made anew."""

    name = "state_folder_lost"
    level = "warning"

    error: str


class PairFinished(PairEvent):
    """The pair's part of the cycle ended, in whatever way."""

    name = "pair_finished"

    result: Result
    tally: Tally
    duration_seconds: float
    finished_timestamp_seconds: float
    """When, in seconds since the epoch."""


class IndexRebuilt(PairEvent):
    """The index was missing, unusable or about another file system: contents are compared instead of believed."""

    name = "index_rebuilt"
    level = "warning"

    reason: str


class WorkerLost(PairEvent):
    """A worker process ended unasked, killed or out of memory; what it was sent to do fails and is done next time."""

    name = "worker_lost"
    level = "error"

    error: str


class CycleStalled(PairEvent):
    """Nothing moves any more: a disk or server does not answer. Told while it hangs, by who watches."""

    name = "cycle_stalled"
    level = "error"

    process: str
    """`main`, or `worker` with its number: one that is stuck is killed, and what it was sent to do fails."""
    stalled_seconds: float
    where: str
    """The file or folder it waits for, by its whole path; empty where that is not known."""
    doing: str
    """For whoever looks into it: functions of the program, innermost first."""


class CycleResumed(PairEvent):
    """What hung moves again, and the cycle goes on."""

    name = "cycle_resumed"

    stalled_seconds: float


class WorkersAwaited(PairEvent):
    """The main process is alive and waits for its workers, which say nothing: no sign of life of theirs."""

    name = "workers_awaited"
    level = None


class MetadataNotKept(PairEvent):
    """One kind of metadata that the mirror cannot hold, or that cannot be read in the source; logged once a cycle."""

    name = "metadata_not_kept"
    level = "warning"

    what: str
    """A kind: `owner`, `mode`, `times`, `acl`, `xattr`, `symlink_metadata`, `hard_links`, `symlinks`, `specials`,
    `nodev` and `nosuid` for devices, set-ID bits and capabilities that have no effect in a source mounted so,
    `source_xattr` for attributes that cannot be read, or `source_xattr_size` for more of them than are kept."""
    path: bytes
    error: str


class MirrorProbed(PairEvent):
    """It was found out what the mirror's file system can hold: told when it is used first, or has changed."""

    name = "mirror_probed"

    file_system: str
    lacks: tuple[str, ...]
    """What it does not hold; nothing if it holds everything."""


class MountSkipped(PairEvent):
    """Another file system in the source is left out, since `cross_mounts` is off; logged once, until it changes."""

    name = "mount_skipped"
    level = "warning"

    path: bytes
    file_system: str
    """Its type; `btrfs subvolume` for what has no mount of its own."""


class MountMissing(PairEvent):
    """Nothing is mounted where a file system was backed up from; logged once. The folder fails until it is there."""

    name = "mount_missing"
    level = "warning"

    path: bytes
    file_system: str
    """The type of the one that was there."""
    hint: str


class MountForgotten(PairEvent):
    """A folder where a file system was mounted is gone, excluded or holds files of its own: nothing is missed there."""

    name = "mount_forgotten"
    level = "warning"

    path: bytes
    file_system: str


class PseudoFilesystemSkipped(PairEvent):
    """A file system of the kernel, such as proc, is mounted in the source and is not backed up; logged once."""

    name = "pseudo_filesystem_skipped"

    path: bytes
    file_system: str


class OwnFilesSkipped(PairEvent):
    """State or temporary files of Truecopy lie in the source, as after a restore, and are left out; logged once."""

    name = "own_files_skipped"

    path: bytes


# Entries -------------------------------------------------------------------------------------------------------------


class FileCopied(EntryEvent):
    """A file or symlink is in the mirror, synced to the disk and in the index."""

    name = "file_copied"

    kind: Kind
    bytes: int
    checksum: str
    """`algorithm:hex` of the content, `sparse-algorithm:hex` of what is nearly all holes; empty for a symlink."""
    permissions: str
    reason: str
    duration_seconds: float


class FileUpdated(EntryEvent):
    """Metadata was mended; the content was right and was not copied."""

    name = "file_updated"

    kind: Kind
    permissions: str
    reason: str


class FileSkipped(EntryEvent):
    """An entry was passed over."""

    name = "file_skipped"
    level = "debug"

    reason: Skip


class FileFailed(EntryEvent):
    """An entry could not be mirrored; the cycle goes on without it and ends partial."""

    name = "file_failed"
    level = "error"

    kind: Kind
    reason: Failure
    error: str


class DriftFound(EntryEvent):
    """An entry of the mirror is not as Truecopy left it. It is healed from the source."""

    name = "drift_found"
    level = "warning"

    kind: Drift


class ReplacedByFolder(EntryEvent):
    """The source has a folder where it had a file, link or special file; the mirror's old entry gave way to it."""

    name = "replaced_by_folder"
    level = "warning"

    kind: Kind
    """What the mirror had there."""


class FolderRetired(EntryEvent):
    """The source has something else where it had a folder: the mirror's folder was moved to the versions, whole."""

    name = "folder_retired"
    level = "warning"

    version: str
    """Where it is now, below the mirror's root."""


class EntrySetAside(EntryEvent):
    """Something in the mirror was moved to the versions, since nobody may get at it under the name that it had."""

    name = "entry_set_aside"
    level = "warning"

    kind: Kind
    version: str
    """Where it is now, below the mirror's root."""
    reason: str


class LogLinesSuppressed(PairEvent):
    """So many more entries were told of in the same way, or as in the cycle before, and have no lines of their own."""

    name = "log_lines_suppressed"
    level = "warning"

    of: str
    """The event that each of them would be."""
    path: bytes
    """The folder they are in; the root's where they are in several."""
    entries: int
    by: dict[str, int]
    """How many there are for each reason."""
    because: UnloggedReason


class FoldersUnchanged(PairEvent):
    """So many entries lie in folders whose fingerprint did not move: skipped without a look at each."""

    name = "folders_unchanged"
    level = "debug"

    folders: int
    entries: int


# Counting and progress: never logged, many a second ------------------------------------------------------------------


class BatchCommitted(PairEvent):
    """Work became durable: `tally` is what this batch adds. The sum over a pair is `PairFinished.tally`."""

    name = "batch_committed"
    level = None

    tally: Tally


class FilesCopied(PairEvent):
    """Copies of one batch, in a row. Logs write a line for each; everything else counts the tally of the batch."""

    name = "files_copied"
    level = None

    copies: tuple[FileCopied, ...]


class Progressed(PairEvent):
    """Work went on. `phase` is `look` or `act`; totals are 0 while unknown."""

    name = "progressed"
    level = None

    phase: str
    entries: int
    entries_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
