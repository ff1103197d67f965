"""Hold back, in one process, what would replace a content of the mirror while the brake has tripped."""

import stat

from job.config.settings import Pair
from job.core.brake import MOST_EXAMPLES, change_digest
from job.core.decide import MODIFIED, Action, Decision
from job.core.entry import Entry, Kind, join
from job.core.exclude import ExcludeRules
from job.core.record import Copied, Record
from job.engine.messages import HeldChanges, HeldPlace, HeldReport, ItemHold
from job.fs.sparse import is_all_zeros

_NO_HOLD = ItemHold(False, {}, {})
_REPLACING = {Action.COPY, Action.COMPARE_SOURCE, Action.COMPARE_BOTH}


class Exempt:
    """Which entries of a pair the brake leaves out (`brake.exclude`)."""

    def __init__(self, pair: Pair) -> None:
        patterns = pair.brake.exclude if pair.brake else ()
        self._rules = ExcludeRules.without_defaults(patterns) if patterns else None
        self.is_any = bool(patterns)

    def __call__(self, folder: bytes, entry: Entry) -> bool:
        """Return whether an entry of a folder, or a folder above it, is left out."""
        if self._rules is None:
            return False
        return self._rules.excludes_folder(folder) or not self._rules.in_scope(folder, [entry])


class Holder:
    """What the current work item holds; `begin` is called for each."""

    def __init__(self, pair: Pair) -> None:
        self._exempt = Exempt(pair)
        self._hold = _NO_HOLD
        self._most_zeros = pair.brake.files if pair.brake else 0
        self._held: dict[HeldPlace, dict[bytes, bytes]] = {}
        """Digests by name."""
        self._exempted = self._zeroed = self._zeroed_before = 0
        self._has_tripped = self.is_on = False
        self.watches_zeros = pair.brake is not None
        """Whether contents that are replaced by zeros are counted: no listing tells of them."""

    def begin(self, hold: ItemHold | None) -> None:
        """Begin a work item."""
        self._hold = hold or _NO_HOLD
        self.is_on = self._hold.is_on or self._has_tripped

    def holds(self, path: bytes, part: int, entry: Entry) -> bool:
        """Return whether the mirror's content under the name of an entry has to stay; that is noted then."""
        if not self.is_on:
            return False
        place, digest = (path, part), change_digest(entry.name, entry)
        if digest in self._hold.approved.get(place, ()):
            return False
        if self._exempt(path, entry):
            self._exempted += 1
            return False
        self._held.setdefault(place, {})[entry.name] = digest
        return True

    def holds_folder(self, path: bytes) -> bool:
        """Return whether the mirror's folder at a path has to stay, or its attributes have; that is noted then."""
        return self.holds(path, 0, held_folder(path))

    def compared_first(
        self, path: bytes, part: int, step: Decision, mirror: Entry | None, record: Record | None
    ) -> Decision:
        """Return a step that reads the source before it replaces a content which may still be the same.

        A file that was put back has other times. What is known to differ is not read in each cycle.
        """
        if not self.is_on or step.action not in _REPLACING:
            return step
        if change_digest(step.entry.name, step.entry) in self._hold.known.get((path, part), ()):
            return step._replace(action=Action.COPY)
        may_be_same = bool(
            step.reason == MODIFIED
            and record is not None
            and record.mirror == mirror
            and record.source.kind is step.entry.kind is Kind.FILE
            and record.source.size == step.entry.size
            and record.checksum
        )
        return step._replace(action=Action.COMPARE_SOURCE) if may_be_same else step

    def is_zeroed(self, copied: Copied, temp: bytes, folder: int) -> bool:
        """Return whether the copy of a file, an open folder's temp, has nothing but zeros, which count."""
        return self.watches_zeros and bool(copied.checksum) and is_all_zeros(temp, folder)

    def note_zeros(self, path: bytes, part: int, entry: Entry) -> None:
        """Count a content that is replaced by zeros, unless that was approved."""
        if change_digest(entry.name, entry) not in self._hold.approved.get((path, part), ()):
            self._zeroed += not self._exempt(path, entry)

    def trips(self) -> bool:
        """Return whether too many contents are about to be replaced by zeros: from now on everything is held."""
        if self.is_on or self._zeroed_before + self._zeroed <= self._most_zeros:
            return False
        self._has_tripped = self.is_on = True
        return True

    def take(self) -> HeldReport | None:
        """Return, and forget, what was held and counted."""
        if not (self._held or self._exempted or self._zeroed):
            return None
        held = [
            HeldChanges(
                place, tuple(names.values()), tuple(join(place[0], name) for name in sorted(names)[:MOST_EXAMPLES])
            )
            for place, names in self._held.items()
        ]
        found = HeldReport(held, self._exempted, self._zeroed)
        self._zeroed_before += self._zeroed
        self._held, self._exempted, self._zeroed = {}, 0, 0
        return found


def held_folder(path: bytes) -> Entry:
    """Return an entry for a mirror folder that is to be moved away as a whole."""
    return Entry(path.rpartition(b"/")[2], 0, stat.S_IFDIR, 0, 0, 0, 0, 0)
