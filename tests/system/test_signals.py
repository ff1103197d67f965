"""SIGTERM and SIGINT, sent to real processes: this one and others."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from job.errors import Exit
from job.system.signals import StopSignal


def clock(*readings: float) -> Callable[[], float]:
    return iter(readings).__next__


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [(signal.SIGTERM, "SIGTERM", Exit.TERMINATED), (signal.SIGINT, "SIGINT", Exit.INTERRUPTED)],
)
def test_a_signal_is_remembered_with_its_name_and_exit_code(number: signal.Signals, name: str, code: Exit) -> None:
    with StopSignal(monotonic=time.monotonic) as stop:
        before = stop.requested(), stop.signal_name, stop.exit
        os.kill(os.getpid(), number)

        assert before == (False, "", Exit.OK)
        assert (stop.requested(), stop.signal_name, stop.exit) == (True, name, code)


def test_the_first_signal_is_the_one_that_counts() -> None:
    with StopSignal(monotonic=time.monotonic) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

        assert stop.signal_name == "SIGTERM"


def test_the_old_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    with StopSignal(monotonic=time.monotonic):
        inside = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert inside != before
    assert signal.set_wakeup_fd(-1) == -1


def test_what_was_asked_for_is_known_after_the_block_too() -> None:
    with StopSignal(monotonic=time.monotonic) as stop:
        os.kill(os.getpid(), signal.SIGTERM)

    assert stop.requested()
    assert stop.wait(60)


def test_a_second_interrupt_after_a_while_gets_a_person_out() -> None:
    with StopSignal(monotonic=clock(10.0, 11.0)):
        os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_delivered_twice_by_a_wrapper_is_one() -> None:
    with StopSignal(monotonic=clock(10.0, 10.1)) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

        assert stop.signal_name == "SIGINT"


def test_a_wait_without_a_signal_ends_by_itself() -> None:
    with StopSignal(monotonic=time.monotonic) as stop:
        assert not stop.wait(0.01)
        assert not stop.wait(-1)


def test_a_signal_ends_a_wait_at_once() -> None:
    with StopSignal(monotonic=time.monotonic) as stop:
        sender = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        sender.start()

        started = time.monotonic()
        stopped = stop.wait(60)

        assert stopped
        assert time.monotonic() - started < 30
        sender.join()


def test_a_signal_just_before_the_wait_is_not_slept_over() -> None:
    with StopSignal(monotonic=time.monotonic) as stop:
        os.kill(os.getpid(), signal.SIGTERM)

        assert stop.wait(60)


def test_another_signal_may_end_a_wait_but_asks_for_nothing() -> None:
    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    try:
        with StopSignal(monotonic=time.monotonic) as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            stop.wait(60)

            assert not stop.wait(0.01)
    finally:
        signal.signal(signal.SIGUSR1, before)


MANY_MOMENTS = """
import sys, time
from job.system.signals import StopSignal
with StopSignal(monotonic=time.monotonic) as stop:
    print("ready", flush=True)
    while not stop.wait(60):
        pass
sys.exit(stop.exit)
"""


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.001, 0.002, 0.005, 0.02])
def test_no_moment_around_the_start_of_a_wait_loses_a_signal(delay: float) -> None:
    with subprocess.Popen([sys.executable, "-c", MANY_MOMENTS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.terminate()

        assert process.wait(timeout=30) == Exit.TERMINATED
