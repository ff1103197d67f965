"""Look: find the folders that need work. A folder whose fingerprint and mirror stamp did not move is done (design 3.1).

What could not be read is unknown, never gone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from job.core.config.effective import Pair
from job.core.outcome import Skip
from job.core.record import FolderSummary
from job.core.tally import Tally
from job.files.listing import Listing, Unlisted
from job.tasks.bench import Memory, Source, Watch


class Eyes(Protocol):
    """What a look needs: a bench has it, and so has a preview."""

    @property
    def source(self) -> Source:
        """Lists the source."""

    @property
    def watch(self) -> Watch:
        """Looks at the mirror."""

    @property
    def memory(self) -> Memory:
        """What is remembered."""


@dataclass(slots=True)
class Looked:
    """What a look found. Plain values; `changed` holds paths below the root, parents before children."""

    changed: list[bytes] = field(default_factory=list)
    unlisted: list[Unlisted] = field(default_factory=list)
    folders_unchanged: int = 0
    entries_unchanged: int = 0
    specials_unchanged: int = 0
    entries_to_visit: int = 0
    bytes_to_visit: int = 0

    @property
    def tally(self) -> Tally:
        """What is settled without a closer look."""
        skipped = {
            Skip.UNCHANGED: self.entries_unchanged - self.specials_unchanged,
            Skip.SPECIAL_FILE: self.specials_unchanged,
        }
        return Tally(folders=self.folders_unchanged, skipped_by={why: n for why, n in skipped.items() if n})


class Care(IntEnum):
    """How closely the mirror is looked at."""

    ASLEEP = 0
    """Only its root, which is open anyway."""
    FOLDERS = 1
    """A stat of every folder."""
    AUDIT = 2
    """A stat of every file, too."""


def look(eyes: Eyes, pair: Pair, notice: Callable[[Looked], None], care: Care) -> Looked:
    """Walk the source against the index, and the mirror as closely as `care` says.

    `notice` is called after each folder with what was found so far; what it raises ends the look.
    """
    found = Looked()
    for listing in eyes.source.walk():
        if isinstance(listing, Unlisted):
            found.unlisted.append(listing)
        else:
            _file_away(listing, eyes, pair, found, care)
        notice(found)
    return found


def _file_away(listing: Listing, eyes: Eyes, pair: Pair, found: Looked, care: Care) -> None:
    known = eyes.memory.summary(listing.path)
    if known and _source_unmoved(listing, known, pair) and _mirror_unmoved(listing, known, eyes, care):
        found.folders_unchanged += 1
        found.entries_unchanged += known.entries
        found.specials_unchanged += known.specials
        return
    found.changed.append(listing.path)
    found.entries_to_visit += len(listing.entries) - len(listing.folders)
    found.bytes_to_visit += sum(entry.size for entry in listing.entries)


def _source_unmoved(listing: Listing, known: FolderSummary, pair: Pair) -> bool:
    if pair.compare == "checksum" or known.recheck or listing.unreadable:
        return False
    return listing.fingerprint == known.fingerprint


def _mirror_unmoved(listing: Listing, known: FolderSummary, eyes: Eyes, care: Care) -> bool:
    if care is Care.ASLEEP and listing.path:
        return True
    if eyes.watch.stamp(listing.path) != known.stamp:
        return False
    return care is not Care.AUDIT or eyes.watch.fingerprint(listing.path) == known.mirror_fingerprint


def care_for(pair: Pair, audited: float, now: float) -> tuple[Care, Care]:
    """Tell how closely to look at a mirror last audited at `audited`: at first, and once there is work for it.

    A sleeping disk is woken only by something to write; what else changed on it is seen in the same go.
    """
    # A clock that was ahead once must not put the next audit off for years.
    due = not 0 <= now - audited < pair.audit_interval
    awake = Care.AUDIT if due else Care.FOLDERS
    return (Care.ASLEEP if pair.mirror_check == "asleep" else awake), awake
