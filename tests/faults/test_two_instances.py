"""Two instances on one mirror: one works, the others are busy, whoever they are and however the one ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.holding import Holding
from tests.faults.rig import PATIENCE, Rig, Running, ended, environment, temps_in, until

pytestmark = pytest.mark.one_process  # about instances, not about workers

MANY = 50
AT_ONCE = 10


def at_work(running: Running, mirror: Path) -> None:
    """Wait until a run is in the middle of a copy that takes a while."""
    running.wait_for("pair_started")
    until(lambda: temps_in(mirror))


@pytest.fixture
def slow(rig: Rig) -> Rig:
    """A source of which a copy takes minutes, unless it is stopped."""
    (rig.source / "slow").write_bytes(bytes(range(250)) * 4000)
    rig.configure(rate_limit=5000)
    return rig


def test_of_fifty_runs_at_once_one_works_at_any_time_and_the_mirror_is_whole(rig: Rig) -> None:
    for number in range(20):
        (rig.source / f"file {number}").write_text(f"content {number}")
    configs = []
    for state in ("in the mirror", "one", "two"):
        rig.configure(**({} if state == "in the mirror" else {"state_dir": str(rig.base / state)}))
        configs.append(rig.config.rename(rig.base / f"{state}.json"))
    codes, told = [], ""
    for start in range(0, MANY, AT_ONCE):
        (rig.source / f"later {start}").write_text("later")
        commands = [
            [sys.executable, "-m", "job", "--config", str(configs[number % 3]), "run", "--once"]
            for number in range(start, start + AT_ONCE)
        ]
        with ThreadPoolExecutor(AT_ONCE) as others:
            for done in others.map(lambda command: ended(command, environment()), commands):
                told += (done.stdout + done.stderr).decode()
                codes.append(done.returncode)

    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    # What one remembers of the mirror, another does not: once a second one wrote to it, the first is refused.
    assert set(codes) <= {0, 4, 75}, told
    assert {line["reason"] for line in lines if line["event"] == "pair_refused"} <= {"mirror_unknown"}
    assert codes.count(0) >= MANY / AT_ONCE
    assert "Traceback" not in told
    assert "worker_lost" not in told
    assert "drift_found" not in told
    assert rig.mirrored == rig.wanted
    assert not rig.temps


@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_a_second_one_is_told_who_is_at_work_and_takes_over_from_a_dead_one(slow: Rig, state: str) -> None:
    place = {} if state == "in the mirror" else {"state_dir": str(slow.base / "state")}
    slow.configure(rate_limit=5000, **place)
    with slow.started("run", "--once") as first:
        at_work(first, slow.mirror)
        busy = slow.once()
        first.end(signal.SIGKILL)
        slow.configure(**place)
        after = slow.once()

    assert busy.code == 75
    error = busy.the("pair_busy")["error"]
    assert (
        f"another instance works on the mirror of source (process {first.process.pid} on {os.uname().nodename!r}"
        in error
    )
    assert busy.the("pair_busy")["hint"]
    assert after.code == 0
    assert slow.mirrored == slow.wanted
    assert not slow.temps


@pytest.mark.parametrize("planted", ["link", "fifo", "folder"])
def test_what_is_planted_as_the_lock_refuses_the_pair_and_harms_nothing(rig: Rig, planted: str) -> None:
    (rig.source / "file").write_text("content")
    (rig.base / "treasure").write_text("precious")
    rig.state.mkdir(mode=0o700)
    lock = rig.state / "lock"
    plant: dict[str, Callable[[], object]] = {
        "link": lambda: lock.symlink_to(rig.base / "treasure"),
        "fifo": lambda: os.mkfifo(lock),
        "folder": lock.mkdir,
    }
    plant[planted]()
    refused = rig.once()
    (lock.rmdir if planted == "folder" else lock.unlink)()

    assert refused.code == 4
    assert refused.the("pair_refused")["reason"] == "state_unusable"
    assert (rig.base / "treasure").read_text() == "precious"
    assert rig.once().code == 0


# A mirror that several machines reach ---------------------------------------------------------------------------------


@contextmanager
def shared(backing: Path, *points: Path) -> Iterator[None]:
    """Mount one folder at several places, as several machines would: no lock at one of them is seen at another."""
    for point in points:
        point.mkdir(exist_ok=True)
        subprocess.run(["bindfs", str(backing), str(point)], check=True)
    try:
        yield
    finally:
        for point in points:
            subprocess.run(["umount", "--lazy", str(point)], check=True)


@pytest.fixture
def machines(slow: Rig) -> Iterator[tuple[Rig, Path]]:
    """One that is slow, and the mirror as another one sees it."""
    backing, other = slow.base / "backing", slow.base / "other mirror"
    backing.mkdir()
    with shared(backing, slow.mirror, other):
        yield slow, other


@pytest.mark.needs_root
@pytest.mark.needs_tool("bindfs")
def test_a_lease_keeps_another_machine_out_and_is_taken_over_only_when_it_was_left(
    machines: tuple[Rig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, other = machines
    lease = rig.base / "backing/.truecopy/lease"
    with rig.started("run", "--once") as first:
        at_work(first, rig.mirror)
        monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / "of the other machine"))
        rig.configure(dest_dirs=[str(other)])
        busy = rig.once()
        first.end(signal.SIGKILL)
        still_busy = rig.once()
        os.utime(lease, (1.0, 1.0))
        after = rig.once()

    assert (busy.code, still_busy.code, after.code) == (75, 75, 0)
    for told in (busy, still_busy):
        assert f"has a lease on the mirror of source (process {first.process.pid} on" in told.the("pair_busy")["error"]
        assert "taken over by itself" in told.the("pair_busy")["hint"]
    assert f"process {first.process.pid} on" in after.the("lease_taken_over")["left_by"]
    assert (other / "slow").read_bytes() == (rig.source / "slow").read_bytes()
    assert not lease.exists()


@pytest.mark.needs_root
@pytest.mark.needs_tool("bindfs")
def test_machines_that_keep_their_states_to_themselves_meet_in_the_mirror(machines: tuple[Rig, Path]) -> None:
    rig, other = machines
    rig.configure(rate_limit=5000, state_dir=str(rig.base / "state"))
    with rig.started("run", "--once") as first:
        at_work(first, rig.mirror)
        rig.configure(dest_dirs=[str(other)], state_dir=str(rig.base / "another state"))
        busy = rig.once()
        first.end(signal.SIGTERM)
        after = rig.once()

    assert (busy.code, after.code) == (75, 0)
    assert "has a lease on the mirror" in busy.the("pair_busy")["error"]
    assert not after.of("lease_taken_over")


@pytest.mark.needs_root
@pytest.mark.needs_tool("bindfs")
@pytest.mark.parametrize("way", [{"workers": 1}, {"workers": 2, "workers_from": 0}], ids=["one process", "workers"])
def test_who_lost_its_lease_commits_nothing_more(
    machines: tuple[Rig, Path], way: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, _ = machines
    rig.finely = True
    rig.configure(**way)
    holding = Holding(rig.state)
    holding.begin(rig.base / "code", monkeypatch)
    with rig.started("run", "--once") as first:
        holding.wait()
        (rig.base / "backing/.truecopy/lease").write_text("{}")
        holding.let_go()
        code = first.process.wait(PATIENCE)
        failed = first.wait_for("pair_failed")

    assert code == 1
    assert "the lease on the mirror" in failed["error"]
    assert not copied_by(first)
    assert (rig.base / "backing/.truecopy/lease").read_text() == "{}"


def copied_by(running: Running) -> list[str]:
    return [line["path"] for line in running.lines if line["event"] == "file_copied"]
