"""Events and counts that wait for the next commit: nothing is reported before it is durable (invariant 2)."""

from job.core.counts import Counts, Tally
from job.core.entry import Kind, join
from job.core.outcome import Failure
from job.engine.context import PairContext, PairRun
from job.engine.copy.cleanup import Versions
from job.engine.copy.pending import PendingRename, PlainRenames
from job.events.base import Event
from job.events.pair import CopyFacts, FileCopied, FileFailed, FilesCopied, MetadataNotKept


class PendingEvents:
    """Events and counts of one pair that wait for a commit."""

    def __init__(self, run: PairRun, context: PairContext) -> None:
        self._run = run
        self._writers = [context.tools.metadata_writer, *(each.metadata_writer for each in context.tools.mounted)]
        self.events: list[Event] = []
        """In the order in which they are emitted."""
        self.counts = Counts()
        self._versions = Versions(context, run)
        self.retired: list[bytes] = []
        """Folders that left the mirror's tree: index records of anything in them are void."""
        self.lost_folders: set[bytes] = set()
        """Folders that failed: not tried, nor reported, a second time."""

    def add(self, event: Event) -> None:
        """Add an event, which is emitted after the commit."""
        self.events.append(event)

    def add_copy(self, event: FileCopied, holes: int) -> None:
        """Count and report a copy, of which so many bytes are in holes."""
        self.counts.copied += 1
        self.counts.bytes_copied += event.bytes - holes
        self._add_copies([event.facts])

    def _add_copies(self, copies: list[CopyFacts]) -> None:
        last = self.events[-1] if self.events else None
        if isinstance(last, FilesCopied):
            last.copies.extend(copies)
        elif copies:
            self.events.append(FilesCopied(cycle_id=self._run.cycle_id, pair=self._run.pair.name, copies=copies))

    def add_plain(self, plain: PlainRenames) -> list[PendingRename]:
        """Count and report copies of plain files; return those that their folder does not hold any more."""
        lost = plain.work.lost
        kept = [copy for copy in plain.copies if copy[0][0] not in lost] if lost else plain.copies
        self.counts.copied += len(kept)
        self.counts.bytes_copied += sum([copy[0][5] for copy in kept])
        self._add_copies(plain.facts(kept))
        return [plain.general(copy) for copy in plain.copies if copy[0][0] in lost] if lost else []

    def fail(self, path: bytes, kind: Kind, reason: Failure, error: str) -> None:
        """Count and report a failed entry."""
        if kind is Kind.FOLDER:
            self.lost_folders.add(path)
        self.counts.failed[reason] += 1
        self.add(
            FileFailed(
                cycle_id=self._run.cycle_id,
                pair=self._run.pair.name,
                path=path,
                kind=kind,
                reason=reason,
                error=error,
            )
        )

    def retire(self, folder: int, above: bytes, name: bytes) -> None:
        """Move a folder of the open one at the path `above` to the versions, unless it is empty. Raises `OSError`."""
        if not self._versions.removed(name, folder):
            path = join(above, name)
            self.add(self._versions.retire(path, folder))
            self.retired.append(path)

    def add_refusals(self, path: bytes) -> None:
        """Report metadata that the mirror refused, first at `path`."""
        for metadata_writer in self._writers:
            for what, error in metadata_writer.take_refusals():
                self.add(
                    MetadataNotKept(
                        cycle_id=self._run.cycle_id, pair=self._run.pair.name, what=what, path=path, error=error
                    )
                )

    def take(self) -> tuple[list[Event], Tally]:
        """Return, and forget, all events and their tally."""
        events, self.events = self.events, []
        self.counts.attributes_unread += sum(metadata_writer.take_unread() for metadata_writer in self._writers)
        tally, self.counts = self.counts.tally(), Counts()
        return events, tally

    def keep_failures(self) -> None:
        """Forget everything but failures, for a mirror that cannot be committed to any more."""
        self.events = [event for event in self.events if isinstance(event, FileFailed)]
        failed, self.counts = self.counts.failed, Counts()
        self.counts.failed = failed
