"""Meter: how far the work on a pair is, told a few times a second for bars and heartbeats."""

from job.engine.context import Assignment
from job.engine.scan import Looked
from job.errors import Stopped
from job.events.service import Progressed

_TELL_EVERY_NS = 200_000_000


class Meter:
    """Counts entries and bytes of one pair as they are dealt with."""

    def __init__(self, work: Assignment) -> None:
        self._work = work
        self._phase = "look"
        self._entries = self._bytes = 0
        self._entries_total = self._bytes_total = 0
        self._seen = self._told_ns = 0

    def looked(self, found: Looked) -> None:
        """Note how far a look is. Raises `Stopped` when the run is to end."""
        if self._work.stop():
            raise Stopped("stopped while looking")
        seen = found.entries + found.folders
        if seen != self._seen:  # helpers that say nothing are no sign of life
            self._seen, self._entries = seen, found.entries
            self._tell_now_and_then()

    def expect(self, found: Looked) -> None:
        """Start over for the acting: what lies in the folders that will be visited is the whole."""
        self._phase, self._entries = "act", 0
        self._entries_total, self._bytes_total = found.entries_to_visit, found.bytes_to_visit
        self._tell()

    def bytes_copied(self, count: int) -> None:
        """Note bytes that were copied; 0 is a sign of life."""
        self._bytes += count
        self._tell_now_and_then()

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        """Note entries that need nothing more, with those of their bytes that were not copied."""
        self._entries += entries
        self._bytes += bytes_passed_over
        self._tell_now_and_then()

    def told(self, entries: int, count: int) -> None:
        """Note what a worker did."""
        self._entries += entries
        self._bytes += count
        self._tell_now_and_then()

    def _tell_now_and_then(self) -> None:
        if abs(self._work.now_ns() - self._told_ns) >= _TELL_EVERY_NS:
            self._tell()

    def _tell(self) -> None:
        self._told_ns = self._work.now_ns()
        self._work.emit(
            Progressed(
                cycle_id=self._work.cycle_id,
                pair=self._work.pair.name,
                phase=self._phase,
                entries=self._entries,
                entries_total=self._entries_total,
                bytes=self._bytes,
                bytes_total=self._bytes_total,
            )
        )
