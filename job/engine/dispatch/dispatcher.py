"""Act: send somebody to every changed folder, and commit what they bring back (design 3.1).

A small job is done by this process itself. A large one is done by workers, and this process only sends, commits and
tells; whoever is lost on an errand loses that errand, and nothing else.
"""

from collections.abc import Iterable
from contextlib import closing

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Failure
from job.engine.context import PairContext, PairRun, volumes_of
from job.engine.copy.actions import MirrorLost
from job.engine.copy.adoption import Exchange
from job.engine.copy.commit import Commit
from job.engine.copy.folder import FolderSync
from job.engine.dispatch.hardlinks import HardLinks, LinkResolver
from job.engine.dispatch.pool import WorkerGone, WorkerSupervisor
from job.engine.dispatch.queue import WorkQueue
from job.engine.messages import BatchResult, IndexLookup, WorkerError, WorkerProgress, WorkerStopped, WorkItem
from job.engine.progress import Progress
from job.engine.scan import ScanResult
from job.errors import Stopped
from job.events.service import BatchCommitted, FileFailed
from job.store.hardlinks import HardLinkTable

_AHEAD = 4
"""Errands a worker has before it, so that it neither waits nor commits before its batch is full."""
_WORTH_BYTES = 256 << 20
"""Content that is worth workers, however few files it is in."""
_PATIENCE_NS = 3_500_000_000
"""How long a stop waits for what workers have to say; the service has five seconds."""


class Dispatcher:
    """Acts on what a look found for one pair. Not to be used again after `run`."""

    def __init__(self, context: PairContext, run: PairRun, progress: Progress) -> None:
        self._context = context
        self._run = run
        self._progress = progress
        self._commit = Commit(context.index, context.sync, run, context.recheck_roots, context.mounted)
        self._out: dict[int, dict[int, set[bytes]]] = {}
        self._unvisited: dict[int, int] = {}

    def run(self, found: ScanResult, supervisor: WorkerSupervisor | None = None) -> None:
        """Bring the changed folders up to date and commit. Raises `Stopped` or `RootLost`, with temps thrown away."""
        context = self._context
        roots = context.source_root, context.mirror_root
        with closing(HardLinkTable()) as table, closing(LinkResolver(context.source, roots)) as resolver:
            known = IndexLookup(context.index, [context.mirror, *(each.mirror for each in context.mounted)])
            volumes = volumes_of(context, self._run.pair)
            hard_links = HardLinks(table, known, lambda path: volumes.at(path).options_key, resolver)
            with closing(Exchange(context, self._run, self._commit)) as exchange:
                self._go(found, WorkQueue(found, known, hard_links, roots, exchange), supervisor)

    def _go(self, found: ScanResult, queue: WorkQueue, supervisor: WorkerSupervisor | None) -> None:
        with closing(queue):
            if supervisor is not None and self._is_worth(found, supervisor):
                self._send_out(queue, supervisor)
            self._do(queue)

    @staticmethod
    def _is_worth(found: ScanResult, supervisor: WorkerSupervisor) -> bool:
        entries = found.entries_to_sync + len(found.changed)
        return entries >= supervisor.min_entries or found.bytes_to_sync >= _WORTH_BYTES

    def _do(self, queue: WorkQueue) -> None:
        def deliver(batch: BatchResult) -> None:
            self._take_in([batch], queue)

        folder_sync = FolderSync(self._context, self._run, self._progress, deliver)
        with folder_sync.at_work():
            while True:
                item = self._next(queue)
                if item is not None:
                    folder_sync.go(item)
                elif queue.out:
                    folder_sync.finish()  # which may bring more to do
                else:
                    return

    def _next(self, queue: WorkQueue) -> WorkItem | None:
        item = queue.take()
        if item is not None:
            self._commit.given = item.number
        return item

    def _take_in(self, batches: list[BatchResult], queue: WorkQueue) -> None:
        for batch in self._commit(batches) if batches else []:
            queue.heard(batch)

    # With workers ----------------------------------------------------------------------------------------------------

    def _send_out(self, queue: WorkQueue, supervisor: WorkerSupervisor) -> None:
        supervisor.start(supervisor.most)
        while not supervisor.exhausted:
            if self._run.stop():
                self._stop(queue, supervisor)
            for ahead in range(1, _AHEAD + 1):
                for slot in supervisor.ready:
                    self._supply(slot, queue, supervisor, ahead)
            if not queue.out and (supervisor.ready or not supervisor.starting):
                return
            self._hear(queue, supervisor)

    def _supply(self, slot: int, queue: WorkQueue, supervisor: WorkerSupervisor, ahead: int) -> None:
        out = self._out.setdefault(slot, {})
        if self._unvisited.setdefault(slot, 0) < ahead and (item := self._next(queue)):
            out[item.number] = {task.path for task in item.tasks}
            self._unvisited[slot] += 1
            supervisor.submit(slot, item)

    def _hear(self, queue: WorkQueue, supervisor: WorkerSupervisor) -> None:
        batches: list[BatchResult] = []
        broken: WorkerError | None = None
        for slot, answer in supervisor.poll():
            self._progress.bytes_copied(0)  # only who is heard gives a sign of life
            match answer:
                case BatchResult():
                    batches.append(answer)
                    self._note(slot, answer)
                case WorkerProgress():
                    self._progress.worker_progress(answer.entries, answer.bytes)
                    self._unvisited[slot] -= bool(answer.visited)
                case WorkerGone():
                    self._lose(slot, answer.how, queue)
                case WorkerStopped():
                    self._out.pop(slot, None)
                case WorkerError():
                    broken = answer
                case _:
                    raise AssertionError(answer)
        self._take_in(batches, queue)
        if broken is not None:
            raise MirrorLost(broken.error, hint=broken.hint)

    def _note(self, slot: int, batch: BatchResult) -> None:
        out = self._out.get(slot, {})
        for number in batch.ended:
            out.pop(number, None)
        done = {folder.path for folder in batch.folders}
        for paths in out.values():
            paths.difference_update(done)

    def _lose(self, slot: int, how: str, queue: WorkQueue) -> None:
        lost = self._out.pop(slot, {})
        self._unvisited.pop(slot, None)
        self._fail(dict.fromkeys(path for paths in lost.values() for path in sorted(paths)), how)
        queue.ended(lost)

    def _fail(self, paths: Iterable[bytes], how: str) -> None:
        cycle_id, pair = self._run.cycle_id, self._run.pair.name
        failed = 0
        for path in paths:
            failed += 1
            told = f"the worker that was sent there is lost: {how}; the next cycle does it again"
            self._run.emit(
                FileFailed(
                    cycle_id=cycle_id,
                    pair=pair,
                    path=path,
                    kind=Kind.FOLDER,
                    reason=Failure.WORKER_LOST,
                    error=told,
                )
            )
        if failed:
            tally = Tally(failed_by={Failure.WORKER_LOST: failed})
            self._run.emit(BatchCommitted(cycle_id=cycle_id, pair=pair, tally=tally))

    def _stop(self, queue: WorkQueue, supervisor: WorkerSupervisor) -> None:
        supervisor.stop()
        began_ns = self._run.now_ns()
        while any(self._out.values()) and abs(self._run.now_ns() - began_ns) < _PATIENCE_NS:
            self._hear(queue, supervisor)
        raise Stopped("stopped while workers were out")
