"""The team: the worker processes of a pair as the tasks see them. Who is lost is told, and replaced a few times."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from job.engine.context import PairRun
from job.engine.messages import BatchResult, ScanReply, WorkerError, WorkerReady
from job.errors import JobError
from job.events.service import CycleStalled, WorkerLost, WorkersAwaited

if TYPE_CHECKING:
    from job.system.processes import WorkerPool

_MOST_REPLACED = 16
"""Losses after which nobody is hired any more: what kills so many kills all."""
WAIT_SECONDS = 0.2
"""Longest wait for an answer: how soon a stop is noticed."""


class WorkerGone(NamedTuple):
    """Instead of an answer: the worker is lost, with everything it was given and had not answered."""

    how: str
    stuck: bool = False
    """Whether it hung: whoever does the same will hang, too."""


class AllStuckError(JobError):
    """Every worker hung at its work: the main process must not go where they went."""


class WorkerSupervisor:
    """Hires, listens, and tells of losses. Use it with `contextlib.closing`."""

    def __init__(self, create_worker_pool: "Callable[[], WorkerPool]", run: PairRun) -> None:
        """`create_worker_pool` gives the crew, with nobody in it yet; it is asked when somebody is needed."""
        self._create_worker_pool = create_worker_pool
        self._run = run
        self._pool: WorkerPool | None = None
        self._ready: set[int] = set()
        self._errors: dict[int, str] = {}
        self._wanted = 0
        self._lost = 0
        self._pending: dict[int, int] = {}
        self._silent_seconds: dict[int, float] = {}
        self._stuck = ""
        self.most = run.workers
        """How many workers there may be."""

    @property
    def _slots(self) -> list[int]:
        return self._pool.slots if self._pool else []

    @property
    def min_entries(self) -> int:
        """Entries of a job from which workers pay."""
        return self._run.workers_from

    @property
    def starting(self) -> bool:
        """Whether somebody hired is not ready yet."""
        return len(self._ready) < len(self._slots)

    @property
    def ready(self) -> list[int]:
        """Those who can be given something."""
        return [slot for slot in self._slots if slot in self._ready]

    @property
    def exhausted(self) -> bool:
        """Whether workers are wanted and there will be none. Raises `AllStuckError` if the last one hung."""
        gone = self._wanted > 0 and not self._slots
        if gone and self._stuck:
            raise AllStuckError(
                f"no worker came back: {self._stuck}",
                hint="Look at the disks and servers of the source and the mirror; what was committed stays valid.",
            )
        return gone

    def start(self, count: int) -> None:
        """Have so many workers, as far as possible."""
        self._wanted = count
        if self._pool is None:
            self._pool = self._create_worker_pool()
        if self._lost < _MOST_REPLACED:
            self._pool.start(count)
        for slot in self._pool.slots:
            self._pending.setdefault(slot, 1)  # to be ready

    def submit(self, slot: int, task: object) -> None:
        """Give a ready worker a task."""
        if self._pool is not None:
            self._pending[slot] += 1
            self._pool.submit(slot, task)

    def stop(self) -> None:
        """Ask all to end what they do soon; nobody is replaced any more."""
        self._lost = _MOST_REPLACED
        if self._pool is not None:
            self._pool.stop()

    def close(self) -> None:
        """Let all go."""
        if self._pool is not None:
            self._pool.close()

    def poll(self, seconds: float = WAIT_SECONDS) -> list[tuple[int, object]]:
        """Wait, at most so long, for answers; a lost worker's is `WorkerGone`, told and replaced already."""
        if self._pool is None:
            return []
        began = time.monotonic()
        answers = self._pool.poll(seconds)
        # No more than that: this process itself may have been stopped meanwhile.
        waited = min(time.monotonic() - began, 2 * seconds)
        heard: list[tuple[int, object]] = []
        for slot, answer in answers:
            self._note(slot, answer)
            how = getattr(answer, "how", None)
            if isinstance(answer, WorkerReady):
                self._ready.add(slot)
            elif isinstance(answer, WorkerError) and not answer.fatal:
                self._errors[slot] = answer.error
            elif isinstance(how, str):
                heard.append((slot, self._gone(slot, how)))
            else:
                heard.append((slot, answer))
        if not answers and waited:
            self._run.emit(WorkersAwaited(cycle_id=self._run.cycle_id, pair=self._run.pair.name))
        return heard + self._kill_silent(waited)

    def _note(self, slot: int, answer: object) -> None:
        self._silent_seconds[slot] = 0.0
        match answer:
            case WorkerReady() | ScanReply():
                self._pending[slot] -= 1
            case BatchResult():
                self._pending[slot] -= len(answer.ended)
            case _:
                pass

    def _kill_silent(self, waited: float) -> list[tuple[int, object]]:
        """Give up on those who have something to do, and have let us wait for too long."""
        stuck: list[tuple[int, object]] = []
        limit = self._run.stall_seconds
        for slot in self._slots if limit else ():
            if self._pending[slot] <= 0:
                self._silent_seconds[slot] = 0.0
                continue
            self._silent_seconds[slot] = self._silent_seconds.get(slot, 0.0) + waited
            if self._silent_seconds[slot] >= limit:
                stuck.append((slot, self._kill(slot)))
        return stuck

    def _kill(self, slot: int) -> WorkerGone:
        if self._pool is None:
            raise AssertionError
        left = self._pool.kill(slot)
        self._lost = _MOST_REPLACED  # who takes its place would hang at the same
        self._run.emit(
            CycleStalled(
                cycle_id=self._run.cycle_id,
                pair=self._run.pair.name,
                process=f"worker {left.process}",
                stalled_seconds=self._silent_seconds[slot],
                where=left.where,
                doing=left.doing,
            )
        )
        end = "it was killed" if left.dead else "it cannot be killed, and holds the mirror's lock until it ends"
        self._stuck = f"it hung for {self._silent_seconds[slot]:.0f} seconds{left.where and ' at '}{left.where}; {end}"
        return self._gone(slot, self._stuck)._replace(stuck=True)

    def _gone(self, slot: int, how: str) -> WorkerGone:
        self._lost += 1
        if slot not in self._ready:
            self._lost = _MOST_REPLACED  # it died of itself, not of its work, and so would the next one
        self._ready.discard(slot)
        told = self._errors.pop(slot, how)
        self._run.emit(WorkerLost(cycle_id=self._run.cycle_id, pair=self._run.pair.name, error=told))
        self.start(self._wanted)
        return WorkerGone(told.rstrip().rpartition("\n")[2])
