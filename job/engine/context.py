"""The bench: everything the work on one pair needs, as ports. `app.py` lays it out; tests lay out their own."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from job.config.settings import Pair
from job.core.capabilities import Capabilities, NameRules
from job.core.decide import Policy
from job.core.entry import FileId
from job.core.mounts import ByMount, KnownMounts, MirrorCapabilities
from job.events.service import Listener
from job.fs.copier import Copier
from job.fs.metadata import MetadataWriter
from job.fs.small_files import MirrorSync
from job.fs.trees import MirrorScanner, SourceScanner
from job.store.index import Index
from job.store.temp_journal import TempJournal

if TYPE_CHECKING:
    from job.system.processes import WorkerPool  # multiprocessing: a run without workers does not load it


class MountedFileSystem(NamedTuple):
    """A file system that is mounted below the mirror's root, with the tools for it."""

    point: bytes
    """Path of its mount point below the root."""
    root: int
    """Open descriptor of the folder that is mounted there."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    check: Callable[[], None]
    """Raises `OSError` if its mount point does not lead to it any more."""


class ProgressSink(Protocol):
    """Counts what was done, for bars and heartbeats."""

    def bytes_copied(self, count: int) -> None:
        """Note bytes that were copied; 0 is a sign of life."""

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        """Note entries that need nothing more, with those of their bytes that were not copied."""


_ABLE = MirrorCapabilities(Capabilities())


@dataclass(frozen=True, slots=True)
class PairContext:
    """What the work on one pair needs."""

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
    """What the mirror can hold."""
    known_mounts: KnownMounts
    """What was mounted in the source, or left out of it, when that was looked at last."""
    save_mounts: Callable[[KnownMounts], None]
    """Has the next cycle know them; raises `OSError`."""
    recheck_roots: Callable[[], None]
    """Raises `RootLost` if the roots are not what they were; to be asked before anything is believed to be done."""
    mounted: Sequence[MountedFileSystem] = ()
    """Other file systems in the mirror."""
    abilities: MirrorCapabilities = _ABLE
    """What each of them can hold, for workers."""
    home: FileId | None = None
    """The mirror's own `.truecopy`, as the gate found it; None where it was not looked at, or does not exist yet."""
    opened_ns: int = 0
    """When the gate was passed, by the system's clock in nanoseconds since the epoch; 0 if that is not known."""
    create_worker_pool: "Callable[[], WorkerPool] | None" = None
    """Gives worker processes for a large job; None where there may be none."""


@dataclass(frozen=True, slots=True)
class PairRun:
    """Which pair, in which cycle, and how to tell, stop and know the time."""

    cycle_id: str
    pair: Pair
    emit: Listener
    stop: Callable[[], bool]
    now_ns: Callable[[], int]
    """Wall clock, nanoseconds since the epoch."""
    verbose: bool = False
    """Whether every unchanged entry of a visited folder is told of, too."""
    workers: int = 1
    """Processes that look and act."""
    workers_from: int = 0
    """Entries of a job from which workers pay."""
    stall_seconds: float = 0.0
    """How long a worker may be silent while it has something to do; 0 for as long as it likes."""


class Volume(NamedTuple):
    """One file system of the mirror, with all that is to be known of it and the tools for it."""

    number: int
    """0 for the one that holds the mirror's root, else its place among those mounted, from 1 on."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    policy: Policy
    options_key: str
    """What says how the mirror of an entry is to look; what was done under another one is looked at anew."""
    name_rules: NameRules | None
    """None if it holds every name as it is."""
    supports_everything: bool
    """Whether it holds all that there is to know of files and symlinks."""


def volumes_of(context: PairContext, pair: Pair) -> ByMount[Volume]:
    """Give the file systems of a mirror by the paths of folders in it."""

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
        )

    others = {each.point: volume(number, each) for number, each in enumerate(context.mounted, 1)}
    root = volume(0, context)
    return ByMount(root, others, root.name_rules)


def policy_of(pair: Pair, mirror: Capabilities) -> Policy:
    """Give what decides about a pair's entries besides themselves."""
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
