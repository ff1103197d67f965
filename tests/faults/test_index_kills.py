"""Runs killed while the index is made or written: the next cycle works, and so does a look at what it would do."""

import json
import os
import signal

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import in_state, injected
from tests.index_rows import make_older

# Only the main process writes the index.
pytestmark = [pytest.mark.needs_tool("strace"), pytest.mark.one_process]


@pytest.fixture(autouse=True)
def content(rig: Rig) -> None:
    for name in ("file", "folder/file"):
        (rig.source / name).parent.mkdir(exist_ok=True)
        (rig.source / name).write_text("content")


def killed(rig: Rig, call: str, number: int) -> Done:
    """Run a cycle that is killed at a call on the index or its journal."""
    log, paths = rig.base / "strace.log", in_state(rig.state, "index.sqlite3", "index.sqlite3-journal")
    done = rig.once(prefix=injected(call, f"signal=KILL:when={number}", log=log, paths=paths))
    assert done.code in {-signal.SIGKILL, 128 + signal.SIGKILL}
    return done


def heals(rig: Rig) -> None:
    done, again = rig.once(), rig.once()
    assert (done.code, again.code) == (0, 0)
    assert not done.failed
    assert not done.of("index_rebuilt") + again.of("index_rebuilt")
    assert not done.drift | again.drift
    assert rig.mirrored == rig.wanted
    assert again.counts[0] == 0
    assert not rig.temps


# The first call of openat makes the empty file; the others write the journal's head, the pages and the commit.
@pytest.mark.parametrize(
    ("call", "number"),
    [("openat", 2), ("pwrite64", 1), ("pwrite64", 3), ("pwrite64", 6), ("fdatasync", 1), ("fdatasync", 3)],
)
def test_a_run_killed_while_the_index_is_made_is_followed_by_one_that_works(rig: Rig, call: str, number: int) -> None:
    killed(rig, call, number)
    plan = rig.run("plan")

    assert plan.code == 0
    assert "folder/file" in plan.stdout
    heals(rig)


def hot(rig: Rig) -> bool:
    """Tell whether a commit was cut off so that it has to be rolled back before anything can be read."""
    journal = rig.state / "index.sqlite3-journal"
    return journal.exists() and any(journal.read_bytes()[:8])


@pytest.mark.parametrize("number", [2, 3])
def test_a_plan_after_a_run_killed_in_a_commit_tells_what_the_next_cycle_does(rig: Rig, number: int) -> None:
    rig.once()
    (rig.source / "file").write_text("newer content")
    killed(rig, "fdatasync", number)
    assert hot(rig)
    before = os.listdir(rig.mirror)

    plan = rig.run("plan", "--json")

    assert plan.code == 0, plan
    planned = {line["path"]: line["action"] for line in map(json.loads, plan.stdout.splitlines())}
    assert planned["file"] in {"compare_both", "copy"}
    assert os.listdir(rig.mirror) == before
    heals(rig)


@pytest.mark.parametrize(("call", "number"), [("pwrite64", 2), ("pwrite64", 6), ("fdatasync", 1), ("fdatasync", 3)])
def test_a_run_killed_while_an_older_index_is_migrated_is_followed_by_one_that_believes_it(
    rig: Rig, call: str, number: int
) -> None:
    rig.once()
    make_older(rig.state / "index.sqlite3", 4)
    killed(rig, call, number)

    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 2, 0))
    assert not done.of("index_rebuilt") + done.of("drift_found")
    assert rig.mirrored == rig.wanted
