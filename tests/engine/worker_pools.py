"""Worker pools whose workers die at a given task, and counts of what each worker did."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial

from job.app import worker_main
from job.engine.messages import BatchResult, WorkItem
from job.engine.scan import ScanReply, ScanRequest
from job.system.processes import WorkerPipe, WorkerPool

Serve = Callable[[WorkerPipe, worker_main.Orders], None]
Kind = type[ScanRequest] | type[WorkItem]


def dying(serve: Serve, fatal: tuple[Kind, int, bool], post: WorkerPipe, orders: worker_main.Orders) -> None:
    """Work as ever until so many tasks of a kind are taken up; the first one dies of it, or everybody."""
    kind, at, again = fatal
    dies = again or orders.slot == 1
    left = iter(range(at - 1))
    real = post.next

    def take() -> object:
        task = real()
        if dies and isinstance(task, kind) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    vars(post)["next"] = take
    serve(post, orders)


def never_ready(_post: WorkerPipe, _orders: worker_main.Orders) -> None:
    os._exit(3)


def with_a_bug(post: WorkerPipe, orders: worker_main.Orders) -> None:
    """Meet a bug at the first task."""

    def take() -> object:
        raise RuntimeError("nobody expected this")

    vars(post)["next"] = take
    worker_main.serve(post, orders)


def die_at(kind: Kind, at: int, *, again: bool = False) -> Callable[[WorkerPool], None]:
    """Have the first worker die when it takes up its `at`-th task of a kind, or all, `again` and again."""

    def prepare(pool: WorkerPool) -> None:
        pool._work = partial(dying, pool._work, (kind, at, again))

    return prepare


def replace_by(work: Callable[..., None]) -> Callable[[WorkerPool], None]:
    """Have workers do something else."""

    def prepare(pool: WorkerPool) -> None:
        pool._work = work

    return prepare


def count_in(who: Counter[int]) -> Callable[[WorkerPool], None]:
    """Count the entries that each worker brought word of, looked at or placed."""

    def prepare(pool: WorkerPool) -> None:
        real = pool.poll

        def poll(seconds: float) -> list[tuple[int, object]]:
            heard = real(seconds)
            for slot, answer in heard:
                if isinstance(answer, BatchResult):
                    who[slot] += answer.tally.entries
                elif isinstance(answer, ScanReply):
                    who[slot] += answer.found.entries
            return heard

        vars(pool)["poll"] = poll

    return prepare
