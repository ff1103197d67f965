"""Worker processes: they do what they are told, and whatever happens to one of them is heard, never waited for."""

import multiprocessing as mp
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.resource_tracker import ensure_running

import pytest

from job.system.processes import Descriptor, LostWorker, Timeouts, WorkerPool
from job.system.resources import MAIN_DESCRIPTORS, WORKER_DESCRIPTORS
from job.system.signals import HANDLED
from tests.conftest import open_descriptors
from tests.system.worker_programs import echo, fail, leave, never_end, read, talk, work_until_stopped

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no crew leave a process or a descriptor behind."""
    ensure_running()  # multiprocessing's own helper of fresh interpreters, which stays
    request.getfixturevalue("no_leak")
    yield
    assert mp.active_children() == []


@pytest.fixture(params=["forked", "fresh"])
def start(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have workers forked, as a one-shot run does, or started anew, as is done where there are threads."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    if request.param == "fresh":
        thread.start()
    yield request.param
    done.set()
    if request.param == "fresh":
        thread.join()


def heard(pool: WorkerPool, count: int) -> list[tuple[int, object]]:
    """Wait for so many answers."""
    answers: list[tuple[int, object]] = []
    deadline = time.monotonic() + PATIENCE
    while len(answers) < count:
        assert time.monotonic() < deadline, answers
        answers += pool.poll(0.2)
    return answers


def killed(pool: WorkerPool, slot: int, number: signal.Signals) -> None:
    pid = pool._processes[slot].pid
    assert pid is not None
    os.kill(pid, number)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("start")
def test_each_gets_its_orders_and_answers_its_tasks_in_order() -> None:
    with closing(WorkerPool(echo, lambda slot: f"orders {slot}", 3)) as pool:
        pool.start(2)
        orders = heard(pool, 2)
        for number in range(5):
            for slot in pool.slots:
                pool.submit(slot, (slot, number))
        answers = heard(pool, 10)

    assert sorted(orders) == [(1, "orders 1"), (2, "orders 2")]
    for slot in (1, 2):
        assert [answer for each, answer in answers if each == slot] == [(slot, number) for number in range(5)]


def test_no_more_are_hired_than_there_may_be() -> None:
    with closing(WorkerPool(echo, int, 2)) as pool:
        pool.start(5)
        pool.start(1)

        assert pool.slots == [1, 2]
        heard(pool, 2)


@pytest.mark.usefixtures("start")
def test_an_open_file_is_handed_over_and_stays_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("handed") / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file, closing(WorkerPool(read, lambda _: Descriptor(file.fileno()), 1)) as pool:
        pool.start(1)

        assert heard(pool, 1) == [(1, b"content")]


@pytest.mark.usefixtures("start")
def test_a_bug_in_a_worker_is_heard_as_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    with closing(WorkerPool(fail, lambda _: "nobody expected this", 1)) as pool:
        pool.start(1)
        answers = heard(pool, 1)

    assert answers == [(1, LostWorker("it ended with exit code 1"))]
    assert pool.slots == []
    assert "nobody expected this" in capfd.readouterr().err


def test_an_end_without_a_word_is_heard() -> None:
    with closing(WorkerPool(leave, lambda _: 42, 1)) as pool:
        pool.start(1)

        assert heard(pool, 1) == [(1, LostWorker("it ended with exit code 42"))]


@pytest.mark.usefixtures("start")
def test_a_killed_worker_is_heard_after_everything_it_said_and_can_be_replaced() -> None:
    with closing(WorkerPool(echo, lambda slot: slot, 2)) as pool:
        pool.start(2)
        heard(pool, 2)
        pool.submit(1, "said")
        until(pool._connections[1].poll)
        killed(pool, 1, signal.SIGKILL)
        answers = heard(pool, 2)
        pool.submit(2, "still here")
        pool.start(2)
        others = heard(pool, 2)

    assert answers == [(1, "said"), (1, LostWorker("it was killed by SIGKILL"))]
    assert sorted(others, key=str) == [(2, "still here"), (3, 3)]


def test_what_is_given_to_a_worker_that_died_meanwhile_is_lost_with_it() -> None:
    with closing(WorkerPool(echo, lambda _: "ready", 1)) as pool:
        pool.start(1)
        heard(pool, 1)
        killed(pool, 1, signal.SIGKILL)
        for _ in range(3):
            pool.submit(1, bytes(1 << 20))

        assert heard(pool, 1) == [(1, LostWorker("it was killed by SIGKILL"))]


@pytest.mark.usefixtures("start")
def test_large_messages_both_ways_at_once_wait_for_nobody() -> None:
    size = 8 << 20
    with closing(WorkerPool(talk, lambda _: (3, size), 2)) as pool:
        pool.start(2)
        for _ in range(3):
            for slot in pool.slots:
                pool.submit(slot, bytes(size))
        answers = heard(pool, 2 * 7)

    assert [len(answer) for _, answer in answers if isinstance(answer, bytes)] == [size] * 12


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize("number", sorted(HANDLED), ids=lambda number: number.name)
def test_signals_that_a_terminal_or_systemd_sends_to_everybody_change_nothing(number: signal.Signals) -> None:
    with closing(WorkerPool(echo, lambda _: "ready", 1)) as pool:
        pool.start(1)
        killed(pool, 1, number)  # perhaps before it even runs
        ready = heard(pool, 1)
        killed(pool, 1, number)
        pool.submit(1, "task")

        assert ready + heard(pool, 1) == [(1, "ready"), (1, "task")]


def test_our_own_signals_are_let_through_again() -> None:
    with closing(WorkerPool(echo, lambda _: "ready", 1)) as pool:
        pool.start(1)
        heard(pool, 1)

        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


@pytest.mark.usefixtures("start")
def test_a_stop_reaches_a_worker_that_is_busy() -> None:
    with closing(WorkerPool(work_until_stopped, lambda _: "ready", 2)) as pool:
        pool.start(2)
        heard(pool, 2)
        for slot in pool.slots:
            pool.submit(slot, "never looked at")
        pool.stop()

        assert sorted(heard(pool, 2)) == [(1, "stopped"), (2, "stopped")]


def test_whoever_does_not_go_is_killed() -> None:
    pool = WorkerPool(never_end, lambda _: "ready", 2, Timeouts(exit=0.1))
    pool.start(2)
    heard(pool, 2)
    pids = [process.pid for process in pool._processes.values()]

    pool.close()

    assert pool.slots == []
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


# Workers that are stopped, as by a debugger or a frozen container -----------------------------------------------------


def test_whoever_does_not_take_in_what_it_is_given_is_given_up() -> None:
    with closing(WorkerPool(echo, lambda _: "ready", 1, Timeouts(message=0.2, exit=0.1))) as pool:
        pool.start(1)
        heard(pool, 1)
        killed(pool, 1, signal.SIGSTOP)
        for _ in range(3):
            pool.submit(1, bytes(8 << 20))

        assert heard(pool, 1) == [(1, LostWorker("it did not answer any more and was killed"))]


def test_whoever_is_stopped_in_the_middle_of_an_answer_is_given_up() -> None:
    with closing(WorkerPool(talk, lambda _: (1, 64 << 20), 1, Timeouts(message=0.2, exit=0.1))) as pool:
        pool.start(1)
        until(pool._connections[1].poll)
        killed(pool, 1, signal.SIGSTOP)

        assert heard(pool, 1) == [(1, LostWorker("it did not answer any more and was killed"))]


def test_stopped_workers_are_let_go_all_in_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with closing(WorkerPool(echo, lambda _: "ready", 4, Timeouts(message=0.2, stop=0.2, killed=0.2))) as pool:
        pool.start(4)
        heard(pool, 4)
        for slot in pool.slots:
            killed(pool, slot, signal.SIGSTOP)
            pool.submit(slot, bytes(1 << 20))
        for process in pool._processes.values():
            monkeypatch.setattr(process, "join", listened(process.join, waits))
        pool.stop()

    to_go, to_die = waits[:4], waits[4:]
    assert len(to_go) == 4
    assert sum(to_go) <= 0.21
    assert to_die == sorted(to_die, reverse=True)  # for the same moment
    assert all(seconds <= 0.2 for seconds in to_die)


def listened(join: Callable[[float | None], None], waits: list[float]) -> Callable[[float | None], None]:
    """Note how long each wait may last."""

    def wait(seconds: float | None = None) -> None:
        if seconds is not None:
            waits.append(seconds)
        join(seconds)

    return wait


# Nothing to be had ----------------------------------------------------------------------------------------------------


@contextmanager
def limited(which: int, to: int) -> Iterator[None]:
    """Lower a soft limit of this process for a while."""
    before = resource.getrlimit(which)
    resource.setrlimit(which, (to, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def test_no_more_may_be_hired_than_there_are_descriptors_for() -> None:
    with limited(resource.RLIMIT_NOFILE, MAIN_DESCRIPTORS + 4 * WORKER_DESCRIPTORS):
        pool = WorkerPool(echo, lambda _: "ready", 64)

    assert pool.most == 3


def test_descriptors_that_run_out_all_the_same_leave_those_who_are_there() -> None:
    with (
        closing(WorkerPool(echo, lambda _: "ready", 64)) as pool,
        closing(WorkerPool(echo, lambda _: "ready", 64)) as other,
    ):
        pool.start(1)
        with limited(resource.RLIMIT_NOFILE, len(open_descriptors()) + 1):
            other.start(64)
            pool.start(2)
        assert (pool.slots, other.slots) == ([1], [])
        other.start(64)
        assert other.slots == [], "it is not tried again and again"
        heard(pool, 1)


@pytest.mark.usefixtures("start")
def test_crew_after_crew_leaves_nothing_behind() -> None:
    for _ in range(5):
        with closing(WorkerPool(echo, lambda _: "ready", 2)) as pool:
            pool.start(2)
            heard(pool, 2)
            killed(pool, pool.slots[0], signal.SIGKILL)
            heard(pool, 1)
    assert threading.active_count() <= 2
