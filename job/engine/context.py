"""The bench: everything the work on one pair needs, as ports. `app.py` lays it out; tests lay out their own."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from job.config.settings import Pair
from job.core.capabilities import Capabilities, Spelling
from job.core.decide import Policy
from job.core.entry import Entry, FileId
from job.core.mounts import Abilities, ByMount, KnownMounts
from job.core.outcome import Result
from job.core.record import (
    Compared,
    Copied,
    FolderDone,
    FolderSummary,
    Linked,
    LinkName,
    Outcome,
    Record,
    RowsDone,
    Stamp,
)
from job.events.service import Listener
from job.fs.listing import FolderScan, Listing, Unlisted
from job.fs.metadata import MetadataWriter


class Source(Protocol):
    """Lists the source's folders."""

    def walk(self, start: bytes = b"") -> Iterator[Listing | Unlisted]:
        """List every folder from `start` on, parents first."""

    def scan_folder(self, path: bytes, share: int = 0) -> FolderScan:
        """Look at one folder, or at one share of a huge one; raises `OSError`."""

    def list(self, path: bytes) -> Listing:
        """List one folder; raises `OSError`, or `Huge`."""

    def names(self, path: bytes) -> Iterator[Sequence[bytes]]:
        """Give the names in a huge folder, some at a time; raises `OSError`."""

    def part(self, path: bytes, names: Iterable[bytes]) -> Listing:
        """List those of a folder's names that are there; raises `OSError`."""


class Watch(Protocol):
    """Looks at the mirror without changing it."""

    def stamp(self, path: bytes) -> Stamp | None:
        """Give a mirror folder's stamp."""

    def is_bare(self) -> bool:
        """Tell whether nothing but our own is in the mirror."""

    def inspected(self, path: bytes, parts: int = 1) -> tuple[Stamp, bytes] | None:
        """Give stamp and fingerprint of everything in a mirror folder that has its records in so many parts."""


class Memory(Protocol):
    """The index."""

    @property
    def audited(self) -> float:
        """When the last audit ended, in seconds since the epoch."""

    def set_audited(self, when: float) -> None:
        """Remember a finished audit."""

    def summary(self, path: bytes) -> FolderSummary | None:
        """Give what is known of a folder."""

    def rows(self, path: bytes, part: int = 0) -> str:
        """Give what is known of a folder's entries, one part of it; empty if nothing is."""

    def unheld(self, path: bytes, part: int = 0) -> str:
        """Give what the mirror cannot hold of a folder's entries, one part of it; empty if it is nothing."""

    def linked(self, inode: int) -> list[tuple[bytes, int, bytes]]:
        """Give names that files of such an inode number had when they were last copied: folder, part, name.

        They are hints: a name may be gone, or another file's by now, and the number may be that of several files.
        """

    def looking(self) -> AbstractContextManager[None]:
        """Have many summaries at less cost each; nothing can be committed meanwhile."""

    def entries_known(self) -> int:
        """Count the entries that are not folders."""

    def commit(self, folders: Iterable[FolderDone], rows: Iterable[RowsDone], gone: Iterable[bytes] = ()) -> None:
        """Forget folders that are `gone`, store finished ones and rows of their entries, at once; raises `OSError`."""


