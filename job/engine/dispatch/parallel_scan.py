"""Scan the whole source tree, with workers once it turns out to be large.

Work is handed out as whole subtrees; a worker returns the unscanned rest after a slice of time, so the load is even for
any shape of tree. The folders of a lost worker are scanned again.
"""

import errno
from collections import Counter
from collections.abc import Callable

from job.config.settings import Pair
from job.core.compressed_list import CompressedList
from job.engine.dispatch.worker_supervisor import WAIT_SECONDS, WorkerGone, WorkerSupervisor
from job.engine.scan import FolderScanner, ScanContext, ScanDepth, ScanItem, ScanReply, ScanRequest, ScanResult
from job.fs.listing import FolderScan, Unlisted, whole_fingerprint

_FOLDERS_AT_ONCE = 64
"""Folders that the main process scans between two polls of its workers."""
_AHEAD = 2
"""Tasks that a worker has waiting, so that it never idles."""
_MOST_ITEMS = 256
_TIMES_CHEAPER = 5
"""Scanning an entry is cheaper than syncing it: a worker starts in the time of some 5,000, so it pays later."""


def scan_tree(
    context: ScanContext,
    pair: Pair,
    report_progress: Callable[[ScanResult], None],
    depth: ScanDepth,
    supervisor: WorkerSupervisor | None = None,
    expected: int = 0,
) -> ScanResult:
    """Compare the source tree with the index, and the mirror as closely as `depth` says.

    `report_progress` is called with the result so far, a few times a second; an exception of it ends the scan. Where
    `expected` entries are many enough for workers, they are started at once.
    """
    return _TreeScan(context, pair, report_progress, depth).run(supervisor, expected)


class _TreeScan:
    def __init__(
        self, context: ScanContext, pair: Pair, report_progress: Callable[[ScanResult], None], depth: ScanDepth
    ) -> None:
        self._scanner = FolderScanner(context, pair, depth)
        self._report_progress = report_progress
        self._depth = depth
        self._found = ScanResult()
        self._waiting: CompressedList[ScanItem] = CompressedList([(b"", 0)])
        self._retry: list[ScanItem] = []
        self._lost: Counter[ScanItem] = Counter()
        self._assigned: dict[int, list[list[ScanItem]]] = {}

    def run(self, supervisor: WorkerSupervisor | None, expected: int) -> ScanResult:
        while self._waiting or self._retry or any(self._assigned.values()):
            if self._waiting:
                self._scan_slice()
            if supervisor is not None:
                self._distribute(supervisor, expected)
                self._poll(supervisor)
            elif self._retry:
                self._waiting.append(self._retry.pop())
        self._judge_shares()
        return self._found

    def _scan_slice(self) -> None:
        scanned = 0

        def is_time_up() -> bool:
            nonlocal scanned
            scanned += 1
            if scanned % 16 == 0:
                self._report_progress(self._found)
            return scanned >= _FOLDERS_AT_ONCE

        self._found.merge(self._scanner.scan(self._waiting, is_time_up))
        self._report_progress(self._found)

    def _distribute(self, supervisor: WorkerSupervisor, expected: int) -> None:
        if max(self._found.entries, self._found.folders, expected) < supervisor.min_entries * _TIMES_CHEAPER:
            return
        if not self._assigned and (self._waiting or self._retry):
            supervisor.start(supervisor.most - 1)
        for slot in supervisor.ready:
            assigned = self._assigned.setdefault(slot, [])
            while len(assigned) < _AHEAD and (items := self._next_items(len(supervisor.ready) + 1)):
                assigned.append(items)
                supervisor.submit(slot, ScanRequest(self._depth, items))

    def _next_items(self, scanners: int) -> list[ScanItem]:
        if self._retry:
            return [self._retry.pop()]
        # A single folder stays in this process, which has the descriptors on its path open.
        return self._waiting.take(scanners, _MOST_ITEMS) if len(self._waiting) > 1 else []

    def _poll(self, supervisor: WorkerSupervisor) -> None:
        if not self._assigned and not supervisor.starting:
            return
        for slot, answer in supervisor.poll(0.0 if self._waiting else WAIT_SECONDS):
            if isinstance(answer, ScanReply):
                self._assigned[slot].pop(0)
                self._found.merge(answer.found)
                self._waiting.extend(answer.rest)
            elif isinstance(answer, WorkerGone):
                self._retry_lost(self._assigned.pop(slot, []), answer)
        self._report_progress(self._found)
        if supervisor.exhausted:
            self._waiting.extend(self._retry)
            self._retry.clear()

    def _retry_lost(self, assigned: list[list[ScanItem]], gone: WorkerGone) -> None:
        for item in (item for items in assigned for item in items):
            self._lost[item] += 1
            if self._lost[item] == 1 and not gone.stuck:
                self._retry.append(item)
            else:
                times = "" if gone.stuck else " twice"
                error = OSError(errno.EIO, f"the worker that scanned it was lost{times}: {gone.how}")
                self._found.unlisted.append(Unlisted(item[0], error))

    def _judge_shares(self) -> None:
        shares: dict[bytes, dict[int, FolderScan]] = {}
        for path, number, seen in self._found.shares:
            shares.setdefault(path, {})[number] = seen
        self._found.shares.clear()
        for path, known in shares.items():
            if 0 in known and len(known) == known[0].shares:
                ordered = [known[number] for number in range(len(known))]
                self._scanner.classify(path, _merge_shares(ordered), self._found)


def _merge_shares(shares: list[FolderScan]) -> FolderScan:
    return FolderScan(
        whole_fingerprint([each.fingerprint for each in shares]),
        [],
        sum(each.entries for each in shares),
        sum(each.bytes for each in shares),
        sum(each.unreadable for each in shares),
        len(shares),
        huge=True,
        salt=shares[0].salt,
    )
