"""Look: find the folders that need work. A folder whose fingerprint and mirror stamp did not move is done (design 3.1).

What could not be read is unknown, never gone.
"""

from dataclasses import dataclass, field

from job.core.events import Progressed
from job.core.outcome import Skip
from job.core.record import FolderSummary
from job.core.tally import Tally
from job.errors import Stopped
from job.files.listing import Listing, Unlisted
from job.tasks.bench import Assignment, Bench

_TELL_EVERY_FOLDERS = 512


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


def look(bench: Bench, work: Assignment, *, audit: bool) -> Looked:
    """Walk the source against the index; in an audit every mirror file is held against it, too. Raises `Stopped`."""
    found = Looked()
    for number, listing in enumerate(bench.source.walk(), start=1):
        if work.stop():
            raise Stopped("stopped while looking")
        if isinstance(listing, Unlisted):
            found.unlisted.append(listing)
            continue
        known = bench.memory.summary(listing.path)
        if known and _unmoved(listing, known, work) and _mirror_unmoved(listing, known, bench, work, audit=audit):
            found.folders_unchanged += 1
            found.entries_unchanged += known.entries
            found.specials_unchanged += known.specials
        else:
            found.changed.append(listing.path)
            found.entries_to_visit += len(listing.entries) - len(listing.folders)
            found.bytes_to_visit += sum(entry.size for entry in listing.entries)
        if number % _TELL_EVERY_FOLDERS == 0:
            _tell(found, work)
    _tell(found, work)
    return found


def _unmoved(listing: Listing, known: FolderSummary, work: Assignment) -> bool:
    if work.pair.compare == "checksum" or known.recheck or listing.unreadable:
        return False
    return listing.fingerprint == known.fingerprint


def _mirror_unmoved(listing: Listing, known: FolderSummary, bench: Bench, work: Assignment, *, audit: bool) -> bool:
    """Stat the mirror folder; in an audit every file in it, too. `asleep` leaves it alone between audits."""
    if work.pair.mirror_check == "asleep" and not audit:
        return True
    if bench.watch.stamp(listing.path) != known.stamp:
        return False
    return not audit or bench.watch.fingerprint(listing.path) == known.mirror_fingerprint


def _tell(found: Looked, work: Assignment) -> None:
    work.emit(
        Progressed(
            cycle_id=work.cycle_id,
            pair=work.pair.name,
            phase="look",
            entries=found.entries_unchanged + found.entries_to_visit,
        )
    )
