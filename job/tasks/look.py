"""Look: find the folders that need work. A folder whose fingerprint and mirror stamp did not move is done (design 3.1).

What could not be read is unknown, never gone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from job.core.config.model import Pair
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


def look(eyes: Eyes, pair: Pair, notice: Callable[[Looked], None], *, audit: bool) -> Looked:
    """Walk the source against the index; in an audit every mirror file is held against it, too.

    `notice` is called after each folder with what was found so far; what it raises ends the look.
    """
    found = Looked()
    for listing in eyes.source.walk():
        if isinstance(listing, Unlisted):
            found.unlisted.append(listing)
        else:
            _file_away(listing, eyes, pair, found, audit=audit)
        notice(found)
    return found


def _file_away(listing: Listing, eyes: Eyes, pair: Pair, found: Looked, *, audit: bool) -> None:
    known = eyes.memory.summary(listing.path)
    if known and _source_unmoved(listing, known, pair) and _mirror_unmoved(listing, known, eyes, pair, audit=audit):
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


def _mirror_unmoved(listing: Listing, known: FolderSummary, eyes: Eyes, pair: Pair, *, audit: bool) -> bool:
    """Stat the mirror folder; in an audit every file in it, too. `asleep` leaves it alone between audits."""
    if pair.mirror_check == "asleep" and not audit:
        return True
    if eyes.watch.stamp(listing.path) != known.stamp:
        return False
    return not audit or eyes.watch.fingerprint(listing.path) == known.mirror_fingerprint
