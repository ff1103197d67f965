"""`truecopy status` of a pair whose history says what cannot be."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Done, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def document(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("last_attempt_timestamp_seconds = 9e999", "its last cycle has an impossible time"),
        ("last_success_timestamp_seconds = -9e15", "its last cycle has an impossible time"),
        ("duration_seconds = 9e300", "its last cycle has an impossible time"),
        ("result = 'x'", "how its last cycle ended is not known to this Truecopy"),
        ("folders = 'y'", "its last cycle has a count that is no number"),
    ],
)
def test_a_history_with_an_impossible_value_is_told_and_hides_no_other_pair(rig: Rig, change: str, why: str) -> None:
    names = ("one", "two")
    for name in names:
        (rig.base / name).mkdir()
        (rig.base / name / "file").touch()
    rig.configure(
        pairs=[{"name": name, "source": str(rig.base / name), "dest": str(rig.base / f"m-{name}")} for name in names]
    )
    assert rig.once().code == 0
    spoilt = rig.base / "m-one/.truecopy/history.sqlite3"
    with closing(sqlite3.connect(spoilt)) as history, history:
        history.execute(f"UPDATE last_cycle SET {change}")

    text = rig.run("status")
    one, two = document(rig.run("status", "--json"))["pairs"]

    assert (text.code, text.stderr) == (0, "")
    assert f"its history cannot be read: {spoilt}: {why}" in text.stdout
    assert "two: success" in text.stdout
    assert "one: unknown" in text.stdout
    assert (one["trouble"], one["verdict"], one["last_attempt"]) == (f"{spoilt}: {why}", "unknown", None)
    assert two["result"] == "success"
    assert rig.run("status", "--check").code == 1
    assert rig.run("status", "--check", "--pair", "two").code == 0
    assert rig.once().code == 0
