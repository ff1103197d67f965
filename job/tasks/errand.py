"""What goes to a worker and what comes back: plain values, whether the worker is another process or not."""

from dataclasses import dataclass, field
from typing import NamedTuple

from job.core.events import Event
from job.core.record import FolderDone, RowsDone
from job.core.tally import Tally
from job.tasks.look import Care, Item, Looked


class LookHere(NamedTuple):
    """To a worker: look at these folders and what is below them."""

    care: Care
    items: list[Item]


class Seen(NamedTuple):
    """From a worker: what it found, and what it did not get to."""

    found: Looked
    rest: list[Item]


class Visit(NamedTuple):
    """A folder to be brought up to date."""

    path: bytes
    fingerprint: bytes
    """What the look saw; empty for a folder that was not looked at, and is visited with all that is below it."""
    rows: str
    """What the index knows of its entries (`core/rows.py`)."""


class Part(NamedTuple):
    """Some of the names of a huge folder, which is brought up to date in parts."""

    path: bytes
    number: int
    names: bytes
    """Packed (`tasks/parts.py`)."""
    rows: str


class Errand(NamedTuple):
    """To a worker: go and do this. Later errands have higher numbers."""

    number: int
    visits: list[Visit]


@dataclass(slots=True)
class Placed:
    """From a worker: a batch whose files have their names, and wait to be made durable, remembered and told."""

    begun: int
    """The oldest errand that anything in it was done for."""
    since_ns: int
    """Nothing in it was written before that, by the wall clock."""
    ended: list[int]
    """Errands that are done with."""
    folders: list[FolderDone] = field(default_factory=list)
    rows: list[RowsDone] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    dirty: bool = False
    """Whether anything was written that has to be synced."""
    unseen: list[bytes] = field(default_factory=list)
    """Subfolders of folders that changed since the look: some of them nobody may have looked at."""


class Progress(NamedTuple):
    """From a worker: how far it got since it last said so. `visited` is an errand it has done all but the commit of."""

    entries: int
    bytes: int
    visited: int = 0


class Stopping(NamedTuple):
    """From a worker: it was stopped, and has dropped what had no name yet."""


class Broken(NamedTuple):
    """From a worker: nothing more can be done for the pair (`fatal`), or it met a bug and ends."""

    error: str
    hint: str
    fatal: bool


class Ready(NamedTuple):
    """From a worker: it has everything it needs."""
