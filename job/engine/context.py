"""The context of one pair (roots, stores, scanners; `app/pair_setup.py` opens it), the run that uses it, progress."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from job.config.settings import Pair
from job.core.entry import FileId
from job.core.file_systems import Capabilities, KnownMounts
from job.engine.scan import ScanResult
from job.errors import Stopped
from job.events.base import Listener
from job.events.pair import Progressed
from job.fs.scanners import MirrorScanner, SourceScanner
from job.store.index import Index
from job.store.temp_journal import TempJournal

if TYPE_CHECKING:
    from job.core.versions import Moment
    from job.engine.volumes import Tools  # a run without changes does not load what copies
    from job.fs.version_tree import VersionTree  # a run without changes lets nothing expire
    from job.system.processes import WorkerPool  # multiprocessing: a run without workers does not load it


class ProgressSink(Protocol):
    """Receives the progress of a sync; the main process and each worker have their own."""

    def bytes_copied(self, count: int) -> None:
        """Add copied bytes; 0 is a sign of life."""

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        """Add finished entries, with those of their bytes that were not copied."""


@dataclass(eq=False, repr=False)
class PairContext:
    """The tools and facts for the work on one pair, in one process."""

    source_root: int
    mirror_root: int
    source: SourceScanner
    mirror_scanner: MirrorScanner
    index: Index
    temp_journal: TempJournal
    mirror: Capabilities
    """Capabilities of the mirror's root file system."""
    known_mounts: KnownMounts
    """Mounts and left-out folders of the source in the last cycle."""
    save_mounts: Callable[[KnownMounts], None]
    """Saves them for the next cycle; raises `OSError`."""
    make_tools: "Callable[[], Tools]"
    recheck_roots: Callable[[], None]
    """Raises `RootLost` if the roots changed; to be called before a result is trusted."""
    read_last_cycle: Callable[[], float | None] = lambda: None
    """Reads when the last cycle of the pair ended, in seconds since the epoch; None if unknown."""
    read_disk_clock: "Callable[[VersionTree], float | None]" = lambda tree: tree.clock()
    """Reads the clock of the mirror's file system."""
    mirror_state: FileId | None = None
    """The mirror's `.truecopy` as found by the preflight; None if it was not read or does not exist yet."""
    opened_ns: int = 0
    """End of the preflight, by the system's clock in nanoseconds since the epoch; 0 if unknown."""
    started_ns: int = 0
    """When the work of this process began, by the clock of the run."""
    given_moment: "Moment | None" = None
    """The moment of the cycle's versions in a worker."""
    create_worker_pool: "Callable[[], WorkerPool] | None" = None
    """Creates the workers of a large job; None where all work stays in this process."""

    @cached_property
    def tools(self) -> "Tools":
        """The tools that write to the mirror, loaded for the first folder to sync."""
        return self.make_tools()

    @cached_property
    def moment(self) -> "Moment":
        """The moment of the cycle's versions, in all processes the same, and of no cycle before."""
        if self.given_moment is not None:
            return self.given_moment
        from job.core.versions import Moment  # noqa: PLC0415  # a run without changes makes no versions
        from job.fs.versions import VersionsFolder  # noqa: PLC0415

        moment = Moment(self.started_ns // 10**9)
        with suppress(OSError):  # reported when the first version is made
            return VersionsFolder(self.mirror_root, self.mirror_state).unused(moment)
        return moment


class PairRun(NamedTuple):
    """One pair in one cycle: where events go, when to stop, the time, the number of workers."""

    cycle_id: str
    pair: Pair
    emit: Listener
    stop: Callable[[], bool]
    now_ns: Callable[[], int]
    """Wall clock, nanoseconds since the epoch."""
    verbose: bool = False
    """Whether every unchanged entry of a synced folder is reported, too."""
    workers: int = 1
    """The number of processes that scan and sync."""
    workers_from: int = 0
    """Entries from which a job is worth workers."""
    stall_seconds: float = 0.0
    """How long a busy worker may be silent; 0 for no limit."""
    moment: "Moment | None" = None
    """The moment of the cycle's versions, for the workers."""
    interval_seconds: float = 0.0
    """Expected seconds between two cycles."""
    zone: str = "UTC"
    """Time zone of the calendar by which versions are kept."""

    @property
    def about(self) -> dict[str, str]:
        """The first fields of every event of the pair."""
        return {"cycle_id": self.cycle_id, "pair": self.pair.name}


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
        """Add finished entries, with those of their bytes that were not counted yet."""
        self._entries += entries
        self._bytes += bytes_passed_over
        self._report_if_due()

    def _report_if_due(self) -> None:
        if abs(self._run.now_ns() - self._reported_ns) >= _REPORT_EVERY_NS:
            self._report()

    def _report(self) -> None:
        self._reported_ns = self._run.now_ns()
        self._run.emit(
            Progressed(
                **self._run.about,
                phase=self._phase,
                entries=self._entries,
                entries_total=self._entries_total,
                bytes=self._bytes,
                bytes_total=self._bytes_total,
            )
        )
