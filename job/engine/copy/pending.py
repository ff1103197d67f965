"""Tidings: what is to be told with the next commit, and counted. Nothing is told before it is true (invariant 2)."""

from job.core.counts import Counts, Tally
from job.core.entry import Kind
from job.core.outcome import Failure
from job.engine.context import Assignment, Bench
from job.events.service import Event, FileFailed, MetadataNotKept


class Tidings:
    """Events and counts of one pair that wait for a commit."""

    def __init__(self, work: Assignment, bench: Bench) -> None:
        self._work = work
        self._keepers = [bench.keeper, *(each.keeper for each in bench.mounted)]
        self._waiting: list[Event] = []
        self.counts = Counts()
        self.lost_folders: set[bytes] = set()
        """Folders told as failed: not to be tried, and told, once more."""

    def tell(self, event: Event) -> None:
        """Have an event told with the commit, in its place between the others."""
        self._waiting.append(event)

    def fail(self, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        """Count and tell a failed entry."""
        if kind is Kind.FOLDER:
            self.lost_folders.add(path)
        self.counts.failed[reason] += 1
        self.tell(
            FileFailed(
                cycle_id=self._work.cycle_id,
                pair=self._work.pair.name,
                path=path,
                kind=kind,
                reason=reason,
                error=error,
            )
        )

    def note_refusals(self, path: bytes) -> None:
        """Tell of metadata that the mirror would not take, first met at `path`."""
        for keeper in self._keepers:
            for what, error in keeper.news():
                self.tell(
                    MetadataNotKept(
                        cycle_id=self._work.cycle_id, pair=self._work.pair.name, what=what, path=path, error=error
                    )
                )

    def take(self) -> tuple[list[Event], Tally]:
        """Give everything that waits, and what it adds up to, to be told with the commit."""
        events, self._waiting = self._waiting, []
        self.counts.attributes_unread += sum(keeper.take_unread() for keeper in self._keepers)
        tally, self.counts = self.counts.tally(), Counts()
        return events, tally

    def keep_failures(self) -> None:
        """Forget everything but what failed: for a mirror that takes no commit any more."""
        self._waiting = [event for event in self._waiting if isinstance(event, FileFailed)]
        self.counts = Counts(failed=self.counts.failed)
