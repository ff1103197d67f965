"""Sync the changed folders of one pair and commit the results.

A small job runs in this process. For a large one workers sync, and this process dispatches, commits and reports. A lost
worker loses its items, and nothing else.
"""

from contextlib import closing
from typing import TYPE_CHECKING

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Failure
from job.engine.context import PairContext, PairRun, Progress
from job.engine.copy.actions import MirrorLost
from job.engine.copy.adoption import Exchange
from job.engine.copy.commit import Commit
from job.engine.copy.folder import FolderSync
from job.engine.dispatch.hardlink_dispatch import HardLinks, LinkResolver
from job.engine.dispatch.queue import WorkQueue
from job.engine.dispatch.worker_supervisor import WorkerError, WorkerGone, WorkerSupervisor
from job.engine.messages import BatchResult, IndexLookup, WorkerProgress, WorkerStopped, WorkItem
from job.engine.scan import ScanResult
from job.engine.volumes import volumes_of
from job.errors import Stopped
from job.events.pair import BatchCommitted, FileFailed, OrphansCounted
from job.store.hardlink_table import HardLinkTable

if TYPE_CHECKING:
    from job.engine.brake.hold import Hold

_AHEAD = 4
"""Items that a worker has waiting, so that it neither idles nor commits before its batch is full."""
_WORTH_BYTES = 256 << 20
"""Content that is worth workers, however few files it is in."""
_PATIENCE_NS = 3_500_000_000
"""How long a stop waits for the answers of workers; the service has five seconds."""


