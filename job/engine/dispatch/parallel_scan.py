"""Survey: a look at the whole source, with helpers once it turns out to be large.

Everybody holds whole subtrees and gives back what is left after a slice of time; so the work stays spread whatever
the tree looks like, and what a lost helper was given is known and looked at again.
"""

import errno
from collections import Counter
from collections.abc import Callable

from job.config.settings import Pair
from job.core.compressed_list import CompressedList
from job.engine.dispatch.pool import WAIT_SECONDS, WorkerGone, WorkerSupervisor
from job.engine.messages import ScanReply, ScanRequest
from job.engine.scan import FolderScanner, ScanContext, ScanDepth, ScanItem, ScanResult
from job.fs.listing import FolderScan, Unlisted, whole_fingerprint

_FOLDERS_AT_ONCE = 64
"""Folders that the leader looks at between two looks at its helpers."""
_AHEAD = 2
"""Tasks given to a helper, so that it never waits for the next one."""
_MOST_ITEMS = 256
_TIMES_CHEAPER = 5
"""Looking at an entry costs less than acting on it, and a helper is ready in the time of some 5,000: they pay later."""


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
        self._again: list[ScanItem] = []
        self._lost: Counter[ScanItem] = Counter()
        self._given: dict[int, list[list[ScanItem]]] = {}

    def run(self, supervisor: WorkerSupervisor | None, expected: int) -> ScanResult:
        while self._waiting or self._again or any(self._given.values()):
            if self._waiting:
                self._look()
            if supervisor is not None:
                self._share_out(supervisor, expected)
                self._hear(supervisor)
            elif self._again:
                self._waiting.append(self._again.pop())
        self._judge_shares()
        return self._found

    def _look(self) -> None:
        looked_at = 0

        def is_over() -> bool:
            nonlocal looked_at
            looked_at += 1
            if looked_at % 16 == 0:
                self._report_progress(self._found)
            return looked_at >= _FOLDERS_AT_ONCE

        self._found.absorb(self._scanner.go(self._waiting, is_over))
        self._report_progress(self._found)

    def _share_out(self, supervisor: WorkerSupervisor, expected: int) -> None:
        if max(self._found.entries, self._found.folders, expected) < supervisor.min_entries * _TIMES_CHEAPER:
            return
        if not self._given and (self._waiting or self._again):
            supervisor.start(supervisor.most - 1)
        for slot in supervisor.ready:
            given = self._given.setdefault(slot, [])
            while len(given) < _AHEAD and (items := self._some(len(supervisor.ready) + 1)):
                given.append(items)
                supervisor.submit(slot, ScanRequest(self._depth, items))

    def _some(self, scanners: int) -> list[ScanItem]:
        if self._again:
            return [self._again.pop()]
        # A single folder stays: its descriptors are open here.
        return self._waiting.take(scanners, _MOST_ITEMS) if len(self._waiting) > 1 else []

    def _hear(self, supervisor: WorkerSupervisor) -> None:
        if not self._given and not supervisor.starting:
            return
        for slot, answer in supervisor.poll(0.0 if self._waiting else WAIT_SECONDS):
            if isinstance(answer, ScanReply):
                self._given[slot].pop(0)
                self._found.absorb(answer.found)
                self._waiting.extend(answer.rest)
            elif isinstance(answer, WorkerGone):
                self._look_again(self._given.pop(slot, []), answer)
        self._report_progress(self._found)
        if supervisor.exhausted:
            self._waiting.extend(self._again)
            self._again.clear()

    def _look_again(self, given: list[list[ScanItem]], gone: WorkerGone) -> None:
        for item in (item for items in given for item in items):
            self._lost[item] += 1
            if self._lost[item] == 1 and not gone.stuck:
                self._again.append(item)
            else:
                times = "" if gone.stuck else " twice"
                error = OSError(errno.EIO, f"who looked at it was lost{times}: {gone.how}")
                self._found.unlisted.append(Unlisted(item[0], error))

    def _judge_shares(self) -> None:
        shares: dict[bytes, dict[int, FolderScan]] = {}
        for path, number, seen in self._found.shares:
            shares.setdefault(path, {})[number] = seen
        self._found.shares.clear()
        for path, known in shares.items():
            if 0 in known and len(known) == known[0].shares:
                ordered = [known[number] for number in range(len(known))]
                self._scanner.judge(path, _joined(ordered), self._found)


def _joined(shares: list[FolderScan]) -> FolderScan:
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
