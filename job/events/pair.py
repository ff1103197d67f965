"""Events of one pair, its entries and its progress."""

from typing import Any

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Drift, Failure, Refusal, Result, Skip, UnloggedReason
from job.events.base import EntryEvent, PairEvent


class PairStarted(PairEvent):
    """The preflight checks passed; the scan begins; an `audit` examines every mirror file; no `brake`: it is off."""

    source: str
    mirror: str
    audit: bool
    brake: bool = True


class PairRefused(PairEvent, level="error"):
    """A guard refused the pair; no entry of its mirror was changed."""

    reason: Refusal
    error: str
    hint: str


class PairBusy(PairEvent, level="warning"):
    """Another instance holds the lock of this mirror; no entry of it was changed."""

    error: str
    hint: str


class LeaseTakenOver(PairEvent, level="warning"):
    """Another machine left a lease on this mirror and stopped renewing it, as after a power cut; it is taken over."""

    left_by: str


class PairFailed(PairEvent, level="error"):
    """The pair was aborted in the middle of the cycle; batches that were committed before stay valid."""

    error: str
    hint: str


class MirrorCreated(PairEvent):
    """The mirror did not exist and was created: no record says that it ever existed."""

    mirror: str


class MirrorAdopted(PairEvent):
    """The mirror is used for the first time and got an id of its own."""

    mirror: str
    mirror_id: str
    compared: bool
    """Whether it had contents, which are compared with the source before any is believed."""


class MirrorNotRecorded(PairEvent, level="warning"):
    """The mirror cannot be recorded outside of itself: if it is lost, it is created anew instead of refused."""

    mirror: str
    error: str


class HistoryReset(PairEvent, level="warning"):
    """The counters start at zero: the history under the pair's name, or in its mirror, belongs to another pair."""

    reason: str


class StateFolderLost(PairEvent, level="warning"):
    """A mirror that was used before has no `.truecopy` any more; its content is lost and it is created anew."""

    error: str


class PairFinished(PairEvent):
    """The pair's part of the cycle ended, with any result."""

    result: Result
    tally: Tally
    duration_seconds: float
    finished_timestamp_seconds: float
    """Seconds since the epoch."""


class IndexRebuilt(PairEvent, level="warning"):
    """The index was missing, unusable or of another file system: contents are compared instead of trusted."""

    reason: str


class WorkerLost(PairEvent, level="error"):
    """A worker process was killed or crashed; its entries fail and are retried in the next cycle."""

    error: str


class CycleStalled(PairEvent, level="error"):
    """A cycle makes no progress: a disk or server does not respond. Emitted by the watchdog or a supervisor."""

    process: str
    """`main`, or `worker` with its number. A stalled worker is killed, and its entries fail."""
    stalled_seconds: float
    where: str
    """Absolute path of the file or folder that it waits for; empty if unknown."""
    doing: str
    """Stack of the program for a bug report, innermost function first."""


class CycleResumed(PairEvent):
    """A stalled cycle makes progress again."""

    stalled_seconds: float


class WorkersAwaited(PairEvent, level=None):
    """The main process is alive and waits for workers that report nothing: no sign of progress."""


class MetadataNotKept(PairEvent, level="warning"):
    """Metadata that the mirror cannot store, or that cannot be read in the source; logged once a cycle and kind."""

    what: str
    """`owner`, `mode`, `times`, `acl`, `xattr`, `symlink_metadata`, `hard_links`, `symlinks` or `specials`; `nodev` or
    `nosuid` for devices, set-ID bits and capabilities that the mount of the source disables; `source_xattr` for
    attributes that cannot be read, `source_xattr_size` for attributes above the size limit."""
    path: bytes
    error: str


class MirrorProbed(PairEvent):
    """The capabilities of the mirror's file system were probed: at first use, and after it changed."""

    file_system: str
    lacks: tuple[str, ...]
    """Missing capabilities; empty if there are none."""


class MountSkipped(PairEvent, level="warning"):
    """Another file system in the source is left out, since `cross_mounts` is off; logged once, until it changes."""

    path: bytes
    file_system: str
    """Its type; `btrfs subvolume` for a subvolume, which has no mount of its own."""


class MountMissing(PairEvent, level="warning"):
    """A file system that was backed up is not mounted any more; its folder fails until it is. Logged once."""

    path: bytes
    file_system: str
    """Type of the file system that was mounted."""
    hint: str


class MountForgotten(PairEvent, level="warning"):
    """A former mount point is gone, excluded or holds files of its own: no mount is expected there any more."""

    path: bytes
    file_system: str


class PseudoFilesystemSkipped(PairEvent):
    """A kernel file system, such as proc, is mounted in the source and is not backed up; logged once."""

    path: bytes
    file_system: str


class OwnFilesSkipped(PairEvent):
    """State or temporary files of Truecopy in the source, as after a restore, are left out; logged once."""

    path: bytes


class VersionsExpired(PairEvent):
    """Versions expired by `versions.keep`, or took more than `versions.most`, and were removed."""

    files: int
    bytes: int
    by: dict[str, int]
    """Files by reason: `old`, `between` (two that are kept by count), `most`."""


class VersionsGivenUp(PairEvent, level="warning"):
    """The mirror's disk is full: versions of one cycle were removed before their time, the oldest first."""

    folder: str
    """The folder of the cycle in `.truecopy/versions`."""
    files: int
    bytes: int