class Copyist(Protocol):
    """Copies and hashes content."""

    def copy(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Copy a file to a temp; raises `OSError` or `ChangedWhileReadError`."""

    def copy_link(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Make a symlink's twin; raises as `copy` does."""

    def copy_special(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Make a FIFO's, socket's or device's twin; raises as `copy` does."""

    def checksum(self, listed: Entry, folder: int, algorithm: str | None = None) -> tuple[str, Entry]:
        """Hash a file where it lies; raises as `copy` does."""

    def compare(self, listed: Entry, source: int, mirror: Entry, mirror_folder: int) -> Compared:
        """Compare a source file with its mirror; raises as `copy` does, for the source's sake only."""

    def confirms(self, record: Record, source: int, mirror: int) -> bool:
        """Tell at little cost whether both sides hold the content a record says; False is no answer."""

    def cold_checksum(self, temp: bytes, mirror: int, algorithm: str | None = None) -> str:
        """Hash a synced temp as the disk has it."""

    def release(self, temp: bytes, mirror: int, size: int) -> None:
        """Let the cache forget a synced temp, if it is large."""


class Sync(Protocol):
    """Gets what was written onto the disk."""

    each: bool
    """Whether every file and folder has to be synced by itself, because `all` means nothing here."""

    def all(self) -> None:
        """Sync the whole file system; raises `OSError` if anything was not written."""


class Mounted(NamedTuple):
    """A file system that is mounted below the mirror's root, with the tools for it."""

    point: bytes
    """Path of its mount point below the root."""
    root: int
    """Open descriptor of the folder that is mounted there."""
    mirror: Capabilities
    copyist: Copyist
    keeper: MetadataWriter
    sync: Sync
    check: Callable[[], None]
    """Raises `OSError` if its mount point does not lead to it any more."""


class Notes(Protocol):
    """Remembers in which mirror folders temps may lie. Everything raises `OSError`."""

    def note(self, path: bytes) -> None:
        """Note a folder before the first temp is made in it."""

    def noted(self) -> list[bytes]:
        """Give the folders noted by a run that did not end."""

    def clear(self) -> None:
        """Forget our own notes."""

    def clear_all(self) -> None:
        """Forget the notes of all workers."""


class Book(Protocol):
    """Keeps names of files that have several; see `store/hardlinks.py`. Everything raises `OSError` without room."""

    def add(self, members: Iterable[LinkName]) -> None:
        """Note names; those that are there already stay as they are."""

    def settle(self, linked: Iterable[Linked]) -> None:
        """Note what is to be remembered of names."""

    def files(self) -> Iterator[FileId]:
        """Give every file once."""

    def of_file(self, file: FileId) -> list[LinkName]:
        """Give the names of a file."""

    def owner_of(self, mirror: FileId) -> FileId | None:
        """Tell which file of the source one of the mirror is to stand for, if it stands for names of several."""

    def of_folder(self, path: bytes, part: int) -> dict[bytes, Outcome]:
        """Give what became of the names in a folder."""

    def has_name(self, path: bytes, name: bytes) -> bool:
        """Tell whether a name in a folder is noted."""

    def has_folder(self, path: bytes) -> bool:
        """Tell whether any name in a folder is noted."""

    def close(self) -> None:
        """Forget everything."""


class KilledWorker(Protocol):
    """What is known of a worker that hung and was killed."""

    @property
    def process(self) -> int:
        """Its number."""

    @property
    def where(self) -> str:
        """What it waited for; empty if that is not known."""

    @property
    def doing(self) -> str:
        """What it was doing; empty if that is not known."""

    @property
    def dead(self) -> bool:
        """Whether the kill ended it."""


class WorkerPool(Protocol):
    """Worker processes; see `system/processes.py`."""

    @property
    def slots(self) -> list[int]:
        """Who lives."""

    def start(self, count: int) -> None:
        """Have so many, as far as the system allows."""

    def submit(self, slot: int, task: object) -> None:
        """Give one a task."""

    def poll(self, seconds: float) -> list[tuple[int, object]]:
        """Wait for answers; who ended unasked answers something that has a `how`."""

    def kill(self, slot: int) -> KilledWorker:
        """Kill one that hangs."""

    def stop(self) -> None:
        """Ask all to end what they do soon."""

    def close(self) -> None:
        """Let all go."""


class Tacho(Protocol):
    """Counts what was done, for bars and heartbeats."""

    def bytes_copied(self, count: int) -> None:
        """Note bytes that were copied; 0 is a sign of life."""

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        """Note entries that need nothing more, with those of their bytes that were not copied."""


class Sandbox(Protocol):
    """A wall of the kernel's around the work on a pair; see `system/sandbox.py`."""

    def around(self, work: Callable[[Listener], Result], emit: Listener) -> Result:
        """Do some work where a wall can be put up; it is given what it is to tell `emit` by."""

    def restrict(self, source: int, mirror: int, state: int) -> None:
        """Leave the work hardly more than to read an open source and to change the other two; raises `Refused`."""


class NoSandbox:
    """No wall."""

    def around(self, work: Callable[[Listener], Result], emit: Listener) -> Result:
        """Do the work."""
        return work(emit)

    def restrict(self, source: int, mirror: int, state: int) -> None:
        """Do nothing."""


_ABLE = Abilities(Capabilities())


@dataclass(frozen=True, slots=True)
class PairContext:
    """What the work on one pair needs."""

    source_root: int
    mirror_root: int
    source: Source
    watch: Watch
    memory: Memory
    leftovers: Notes
    copyist: Copyist
    keeper: MetadataWriter
    sync: Sync
    hardlink_table: Callable[[], Book]
    """Gives a new list of hard links."""
    mirror: Capabilities
    """What the mirror can hold."""
    known_mounts: KnownMounts
    """What was mounted in the source, or left out of it, when that was looked at last."""
    remember_mounts: Callable[[KnownMounts], None]
    """Has the next cycle know them; raises `OSError`."""
    check_place: Callable[[], None]
    """Raises `PlaceLost` if the roots are not what they were; to be asked before anything is believed to be done."""
    mounted: Sequence[Mounted] = ()
    """Other file systems in the mirror."""
    abilities: Abilities = _ABLE
    """What each of them can hold, for workers."""
    home: FileId | None = None
    """The mirror's own `.truecopy`, as the gate found it; None where it was not looked at, or does not exist yet."""
    entered_ns: int = 0
    """When the gate was passed, by the system's clock in nanoseconds since the epoch; 0 if that is not known."""
    recruit: Callable[[], WorkerPool] | None = None
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
    copyist: Copyist
    keeper: MetadataWriter
    sync: Sync
    policy: Policy
    options_key: str
    """What says how the mirror of an entry is to look; what was done under another one is looked at anew."""
    spelling: Spelling | None
    """None if it holds every name as it is."""
    notes_nothing: bool
    """Whether it holds all that there is to know of files and symlinks."""


def volumes_of(bench: PairContext, pair: Pair) -> ByMount[Volume]:
    """Give the file systems of a mirror by the paths of folders in it."""

    def volume(number: int, of: PairContext | Mounted) -> Volume:
        mirror = of.mirror
        return Volume(
            number=number,
            mirror=mirror,
            copyist=of.copyist,
            keeper=of.keeper,
            sync=of.sync,
            policy=policy_of(pair, mirror),
            options_key=pair.options_key + mirror.options_key,
            spelling=None if mirror.exact else Spelling(mirror),
            notes_nothing=mirror.keeps_attributes and mirror.symlink_metadata,
        )

    others = {each.point: volume(number, each) for number, each in enumerate(bench.mounted, 1)}
    root = volume(0, bench)
    return ByMount(root, others, root.spelling)


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
