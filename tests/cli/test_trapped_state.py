"""A state folder that was in other hands: a run makes anew what is not ours, and who only looks changes nothing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig
from tests.traps import ENDLESS, TRAPS, changed, rows_without_end

SOON = 20.0
"""Seconds for a command, on a machine that has much else to do."""
STATE_TRAPS: dict[str, Callable[[Path], None]] = {
    "a trigger": lambda state: TRAPS["a trigger that drops what is stored"](state / "index.sqlite3"),
    "a view without an end": lambda state: TRAPS["a view without an end for a table"](state / "index.sqlite3"),
    "rows without an end": lambda state: rows_without_end(state / "index.sqlite3", "folder"),
    "a history without an end": lambda state: changed(
        state / "history.sqlite3",
        "DROP TABLE totals",
        f"CREATE VIEW totals AS {ENDLESS} SELECT 'a' AS name, x AS label, x AS value FROM c WHERE x < 0",
    ),
}


@pytest.fixture(params=STATE_TRAPS)
def trapped(tmp_path: Path, request: pytest.FixtureRequest) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    assert rig.once().code == 0
    STATE_TRAPS[request.param](rig.state)
    return rig


def state_of(rig: Rig) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in rig.state.iterdir() if path.is_file()}


def test_commands_that_look_end_soon_and_change_nothing(trapped: Rig) -> None:
    before = state_of(trapped)

    for command, code in (("status", 0), ("plan", 0), ("healthcheck", 1)):
        began = time.monotonic()
        done = trapped.run(command)

        assert time.monotonic() - began < SOON
        assert (done.code, "Traceback" in done.stdout + done.stderr) == (code, False)
        assert state_of(trapped) == before


def test_a_run_sets_it_aside_and_the_next_one_knows_everything(trapped: Rig) -> None:
    (trapped.source / "new").write_text("new")
    began = time.monotonic()

    runs = [trapped.once() for _ in range(2)]

    assert time.monotonic() - began < 2 * SOON
    assert runs[-1].code == 0
    assert (trapped.mirror / "new").read_text() == "new"
    (aside,) = [path for path in trapped.state.iterdir() if ".torn-" in path.name or ".broken-" in path.name]
    assert reported(runs, aside.name)
    assert trapped.run("status").code == 0


def reported(runs: list[Done], name: str) -> bool:
    """Tell whether a run said where the file is now, with the word that nothing in it was believed."""
    return any(name in line for run in runs for line in run.stdout.splitlines() if '"level": "info"' not in line)
