"""The bench: everything the work on one pair needs, as ports. `app.py` lays it out; tests lay out their own."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from job.core.config.effective import Pair
from job.core.entry import Entry
from job.core.events import Listener
from job.core.record import Copied, FolderDone, FolderSummary, RowsDone, Stamp
from job.files.listing import Listing, Unlisted
from job.files.metadata import Keeper


class Source(Protocol):
    """Lists the source's folders."""

    def walk(self, start: bytes = b"") -> Iterator[Listing | Unlisted]:
        """List every folder from `start` on, parents first."""

    def list(self, path: bytes) -> Listing:
        """List one folder; raises `OSError`."""


class Watch(Protocol):
    """Looks at the mirror without changing it."""

    def stamp(self, path: bytes) -> Stamp | None:
        """Give a mirror folder's stamp."""

    def fingerprint(self, path: bytes) -> bytes | None:
        """Give the fingerprint of everything in a mirror folder."""


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

    def looking(self) -> AbstractContextManager[None]:
        """Have many summaries at less cost each; nothing can be committed meanwhile."""

    def entries_known(self) -> int:
        """Count the entries that are not folders."""

    def commit(self, folders: Iterable[FolderDone], rows: Iterable[RowsDone]) -> None:
        """Store finished folders and rows of their entries at once; raises `OSError`."""


class Copyist(Protocol):
    """Copies and hashes content."""

    def copy(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Copy a file to a temp; raises `OSError` or `ChangedWhileReadError`."""

    def copy_link(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Make a symlink's twin; raises as `copy` does."""

    def checksum(self, listed: Entry, folder: int, algorithm: str | None = None) -> tuple[str, Entry]:
        """Hash a file where it lies; raises as `copy` does."""

    def cold_checksum(self, temp: bytes, mirror: int) -> str:
        """Hash a synced temp as the disk has it."""


class Sync(Protocol):
    """Gets what was written onto the disk."""

    each: bool
    """Whether every file and folder has to be synced by itself, because `all` means nothing here."""

    def all(self) -> None:
        """Sync the whole file system; raises `OSError` if anything was not written."""


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


@dataclass(frozen=True, slots=True)
class Bench:
    """What the work on one pair needs."""

    source_root: int
    mirror_root: int
    source: Source
    watch: Watch
    memory: Memory
    leftovers: Notes
    copyist: Copyist
    keeper: Keeper
    sync: Sync


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which pair, in which cycle, and how to tell, stop and know the time."""

    cycle_id: str
    pair: Pair
    emit: Listener
    stop: Callable[[], bool]
    now_ns: Callable[[], int]
    """Wall clock, nanoseconds since the epoch."""
    verbose: bool = False
    """Whether every unchanged entry of a visited folder is told of, too."""
