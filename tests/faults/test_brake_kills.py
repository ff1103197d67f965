"""Kills while the brake stores what it holds, and while a person approves it: nothing else is replaced.

After a kill an approval is there as a whole or not at all, and a pair that was about to be held is held.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.tampering import in_state, injected

pytestmark = [pytest.mark.one_process, pytest.mark.needs_tool("strace")]

FILES = 120
KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
MOST = 300


@pytest.fixture
def braked(rig: Rig) -> Rig:
    overwrite(rig)
    assert rig.once().code == 0
    return rig


def overwrite(rig: Rig) -> None:
    for number in range(FILES):
        (rig.source / f"file {number}").write_bytes(os.urandom(40))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def released(rig: Rig) -> None:
    assert rig.run("approve", "source").code == 0
    assert rig.once().code == 0
    assert contents(rig.mirror) == contents(rig.source)


@pytest.mark.parametrize("call", ["openat", "pwrite64", "fsync,fdatasync", "unlink,unlinkat"])
def test_an_approval_that_is_killed_is_there_as_a_whole_or_not_at_all(braked: Rig, call: str) -> None:
    rig, outcomes, code = braked, set[int](), -1
    paths = in_state(rig.state, "history.sqlite3", "history.sqlite3-journal")
    for number in range(1, MOST):
        overwrite(rig)
        assert rig.once().code == 4
        before = contents(rig.mirror)
        kill = injected(call, f"signal=KILL:when={number}", log=rig.base / "strace.log", paths=paths)
        done = rig.run("approve", "source", prefix=kill)
        assert done.code in {0, *KILLED}, done.stderr

        after = rig.once()

        assert after.code in {0, 4}
        outcomes.add(after.code)
        if after.code == 4:
            assert contents(rig.mirror) == before
            assert done.code != 0
            released(rig)
        assert contents(rig.mirror) == contents(rig.source)
        if (code := done.code) == 0:
            break
    assert code == 0
    assert 0 in outcomes


@pytest.mark.parametrize(("call", "step"), [("pwrite64", 9), ("fsync,fdatasync", 2), ("unlink,unlinkat", 1)])
def test_a_cycle_that_is_killed_while_it_stores_a_hold_replaces_nothing(braked: Rig, call: str, step: int) -> None:
    rig, code = braked, 0
    names = ("index.sqlite3", "index.sqlite3-journal", "history.sqlite3", "history.sqlite3-journal")
    paths = in_state(rig.state, *names)
    for number in range(1, MOST, step):
        overwrite(rig)
        (rig.source / f"new {number}").write_text("new")
        before = contents(rig.mirror)
        kill = injected(call, f"signal=KILL:when={number}", log=rig.base / "strace.log", paths=paths)
        done = rig.run("run", "--once", prefix=kill)
        assert done.code in {4, *KILLED}, done.stderr

        assert rig.once().code == 4

        after = contents(rig.mirror)
        assert {name: after[name] for name in before} == before
        assert after[f"new {number}"] == b"new"
        released(rig)
        if (code := done.code) == 4:
            break
    assert code == 4
