"""Progress and rate limit of one pair, driven by the chunks that are copied and the entries that are done."""

from collections.abc import Callable

from job.engine.context import PairRun
from job.engine.scan import ScanResult
from job.errors import Stopped
from job.events.pair import Progressed

_REPORT_EVERY_NS = 200_000_000


class Progress:
    """Counts the entries and bytes of one pair, and reports them a few times a second."""

    def __init__(self, run: PairRun) -> None:
        self._run = run
        self._phase = "scan"
        self._entries = self._bytes = 0
        self._entries_total = self._bytes_total = 0
        self._seen = self._reported_ns = 0

    def scanned(self, found: ScanResult) -> None:
        """Report the state of a scan. Raises `Stopped` when the run is to end."""
        if self._run.stop():
            raise Stopped("stopped during the scan")
        seen = found.entries + found.folders
        if seen != self._seen:  # without news from workers nothing is reported: that would look alive
            self._seen, self._entries = seen, found.entries
            self._report_if_due()

    def start_sync(self, found: ScanResult) -> None:
        """Begin the sync: its totals are the entries and bytes of the folders to sync."""
        self._phase, self._entries = "copy", 0
        self._entries_total, self._bytes_total = found.entries_to_sync, found.bytes_to_sync
        self._report()

    def bytes_copied(self, count: int) -> None:
        """Add copied bytes; 0 is a sign of life."""
        self._bytes += count
        self._report_if_due()

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        """Add finished entries, with those of their bytes that were not copied."""
        self._entries += entries
        self._bytes += bytes_passed_over
        self._report_if_due()

    def worker_progress(self, entries: int, count: int) -> None:
        """Add the progress of a worker."""
        self._entries += entries
        self._bytes += count
        self._report_if_due()

    def _report_if_due(self) -> None:
        if abs(self._run.now_ns() - self._reported_ns) >= _REPORT_EVERY_NS:
            self._report()

    def _report(self) -> None:
        self._reported_ns = self._run.now_ns()
        self._run.emit(
            Progressed(
                cycle_id=self._run.cycle_id,
                pair=self._run.pair.name,
                phase=self._phase,
                entries=self._entries,
                entries_total=self._entries_total,
                bytes=self._bytes,
                bytes_total=self._bytes_total,
            )
        )


_LONGEST_WAIT_SECONDS = 0.5


class RateLimiter:
    """Called for every copied chunk: keeps the rate limit, reports progress, and notices a stop."""

    def __init__(
        self,
        rate_limit: int | None,
        *,
        stop: Callable[[], bool],
        progress: Callable[[int], None],
        clock: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        """`rate_limit` is in bytes a second; `clock` is monotonic, in seconds; `wait` sleeps."""
        self._rate = rate_limit
        self._stop = stop
        self._progress = progress
        self._clock = clock
        self._wait = wait
        self._free_at = clock()

    def __call__(self, count: int) -> None:
        """Account for `count` bytes. Raises `Stopped` when the run is to end: the current file is dropped."""
        if self._stop():
            raise Stopped("stopped while a file was being copied")
        self._progress(count)
        if self._rate is None or count == 0:
            return
        # Unused time is not saved up: after a pause the limit still holds for every second.
        self._free_at = max(self._free_at, self._clock()) + count / self._rate
        while (left := self._free_at - self._clock()) > 0:
            if self._stop():
                raise Stopped("stopped while a file was being copied")
            self._wait(min(left, _LONGEST_WAIT_SECONDS))
