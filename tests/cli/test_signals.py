"""Signals and terminals that hang up, as a running `truecopy run` meets them."""

import json
import os
import pty
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from job.system.signals import NO_MEANING
from tests.faults.rig import PATIENCE, ROOT, Rig, Running, environment, temps_in, until


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.configure(sleep_time=3600)
    (rig.source / "file").write_text("content")
    return rig


def is_waiting(service: Running, count: int = 1) -> None:
    """Wait until so many cycles ended and the service waits for the next."""
    service.wait_for("cycle_finished", count=count)


def test_sighup_makes_the_service_read_its_config_again_at_once(rig: Rig) -> None:
    with rig.started("run") as service:
        is_waiting(service)
        rig.configure(sleep_time=3000)
        os.kill(service.process.pid, signal.SIGHUP)

        service.wait_for("config_reloaded")
        told = service.wait_for("signal_received", signal="SIGHUP")
        code, _ = service.end(signal.SIGTERM)

    assert "the configuration is read again now" in told["message"]
    assert code == 0


def test_sighup_names_a_broken_config_each_time_and_the_last_good_one_stays_in_force(rig: Rig) -> None:
    with rig.started("run") as service:
        is_waiting(service)
        rig.config.write_text("{")
        for count in (1, 2):
            os.kill(service.process.pid, signal.SIGHUP)
            service.wait_for("signal_received", count=count)
            service.wait_for("config_rejected", count=count)
        os.kill(service.process.pid, signal.SIGUSR1)

        is_waiting(service, count=2)
        told = [line for line in service.lines if line["event"] == "config_rejected"]

    assert len(told) == 2, "once for each signal, although the file changed, too"


def test_sigusr1_starts_a_cycle_now(rig: Rig) -> None:
    with rig.started("run") as service:
        is_waiting(service)
        (rig.source / "new").write_text("new")
        os.kill(service.process.pid, signal.SIGUSR1)

        service.wait_for("file_copied", path="new")
        assert "a cycle starts now" in service.wait_for("signal_received", signal="SIGUSR1")["message"]


def test_in_a_cycle_sighup_and_sigusr1_wait_for_its_end_and_say_so_at_once(rig: Rig) -> None:
    (rig.source / "file").write_bytes(b"x" * 100_000)
    rig.configure(sleep_time=3600, rate_limit=10_000)
    with rig.started("run") as service:
        until(lambda: temps_in(rig.mirror))
        rig.configure(sleep_time=3000)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(service.process.pid, number)
        service.wait_for("signal_received", effect="the configuration is read again after this cycle")
        service.wait_for("signal_received", effect="another cycle starts right after this one")
        before = [line["event"] for line in service.lines]
        is_waiting(service, count=2)
        events = [line["event"] for line in service.lines]

    assert "cycle_finished" not in before
    assert events.index("config_reloaded") > events.index("cycle_finished")


@pytest.mark.parametrize("number", NO_MEANING, ids=lambda number: number.name)
def test_a_signal_without_a_meaning_is_logged_and_ends_nothing(rig: Rig, number: signal.Signals) -> None:
    with rig.started("run") as service:
        is_waiting(service)
        os.kill(service.process.pid, number)

        assert service.wait_for("signal_received")["signal"] == number.name
        assert service.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2], ids=lambda number: number.name)
def test_with_once_what_the_service_is_asked_for_is_logged_and_ignored(rig: Rig, number: signal.Signals) -> None:
    (rig.source / "file").write_bytes(b"x" * 60_000)
    rig.configure(rate_limit=10_000)
    with rig.started("run", "--once") as run:
        until(lambda: temps_in(rig.mirror))
        os.kill(run.process.pid, number)

        assert run.wait_for("signal_received")["signal"] == number.name
        assert run.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR])
def test_these_end_a_run_with_once_as_sigterm_does(rig: Rig, number: signal.Signals) -> None:
    rig.configure(rate_limit=1)
    with rig.started("run", "--once") as run:
        until(lambda: temps_in(rig.mirror))
        code, seconds = run.end(number)

    assert (code, run.lines[-1]["event"], run.lines[-1]["result"]) == (143, "cycle_finished", "stopped")
    assert seconds < 5
    assert not rig.temps


@contextmanager
def on_a_terminal(
    rig: Rig, *arguments: str, start: Callable[[], Any] = lambda: None
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """Run as the leader of a terminal's session; the second thing given hangs the terminal up."""
    ours, theirs = pty.openpty()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():  # a terminal that is not read fills up, and its writers wait
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    os.read(ours, 4096)
                except OSError:  # nothing has it open any more
                    return

    reader = threading.Thread(target=read)

    def hang_up() -> None:
        ended.set()
        reader.join()
        os.close(ours)

    def first() -> None:
        start()
        os.login_tty(os.dup(theirs))

    with subprocess.Popen(
        rig.command(*arguments),
        cwd=ROOT,
        env=environment() | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=first,  # noqa: PLW1509  # no threads here yet
    ) as process:
        os.close(theirs)
        reader.start()
        try:
            yield process, hang_up
        finally:
            ended.set()
            process.kill()


def logged(rig: Rig) -> list[dict[str, Any]]:
    """Give the events in the log file, but for the loss of the terminal as an output."""
    lines = [json.loads(line) for line in rig.log.read_text().splitlines()] if rig.log.exists() else []
    return [line for line in lines if line["event"] != "output_failed"]


@pytest.mark.parametrize("arguments", [("run", "--once"), ("run", "--once", "--quiet")], ids=" ".join)
def test_a_terminal_that_hangs_up_ends_a_run_with_once_in_good_order(rig: Rig, arguments: tuple[str, ...]) -> None:
    rig.configure(rate_limit=1)
    with on_a_terminal(rig, *arguments) as (process, hang_up):
        until(lambda: temps_in(rig.mirror))
        hang_up()

        assert process.wait(PATIENCE) == 143
    assert logged(rig)[-1]["event"] == "cycle_finished"
    assert logged(rig)[-1]["result"] == "stopped"
    assert not rig.temps


def test_a_terminal_that_hangs_up_ends_the_service_and_a_sent_sighup_does_not(rig: Rig) -> None:
    with on_a_terminal(rig, "run") as (process, hang_up):
        until(lambda: "cycle_finished" in [line["event"] for line in logged(rig)])
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: "signal_received" in [line["event"] for line in logged(rig)])
        hang_up()

        assert process.wait(PATIENCE) == 0
    assert (logged(rig)[-1]["event"], logged(rig)[-1]["reason"]) == ("service_stopped", "SIGHUP")


@pytest.mark.parametrize("arguments", [("run", "--once"), ("run",)], ids=" ".join)
def test_under_nohup_a_terminal_that_hangs_up_ends_nothing(rig: Rig, arguments: tuple[str, ...]) -> None:
    (rig.source / "file").write_bytes(b"x" * 60_000)
    rig.configure(rate_limit=10_000, sleep_time=3600)
    start = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731  # called in the new process
    with on_a_terminal(rig, *arguments, start=start) as (process, hang_up):
        until(lambda: temps_in(rig.mirror))
        hang_up()
        until(lambda: "cycle_finished" in [line["event"] for line in logged(rig)])

        assert process.wait(PATIENCE) == 0 if "--once" in arguments else process.poll() is None
    assert next(line["result"] for line in logged(rig) if line["event"] == "cycle_finished") == "success"
