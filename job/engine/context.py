"""The context of one pair (roots, tools, file systems) and the run that uses it. `app/pair_setup.py` opens it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from job.config.settings import Pair
from job.core.capabilities import Capabilities, NameRules
from job.core.decide import Policy
from job.core.entry import FileId
from job.core.mounts import ByMount, KnownMounts, MirrorCapabilities
from job.events.base import Listener
from job.fs.copier import Copier
from job.fs.metadata import MetadataWriter
from job.fs.own_files import MirrorSync
from job.fs.scanners import MirrorScanner, SourceScanner
from job.fs.small_copies import PlainCopier
from job.store.index import Index
from job.store.temp_journal import TempJournal

if TYPE_CHECKING:
    from job.system.processes import WorkerPool  # multiprocessing: a run without workers does not load it


class MountedFileSystem(NamedTuple):
    """A file system that is mounted below the mirror's root, and its tools."""

    point: bytes
    """Path of the mount point below the root."""
    root: int
    """Open descriptor of the mounted root folder."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    check: Callable[[], None]
    """Raises `OSError` if the mount point leads elsewhere now."""


class ProgressSink(Protocol):
    """Receives the progress of a sync; the main process and each worker have their own."""

    def bytes_copied(self, count: int) -> None:
        """Add copied bytes; 0 is a sign of life."""

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        """Add finished entries, with those of their bytes that were not copied."""


_ABLE = MirrorCapabilities(Capabilities())


@dataclass(frozen=True, slots=True)
class PairContext:
    """The tools and facts for the work on one pair, in one process."""

    source_root: int
    mirror_root: int
    source: SourceScanner
    mirror_scanner: MirrorScanner
    index: Index
    temp_journal: TempJournal
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    mirror: Capabilities
    """Capabilities of the mirror's root file system."""
    known_mounts: KnownMounts
    """Mounts and left-out folders of the source in the last cycle."""
    save_mounts: Callable[[KnownMounts], None]
    """Saves them for the next cycle; raises `OSError`."""
    recheck_roots: Callable[[], None]
    """Raises `RootLost` if the roots changed; to be called before a result is trusted."""
    mounted: Sequence[MountedFileSystem] = ()
    """Other file systems in the mirror."""
    abilities: MirrorCapabilities = _ABLE
    """Capabilities of all of them, for workers."""
    mirror_state: FileId | None = None
    """The mirror's `.truecopy` as found by the preflight; None if it was not read or does not exist yet."""
    opened_ns: int = 0
    """End of the preflight, by the system's clock in nanoseconds since the epoch; 0 if unknown."""
    create_worker_pool: "Callable[[], WorkerPool] | None" = None
    """Creates the workers of a large job; None where all work stays in this process."""


@dataclass(frozen=True, slots=True)
class PairRun:
    """One pair in one cycle: where events go, when to stop, the time, the number of workers."""

    cycle_id: str
    pair: Pair
    emit: Listener
    stop: Callable[[], bool]
    now_ns: Callable[[], int]
    """Wall clock, nanoseconds since the epoch."""
    verbose: bool = False
    """Whether every unchanged entry of a synced folder is reported, too."""
    workers: int = 1
    """The number of processes that scan and sync."""
    workers_from: int = 0
    """Entries from which a job is worth workers."""
    stall_seconds: float = 0.0
    """How long a busy worker may be silent; 0 for no limit."""


class Volume(NamedTuple):
    """One file system of the mirror, with its properties and tools."""

    number: int
    """0 for that of the mirror's root, else its place in `mounted`, from 1."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    policy: Policy
    options_key: str
    """Options that determine how an entry is mirrored; a record of another key is compared again."""
    name_rules: NameRules | None
    """None if it holds every name as it is."""
    supports_everything: bool
    """Whether it holds all metadata of files and symlinks."""
    plain: PlainCopier | None
    """Copies plain files; None where every file needs more than that."""


def volumes_of(context: PairContext, run: PairRun) -> ByMount[Volume]:
    """Return the file systems of a mirror by folder path."""
    pair = run.pair
    special = bool(pair.reflink or pair.rate_limit or pair.verify_copies == "readback")

    def volume(number: int, of: PairContext | MountedFileSystem) -> Volume:
        mirror = of.mirror
        return Volume(
            number=number,
            mirror=mirror,
            copier=of.copier,
            metadata_writer=of.metadata_writer,
            sync=of.sync,
            policy=policy_of(pair, mirror),
            options_key=pair.options_key + mirror.options_key,
            name_rules=None if mirror.keeps_all_names else NameRules(mirror),
            supports_everything=mirror.keeps_attributes and mirror.symlink_metadata,
            plain=of.copier.plain(run.now_ns) if mirror.keeps_plain_files and not (special or of.sync.each) else None,
        )

    others = {each.point: volume(number, each) for number, each in enumerate(context.mounted, 1)}
    root = volume(0, context)
    return ByMount(root, others, root.name_rules)


def policy_of(pair: Pair, mirror: Capabilities) -> Policy:
    """Return the part of a decision that is the same for all entries of a file system."""
    return Policy(
        pair.checksum,
        pair.compare == "checksum",
        pair.specials == "recreate",
        fifos=mirror.fifos,
        devices=mirror.devices,
        symlinks=mirror.symlinks,
        hard_links=mirror.hard_links,
        user=os.geteuid() if mirror.owners else None,
    )
