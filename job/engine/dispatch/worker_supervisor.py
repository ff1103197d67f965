"""Supervise the worker pool of a pair: submit tasks, poll answers, replace lost workers, kill silent ones."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from job.engine.context import PairRun
from job.engine.scan import ScanReply
from job.errors import JobError
from job.events.pair import CycleStalled, WorkerLost, WorkersAwaited

if TYPE_CHECKING:
    from job.system.processes import WorkerPool

_MOST_REPLACED = 16
"""Losses after which no worker is replaced: one cause then kills them all."""
WAIT_SECONDS = 0.2
"""Longest wait for an answer, in seconds: a stop is noticed that soon."""


class WorkerError(NamedTuple):
    """From a worker: the pair cannot go on (`fatal`), or the worker met a bug and ends."""

    error: str
    hint: str
    fatal: bool


class WorkerReady(NamedTuple):
    """From a worker: it can take tasks."""


class WorkerGone(NamedTuple):
    """In place of an answer: the worker is lost, with every task that it had not answered."""

    how: str
    stuck: bool = False
    """Whether it hung: another worker with the same task would hang, too."""


class AllStuckError(JobError):
    """Every worker hung; the main process must not read or write where they did."""


class WorkerSupervisor:
    """Starts and replaces workers and reports losses. Use it with `contextlib.closing`."""

    def __init__(self, create_worker_pool: "Callable[[], WorkerPool]", run: PairRun) -> None:
        """`create_worker_pool` gives an empty pool; it is called before the first worker starts."""
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
        """The largest number of workers."""

    @property
    def _slots(self) -> list[int]:
        return self._pool.slots if self._pool else []

    @property
    def min_entries(self) -> int:
        """Entries from which a job is worth workers."""
        return self._run.workers_from

    @property
    def starting(self) -> bool:
        """Whether a started worker is not ready yet."""
        return len(self._ready) < len(self._slots)

    @property
    def ready(self) -> list[int]:
        """The slots that can be given tasks."""
        return [slot for slot in self._slots if slot in self._ready]

    @property
    def exhausted(self) -> bool:
        """Whether all workers are lost and none is replaced. Raises `AllStuckError` if the last one hung."""
        gone = self._wanted > 0 and not self._slots
        if gone and self._stuck:
            raise AllStuckError(
                f"no worker came back: {self._stuck}",
                hint="Look at the disks and servers of the source and the mirror; what was committed stays valid.",
            )
        return gone

    def start(self, count: int) -> None:
        """Start workers until there are `count`, as far as possible."""
        self._wanted = count
        if self._pool is None:
            self._pool = self._create_worker_pool()
        if self._lost < _MOST_REPLACED:
            self._pool.start(count)
        for slot in self._pool.slots:
            self._pending.setdefault(slot, 1)  # its `WorkerReady`

    def submit(self, slot: int, task: object) -> None:
        """Submit a task to a ready worker."""
        if self._pool is not None:
            self._pending[slot] += 1
            self._pool.submit(slot, task)

    def stop(self) -> None:
        """Ask all workers to end soon; none is replaced from now on."""
        self._lost = _MOST_REPLACED
        if self._pool is not None:
            self._pool.stop()

    def close(self) -> None:
        """End all workers."""
        if self._pool is not None:
            self._pool.close()

    def poll(self, seconds: float = WAIT_SECONDS) -> list[tuple[int, object]]:
        """Wait at most `seconds` for answers; `WorkerGone` stands for a lost worker, which is reported and replaced."""
        if self._pool is None:
            return []
        began = time.monotonic()
        answers = self._pool.poll(seconds)
        # This process itself may have been stopped meanwhile, which must not count as a worker's silence.
        waited = min(time.monotonic() - began, 2 * seconds)
        results: list[tuple[int, object]] = []
        for slot, answer in answers:
            self._count_answer(slot, answer)
            how = getattr(answer, "how", None)
            if isinstance(answer, WorkerReady):
                self._ready.add(slot)
            elif isinstance(answer, WorkerError) and not answer.fatal:
                self._errors[slot] = answer.error
            elif isinstance(how, str):
                results.append((slot, self._gone(slot, how)))
            else:
                results.append((slot, answer))
        if not answers and waited:
            self._run.emit(WorkersAwaited(**self._run.about))
        return results + self._kill_silent(waited)

    def _count_answer(self, slot: int, answer: object) -> None:
        self._silent_seconds[slot] = 0.0
        is_one = isinstance(answer, WorkerReady | ScanReply)
        self._pending[slot] -= 1 if is_one else len(getattr(answer, "ended", ()))  # of a `BatchResult`

    def _kill_silent(self, waited: float) -> list[tuple[int, object]]:
        """Kill the workers that have tasks and were silent for too long."""
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
        self._lost = _MOST_REPLACED  # a replacement would hang at the same place
        self._run.emit(
            CycleStalled(
                **self._run.about,
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
            self._lost = _MOST_REPLACED  # it died at its start, and so would the next one
        self._ready.discard(slot)
        error = self._errors.pop(slot, how)
        self._run.emit(WorkerLost(**self._run.about, error=error))
        self.start(self._wanted)
        return WorkerGone(error.rstrip().rpartition("\n")[2])
