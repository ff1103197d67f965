"""A worker process: scans and copies by request; writes only to the mirror and its temp journal.

It opens the mirror's root anew: a sync reports a failed write once for each opening, so with a shared descriptor
another worker might receive the report of our loss (invariant 2). The lock is shared and stays held.
"""

import time
import traceback
from contextlib import ExitStack, closing
from typing import NamedTuple

from job.app.pair_setup import collect_rarely, index_to_read, set_up
from job.config.settings import Pair
from job.core.compressed_list import CompressedList
from job.core.entry import FileId
from job.core.file_systems import MirrorCapabilities
from job.core.versions import Moment
from job.engine.context import PairContext, PairRun
from job.engine.copy.folder import FolderSync
from job.engine.dispatch.worker_supervisor import WorkerError, WorkerReady
from job.engine.messages import WorkerProgress, WorkerStopped, WorkItem
from job.engine.preflight.open_pair import Roots
from job.engine.preflight.root_check import RootLost
from job.engine.scan import FolderScanner, ScanDepth, ScanReply, ScanRequest
from job.errors import Stopped
from job.events.base import Event
from job.fs.dircursor import closing_fd, open_root
from job.system.processes import Descriptor, WorkerPipe, WorkerPool

_SLICE_SECONDS = 0.03
"""Time of one scan before the remaining folders are returned."""
_REPORT_EVERY_SECONDS = 0.2


class Orders(NamedTuple):
    """Parameters of a worker. Only plain values and open files: it may run in another interpreter."""

    cycle_id: str
    pair: Pair
    source: Descriptor
    mirror: Descriptor
    state: Descriptor
    able: MirrorCapabilities
    mirror_state: FileId | None
    """The mirror's own state folder."""
    opened_ns: int
    """Time of the preflight."""
    verbose: bool
    slot: int
    moment: Moment | None
    """Of the cycle's versions."""
    lock: Descriptor | None = None
    """Lock on the mirror, held while the worker lives: it may outlive the main process briefly."""


def create_pool(run: PairRun, roots: Roots, able: MirrorCapabilities) -> WorkerPool:
    """Return the worker pool of a pair, with no worker started yet."""

    def orders(slot: int) -> Orders:
        source, mirror, state = (Descriptor(number) for number in (roots.source, roots.mirror, roots.state))
        about_mirror = able, roots.mirror_state, roots.opened_ns
        held = None if roots.claim is None else roots.claim.held
        lock = None if held is None else Descriptor(held.lock)
        return Orders(run.cycle_id, run.pair, source, mirror, state, *about_mirror, run.verbose, slot, run.moment, lock)

    return WorkerPool(serve, orders, run.workers)


def serve(pipe: WorkerPipe, orders: Orders) -> None:
    """Process requests from the pipe until it is closed."""
    collect_rarely()
    try:
        _serve(pipe, orders)
    except Exception as error:  # noqa: BLE001  # reported with the work items that are lost
        message = "it ran out of memory" if isinstance(error, MemoryError) else traceback.format_exc()
        pipe.send(WorkerError(message, "", fatal=False))
        raise SystemExit(1) from None


def _serve(pipe: WorkerPipe, orders: Orders) -> None:
    run = PairRun(
        orders.cycle_id,
        orders.pair,
        _reject_event,
        pipe.stopped,
        time.time_ns,
        verbose=orders.verbose,
        moment=orders.moment,
    )
    state = orders.state.number
    with ExitStack() as tidy:
        # Opened anew; see above.
        source, mirror = (
            tidy.enter_context(closing_fd(open_root(f"/proc/self/fd/{each.number}")))
            for each in (orders.source, orders.mirror)
        )
        index = tidy.enter_context(closing(index_to_read(f"/proc/self/fd/{state}")))
        counter = _Counter(pipe)
        roots = Roots(source, mirror, state, orders.mirror_state, orders.opened_ns)
        context = tidy.enter_context(set_up(run, roots, index, counter, orders.able, orders.slot))
        folder_sync = FolderSync(context, run, counter, pipe.send)
        pipe.send(WorkerReady())
        try:
            with folder_sync.at_work():
                _TaskLoop(pipe, run, context).serve(folder_sync, counter)
        except Stopped:
            pipe.send(WorkerStopped())
        except RootLost as error:
            pipe.send(WorkerError(error.message, error.hint, fatal=True))
        else:
            return
        while pipe.next() is not None:
            pass  # requests sent before the pool knew of the end


def _reject_event(event: Event) -> None:
    raise AssertionError(event)


class _TaskLoop:
    """Takes tasks one after the other."""

    def __init__(self, pipe: WorkerPipe, run: PairRun, context: PairContext) -> None:
        self._pipe = pipe
        self._run = run
        self._context = context
        self._scanners: dict[ScanDepth, FolderScanner] = {}

    def serve(self, folder_sync: FolderSync, counter: "_Counter") -> None:
        while (task := self._pipe.next()) is not None:
            match task:
                case ScanRequest():
                    self._scan(task)
                case WorkItem():
                    folder_sync.go(task)
                    counter.report(task.number)
                    if self._pipe.idle:
                        folder_sync.finish()
                case _:
                    raise AssertionError(task)

    def _scan(self, task: ScanRequest) -> None:
        scanner = self._scanners.get(task.depth)
        if scanner is None:
            scanner = self._scanners[task.depth] = FolderScanner(self._context, self._run.pair, task.depth)
        end = time.monotonic() + _SLICE_SECONDS
        waiting = CompressedList(task.items)
        found = scanner.scan(waiting, lambda: self._pipe.stopped() or time.monotonic() >= end)
        self._pipe.send(ScanReply(found, waiting))


class _Counter:
    """A `ProgressSink` that sends progress to the main process, limited in rate."""

    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._entries = self._bytes = 0
        self._reported = time.monotonic()

    def bytes_copied(self, count: int) -> None:
        self._bytes += count
        self._now_and_then()

    def entry_done(self, bytes_passed_over: int = 0, entries: int = 1) -> None:
        self._entries += entries
        self._bytes += bytes_passed_over
        self._now_and_then()

    def _now_and_then(self) -> None:
        if time.monotonic() - self._reported >= _REPORT_EVERY_SECONDS:
            self.report()

    def report(self, item: int = 0) -> None:
        """Send what was counted since the last report; `item` is one that is done but for its commit."""
        self._pipe.send(WorkerProgress(self._entries, self._bytes, item))
        self._entries = self._bytes = 0
        self._reported = time.monotonic()
