"""The worker supervisor: lost workers are reported and replaced, up to a limit; a worker that dies at once is not."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from job.engine.context import PairRun
from job.engine.dispatch import worker_supervisor
from job.engine.dispatch.worker_supervisor import WorkerError, WorkerGone, WorkerReady, WorkerSupervisor
from job.events.base import Event
from job.events.pair import WorkerLost
from job.system.processes import WorkerPipe, WorkerPool
from tests.engine.workshop import Workshop

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are


def answer(post: WorkerPipe, _orders: object) -> None:
    """Be ready, and give back what comes."""
    post.send(WorkerReady())
    while (task := post.next()) is not None:
        post.send(task)


def die_of_a_task(post: WorkerPipe, _orders: object) -> None:
    post.send(WorkerReady())
    post.next()
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_once(_post: WorkerPipe, _orders: object) -> None:
    os._exit(3)


def tell_of_a_bug(post: WorkerPipe, _orders: object) -> None:
    post.send(WorkerReady())
    post.next()
    post.send(WorkerError("Traceback (most recent call last):\n  File x\nRuntimeError: of a kind\n", "", fatal=False))
    raise SystemExit(1)


def lose_the_mirror(post: WorkerPipe, _orders: object) -> None:
    post.send(WorkerReady())
    post.send(WorkerError("it turned read-only", "look at it", fatal=True))
    post.next()


class Watched:
    """A team of workers that do one thing, and what it told."""

    def __init__(self, shop: Workshop, work: Callable[..., None], most: int) -> None:
        self.told: list[Event] = []
        run = PairRun("cycle", shop.pair, self.told.append, bool, shop.now_ns, workers=most)
        self.supervisor = WorkerSupervisor(lambda: WorkerPool(work, int, most), run)

    @property
    def losses(self) -> list[str]:
        return [event.error for event in self.told if isinstance(event, WorkerLost)]

    def ready(self, count: int) -> None:
        while len(self.supervisor.ready) < count:
            assert self.supervisor.poll() == []

    def poll(self, count: int) -> list[tuple[int, object]]:
        heard: list[tuple[int, object]] = []
        while len(heard) < count:
            heard += self.supervisor.poll()
        return heard


Gather = Callable[..., Watched]


@pytest.fixture
def gathered(shop: Workshop) -> Iterator[Gather]:
    """Give a function that gathers a team."""
    with ExitStack() as tidy:

        def gather(work: Callable[..., None], most: int = 2) -> Watched:
            watched = Watched(shop, work, most)
            tidy.enter_context(closing(watched.supervisor))
            return watched

        yield gather


def test_nobody_is_asked_before_somebody_is_needed(gathered: Gather) -> None:
    watched = gathered(answer)

    assert (watched.supervisor.ready, watched.supervisor.starting, watched.supervisor.exhausted) == ([], False, False)
    assert watched.supervisor.poll() == []
    watched.supervisor.stop()


def test_who_is_hired_is_awaited_until_ready(gathered: Gather) -> None:
    watched = gathered(answer)
    watched.supervisor.start(2)
    before = watched.supervisor.starting
    watched.ready(2)
    watched.supervisor.submit(1, "task")

    assert (before, watched.supervisor.starting) == (True, False)
    assert watched.supervisor.ready == [1, 2]
    assert watched.poll(1) == [(1, "task")]


def test_who_dies_of_a_task_is_told_and_replaced(gathered: Gather) -> None:
    watched = gathered(die_of_a_task)
    watched.supervisor.start(2)
    watched.ready(2)
    watched.supervisor.submit(2, "task")

    assert watched.poll(1) == [(2, WorkerGone("it was killed by SIGKILL"))]
    watched.ready(2)
    assert watched.losses == ["it was killed by SIGKILL"]
    assert watched.supervisor.ready == [1, 3]


def test_after_so_many_losses_nobody_is_replaced_any_more(gathered: Gather) -> None:
    watched = gathered(die_of_a_task)
    watched.supervisor.start(2)
    while not watched.supervisor.exhausted:
        for slot in watched.supervisor.ready:
            watched.supervisor.submit(slot, "task")
        watched.supervisor.poll()
    watched.supervisor.start(2)

    assert worker_supervisor._MOST_REPLACED <= len(watched.losses) <= worker_supervisor._MOST_REPLACED + 2
    assert watched.supervisor.exhausted


def test_who_dies_before_being_ready_is_told_and_nobody_is_hired_after_that(gathered: Gather) -> None:
    watched = gathered(die_at_once, 3)
    watched.supervisor.start(3)
    while not watched.supervisor.exhausted:
        watched.supervisor.poll()

    assert watched.losses == ["it ended with exit code 3"] * 3


def test_a_bug_is_told_whole_once_and_in_short_to_who_asked(gathered: Gather) -> None:
    watched = gathered(tell_of_a_bug, 1)
    watched.supervisor.start(1)
    watched.ready(1)
    watched.supervisor.submit(1, "task")

    assert watched.poll(1) == [(1, WorkerGone("RuntimeError: of a kind"))]
    assert watched.losses == ["Traceback (most recent call last):\n  File x\nRuntimeError: of a kind\n"]


def test_what_is_no_bug_is_for_who_asked_to_judge(gathered: Gather) -> None:
    watched = gathered(lose_the_mirror, 1)
    watched.supervisor.start(1)

    assert watched.poll(1) == [(1, WorkerError("it turned read-only", "look at it", fatal=True))]
    assert watched.losses == []


def test_who_is_lost_after_a_stop_is_not_replaced(gathered: Gather) -> None:
    watched = gathered(die_of_a_task)
    watched.supervisor.start(2)
    watched.ready(2)
    watched.supervisor.stop()
    watched.supervisor.submit(1, "task")

    assert watched.poll(1) == [(1, WorkerGone("it was killed by SIGKILL"))]
    assert (watched.supervisor.ready, watched.supervisor.starting) == ([2], False)