class VersionsGaveNothing(PairEvent, level="warning"):
    """The mirror's disk stays full although versions were removed: snapshots, or other names, hold their space."""

    files: int
    bytes: int
    """Of the removed versions."""


class VersionsOverLimit(PairEvent, level="warning"):
    """The versions that are kept in any case take more than `versions.most`; told once a day."""

    bytes: int
    limit: int


class VersionsFromFuture(PairEvent, level="warning"):
    """Version folders have times in the future, as a clock was wrong; they stay until then. Told once a day."""

    folders: int
    folder: str
    """The first one."""


class ExpiryPostponed(PairEvent):
    """No version expires in this cycle; it was a success all the same."""

    reason: str
    """`ahead`: the last cycle is long ago, or the clock was set forward; `behind`: it was set back; `disk`: it differs
    from the clock of the mirror's file system; `failed`: some could not be removed."""
    error: str
    """Of `failed`."""


class RetentionChanged(PairEvent, level="warning"):
    """The rule by which versions are kept changed; the next successful cycle removes what has expired by it."""

    before: str
    rule: str
    files: int
    """Number of versions that would be removed now."""
    bytes: int


class VersionsCounted(PairEvent, level=None):
    """All versions of the mirror, after they changed."""

    files: int
    bytes: int


# Entries -------------------------------------------------------------------------------------------------------------


CopyFacts = tuple[Any, ...]
"""Values of a `FileCopied` without cycle and pair, in order: a mass copy has no time for an object each."""


class FileCopied(EntryEvent):
    """A file or symlink was copied; it is synced to the disk and in the index."""

    kind: Kind
    bytes: int
    checksum: str
    """`algorithm:hex` of the content, `sparse-algorithm:hex` for a sparse file; empty for a symlink."""
    permissions: str
    reason: str
    duration_seconds: float

    @property
    def facts(self) -> CopyFacts:
        """The values of all fields but cycle and pair, in order."""
        return tuple(vars(self).values())[2:]


class FileUpdated(EntryEvent):
    """Metadata was corrected; the content was right and was not copied."""

    kind: Kind
    permissions: str
    reason: str


class FileSkipped(EntryEvent, level="debug"):
    """An entry was skipped."""

    reason: Skip


class FileFailed(EntryEvent, level="error"):
    """An entry could not be mirrored; the cycle goes on without it and ends partial."""

    kind: Kind
    reason: Failure
    error: str


class DriftFound(EntryEvent, level="warning"):
    """A mirror entry was changed by another program since the last cycle. It is restored from the source."""

    kind: Drift


class ReplacedByFolder(EntryEvent, level="warning"):
    """A source file, link or special file became a folder; its old entry in the mirror was moved to the versions."""

    kind: Kind
    """Kind of the old entry."""


class FolderRetired(EntryEvent, level="warning"):
    """A source folder became something else; its mirror folder was moved whole to the versions."""

    version: str
    """New path, below the mirror's root."""


class EntrySetAside(EntryEvent, level="warning"):
    """A mirror entry was moved to the versions, because its old name would expose it to other users."""

    kind: Kind
    version: str
    """New path, below the mirror's root."""
    reason: str


class FileRetired(EntryEvent):
    """An entry of the mirror had left the source long enough ago, and was moved to the versions with all below it."""

    kind: Kind
    files: int
    """Of a folder: the number of entries below it that are no folders."""
    bytes: int
    checksum: str
    """As recorded; empty for a folder, and if none is known of this content."""
    missing_since_timestamp_seconds: float
    """When a cycle first missed it in the source, in seconds since the epoch."""
    version: str
    """New path, below the mirror's root."""


class FileNotRetired(EntryEvent, level="warning"):
    """An entry that left the source could not be moved to the versions: it stays, and the next cycle tries again."""

    kind: Kind
    error: str


class LogLinesSuppressed(PairEvent, level="warning"):
    """Lines that were not logged: too many alike in a folder or cycle, or the same as in the cycle before."""

    of: str
    """Name of their event."""
    path: bytes
    """Folder of the entries; the root for several folders."""
    entries: int
    by: dict[str, int]
    """Number of entries by reason."""
    because: UnloggedReason


class FoldersUnchanged(PairEvent, level="debug"):
    """Entries in folders with an unchanged fingerprint: skipped without looking at each one."""

    folders: int
    entries: int


# Counting and progress: never logged, many a second ------------------------------------------------------------------


class BatchCommitted(PairEvent, level=None):
    """A batch became durable; `tally` counts this batch. The sum of all batches is `PairFinished.tally`."""

    tally: Tally


class OrphansCounted(PairEvent, level=None):
    """The mirror's entries that left the source, as far as cycles noticed; told if their number may have changed."""

    files: int
    bytes: int


class FilesCopied(PairEvent, level=None):
    """Copies of one batch, in a row. Logs write a line for each; everything else counts the tally of the batch."""

    copies: list[CopyFacts]

    def event_of(self, facts: CopyFacts) -> FileCopied:
        """Return the event of one of the copies."""
        return FileCopied(**dict(zip(FileCopied.fields, (self.cycle_id, self.pair, *facts), strict=True)))


class Progressed(PairEvent, level=None):
    """Progress of the phase `scan`, `copy` or `expire` (of versions); totals are 0 while unknown."""

    phase: str
    entries: int
    entries_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
