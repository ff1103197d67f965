"""Survey: a look at the whole source, with helpers once it turns out to be large.

Everybody holds whole subtrees and gives back what is left after a slice of time; so the work stays spread whatever
the tree looks like, and what a lost helper was given is known and looked at again.
"""

import errno
from collections import Counter
from collections.abc import Callable

from job.config.settings import Pair
from job.core.compressed_list import CompressedList
from job.engine.dispatch.pool import WAIT_SECONDS, Gone, WorkerSupervisor
from job.engine.messages import ScanReply, ScanRequest
from job.engine.scan import Eyes, FolderScanner, Item, ScanDepth, ScanResult
from job.fs.listing import FolderScan, Unlisted, whole_fingerprint

_FOLDERS_AT_ONCE = 64
"""Folders that the leader looks at between two looks at its helpers."""
_AHEAD = 2
"""Tasks given to a helper, so that it never waits for the next one."""
_MOST_ITEMS = 256
_TIMES_CHEAPER = 5
"""Looking at an entry costs less than acting on it, and a helper is ready in the time of some 5,000: they pay later."""


def survey(
    eyes: Eyes,
    pair: Pair,
    notice: Callable[[ScanResult], None],
    care: ScanDepth,
    team: WorkerSupervisor | None = None,
    expected: int = 0,
) -> ScanResult:
    """Walk the source against the index, and the mirror as closely as `care` says.

    `notice` is called now and then with what was found so far; what it raises ends the look. Where so many entries are
    `expected`, helpers need not wait until they are found.
    """
    return _ParallelScan(eyes, pair, notice, care).run(team, expected)


class _ParallelScan:
    def __init__(self, eyes: Eyes, pair: Pair, notice: Callable[[ScanResult], None], care: ScanDepth) -> None:
        self._looker = FolderScanner(eyes, pair, care)
        self._notice = notice
        self._care = care
        self._found = ScanResult()
        self._waiting: CompressedList[Item] = CompressedList([(b"", 0)])
        self._again: list[Item] = []
        self._lost: Counter[Item] = Counter()
        self._given: dict[int, list[list[Item]]] = {}

    def run(self, team: WorkerSupervisor | None, expected: int) -> ScanResult:
        while self._waiting or self._again or any(self._given.values()):
            if self._waiting:
                self._look()
            if team is not None:
                self._share_out(team, expected)
                self._hear(team)
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
                self._notice(self._found)
            return looked_at >= _FOLDERS_AT_ONCE

        self._found.absorb(self._looker.go(self._waiting, is_over))
        self._notice(self._found)

    def _share_out(self, team: WorkerSupervisor, expected: int) -> None:
        if max(self._found.entries, self._found.folders, expected) < team.work_from * _TIMES_CHEAPER:
            return
        if not self._given and (self._waiting or self._again):
            team.start(team.most - 1)
        for slot in team.ready:
            given = self._given.setdefault(slot, [])
            while len(given) < _AHEAD and (items := self._some(len(team.ready) + 1)):
                given.append(items)
                team.submit(slot, ScanRequest(self._care, items))

    def _some(self, lookers: int) -> list[Item]:
        if self._again:
            return [self._again.pop()]
        # A single folder stays: its descriptors are open here.
        return self._waiting.take(lookers, _MOST_ITEMS) if len(self._waiting) > 1 else []

    def _hear(self, team: WorkerSupervisor) -> None:
        if not self._given and not team.awaited:
            return
        for slot, answer in team.poll(0.0 if self._waiting else WAIT_SECONDS):
            if isinstance(answer, ScanReply):
                self._given[slot].pop(0)
                self._found.absorb(answer.found)
                self._waiting.extend(answer.rest)
            elif isinstance(answer, Gone):
                self._look_again(self._given.pop(slot, []), answer)
        self._notice(self._found)
        if team.exhausted:
            self._waiting.extend(self._again)
            self._again.clear()

    def _look_again(self, given: list[list[Item]], gone: Gone) -> None:
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
                self._looker.judge(path, _joined(ordered), self._found)


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