class Dispatcher:
    """Syncs the changed folders of a scan. For a single `run`."""

    def __init__(self, context: PairContext, run: PairRun, progress: Progress) -> None:
        self._context = context
        self._run = run
        self._progress = progress
        self._commit = Commit(
            context.index, context.tools.sync, run, context.recheck_roots, context.tools.mounted, self._reclaim
        )
        self._assigned: dict[int, dict[int, set[bytes]]] = {}
        self._unsynced: dict[int, int] = {}
        self._hold: Hold | None = None

    def _reclaim(self) -> bool:
        if self._hold is not None and self._hold.is_on:
            return False  # what a hold may be about is not given up for new files
        from job.engine.versions.give_up import reclaim_for_index  # noqa: PLC0415  # few disks are full

        return reclaim_for_index(self._context, self._run)

    def run(
        self, found: ScanResult, supervisor: WorkerSupervisor | None = None, hold: "Hold | None" = None
    ) -> "Hold | None":
        """Sync and commit the changed folders, but for what is held; returns that.

        Raises `Stopped` or `RootLost`, with all temps removed.
        """
        context, self._hold = self._context, hold
        roots = context.source_root, context.mirror_root
        with closing(HardLinkTable()) as table, closing(LinkResolver(context.source, roots)) as resolver:
            lookup = IndexLookup(context.index, [context.mirror, *(each.mirror for each in context.tools.mounted)])
            volumes = volumes_of(context.tools, context.mirror, self._run.pair, self._run.now_ns)
            hard_links = HardLinks(table, lookup, lambda path: volumes.at(path).options_key, resolver)
            with closing(Exchange(context, self._run, self._commit, lambda: self._hold)) as exchange:
                self._run_queue(found, WorkQueue(found, lookup, hard_links, roots, exchange), supervisor)
        if context.index.has_changed_orphans:
            files, size = context.index.orphans.extent()
            self._run.emit(OrphansCounted(**self._run.about, files=files, bytes=size))
        return self._hold

    def _run_queue(self, found: ScanResult, queue: WorkQueue, supervisor: WorkerSupervisor | None) -> None:
        with closing(queue):
            if supervisor is not None and self._is_worth(found, supervisor):
                self._dispatch(queue, supervisor)
            self._sync_here(queue)

    @staticmethod
    def _is_worth(found: ScanResult, supervisor: WorkerSupervisor) -> bool:
        entries = found.entries_to_sync + len(found.changed)
        return entries >= supervisor.min_entries or found.bytes_to_sync >= _WORTH_BYTES

    def _sync_here(self, queue: WorkQueue) -> None:
        def deliver(batch: BatchResult) -> None:
            self._commit_batches([batch], queue)

        folder_sync = FolderSync(self._context, self._run, self._progress, deliver)
        with folder_sync.at_work():
            while True:
                item = self._next_item(queue)
                if item is not None:
                    folder_sync.go(item)
                elif queue.is_busy:
                    folder_sync.finish()  # its followups may add items
                else:
                    return

    def _next_item(self, queue: WorkQueue) -> WorkItem | None:
        item = queue.next_item()
        if item is None:
            return None
        self._commit.given = item.number
        return item if self._hold is None else self._hold.given(item)

    def _commit_batches(self, batches: list[BatchResult], queue: WorkQueue) -> None:
        for batch in self._commit(batches) if batches else []:
            queue.record_result(batch)
            if batch.held is not None and self._hold is None:
                from job.engine.brake.hold import Hold  # noqa: PLC0415  # contents became zeros

                self._hold = Hold.of_zeros(self._context, self._run)
            if self._hold is not None:
                self._hold.record(batch)

    # With workers ----------------------------------------------------------------------------------------------------

    def _dispatch(self, queue: WorkQueue, supervisor: WorkerSupervisor) -> None:
        supervisor.start(supervisor.most)
        while not supervisor.exhausted:
            if self._run.stop():
                self._stop(queue, supervisor)
            for ahead in range(1, _AHEAD + 1):
                for slot in supervisor.ready:
                    self._submit_next(slot, queue, supervisor, ahead)
            if not queue.is_busy and (supervisor.ready or not supervisor.starting):
                return
            self._poll(queue, supervisor)

    def _submit_next(self, slot: int, queue: WorkQueue, supervisor: WorkerSupervisor, ahead: int) -> None:
        items = self._assigned.setdefault(slot, {})
        if self._unsynced.setdefault(slot, 0) < ahead and (item := self._next_item(queue)):
            items[item.number] = {task.path for task in item.tasks}
            self._unsynced[slot] += 1
            supervisor.submit(slot, item)

    def _poll(self, queue: WorkQueue, supervisor: WorkerSupervisor) -> None:
        batches: list[BatchResult] = []
        broken: WorkerError | None = None
        for slot, answer in supervisor.poll():
            self._progress.bytes_copied(0)  # an answer is a sign of life
            match answer:
                case BatchResult():
                    batches.append(answer)
                    self._mark_done(slot, answer)
                case WorkerProgress():
                    self._progress.entry_done(answer.bytes, answer.entries)
                    self._unsynced[slot] -= bool(answer.item)
                case WorkerGone():
                    self._drop_worker(slot, answer.how, queue)
                case WorkerStopped():
                    self._assigned.pop(slot, None)
                case WorkerError():
                    broken = answer
                case _:
                    raise AssertionError(answer)
        self._commit_batches(batches, queue)
        if broken is not None:
            raise MirrorLost(broken.error, hint=broken.hint)

    def _mark_done(self, slot: int, batch: BatchResult) -> None:
        items = self._assigned.get(slot, {})
        for number in batch.ended:
            items.pop(number, None)
        done = {folder.path for folder in batch.folders}
        for paths in items.values():
            paths.difference_update(done)

    def _drop_worker(self, slot: int, how: str, queue: WorkQueue) -> None:
        lost = self._assigned.pop(slot, {})
        self._unsynced.pop(slot, None)
        if self._hold is not None:
            self._hold.miss()
        failed = dict.fromkeys(path for paths in lost.values() for path in sorted(paths))
        about, reason = self._run.about, Failure.WORKER_LOST
        error = f"its worker is lost: {how}; the next cycle syncs it again"
        for path in failed:
            self._run.emit(FileFailed(**about, path=path, kind=Kind.FOLDER, reason=reason, error=error))
        if failed:
            self._run.emit(BatchCommitted(**about, tally=Tally(failed_by={reason: len(failed)})))
        queue.record_done(lost)

    def _stop(self, queue: WorkQueue, supervisor: WorkerSupervisor) -> None:
        supervisor.stop()
        began_ns = self._run.now_ns()
        while any(self._assigned.values()) and abs(self._run.now_ns() - began_ns) < _PATIENCE_NS:
            self._poll(queue, supervisor)
        raise Stopped("stopped while workers were syncing")
