"""`truecopy plan --retention`: names each version that would go, why, and removes none."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from job.core.retention import FLOOR
from tests.faults.rig import Rig

DAY = 86400


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def age(rig: Rig, days: int) -> str:
    """Let the newest version folder be of a cycle so many days ago."""
    newest = max((rig.state / "versions").iterdir())
    older = f"{datetime.fromtimestamp(time.time() - days * DAY, UTC):%Y%m%dT%H%M%SZ}"
    newest.rename(newest.with_name(older))
    return older


def replaced(rig: Rig, *days: int) -> list[str]:
    """Have the file replaced by cycles so many days ago."""
    (rig.source / "file").write_text("first")
    rig.once()
    made = []
    for number in days:
        (rig.source / "file").write_text(f"{number} days ago")
        rig.once()
        made.append(age(rig, number))
    return made


def test_each_version_that_would_go_is_named_and_stays(rig: Rig) -> None:
    made = replaced(rig, 50, 40, *range(FLOOR))
    before = sorted(rig.state.rglob("*"))

    as_json, as_text = rig.run("plan", "--retention", "--json"), rig.run("plan", "--retention")

    assert [(line["action"], line["path"], line["reason"], line["version"]) for line in as_json.lines] == [
        ("expire", "file", "old", made[0]),
        ("expire", "file", "old", made[1]),
    ]
    assert as_json.lines[0]["bytes"] == len("first")
    assert [line.split()[:3] for line in as_text.stdout.splitlines()[:2]] == [["expire", "source", "file"]] * 2
    assert "2 versions of" in as_text.stdout.splitlines()[-1]
    assert (as_json.code, as_text.code) == (0, 0)
    assert sorted(rig.state.rglob("*")) == before


def test_what_is_above_the_limit_would_go_and_a_changed_rule_is_named(rig: Rig) -> None:
    made = replaced(rig, 8, 7, *range(FLOOR))
    rig.configure(versions={"most": "50B"})

    as_json, as_text = rig.run("plan", "--retention", "--json"), rig.run("plan", "--retention")

    assert [(line["version"], line["reason"]) for line in as_json.lines] == [(made[0], "most"), (made[1], "most")]
    assert "the rule was 30 days, at most 20 %" in as_text.stdout


def test_without_versions_there_is_nothing_to_show(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    rig.once()

    done = rig.run("plan", "--retention")

    assert (done.code, done.stdout) == (0, "# source: there are no versions\n")
    assert not rig.run("plan", "--retention", "--json").stdout


def test_versions_that_are_off_stay_and_status_counts_them(rig: Rig) -> None:
    replaced(rig, 60, *range(1, FLOOR + 1))
    rig.configure(versions=False)
    rig.once()

    done = rig.run("plan", "--retention", "--json")
    [pair] = json.loads(rig.run("status", "--json").stdout)["pairs"]

    assert not done.stdout
    assert pair["versions"]["files"] == FLOOR + 1
    assert f"versions: {FLOOR + 1} files" in rig.run("status").stdout
    assert rig.metric("versions_files") == FLOOR + 1
    assert rig.metric("versions_bytes") == pair["versions"]["bytes"]


def test_expired_versions_are_counted_and_told(rig: Rig) -> None:
    rig.configure(sleep_time=3600)
    replaced(rig, 50, 40, *range(1, FLOOR + 1))
    os.unlink(rig.state / "index.sqlite3")  # nothing is due by it until an hour from now

    rig.once()
    done = rig.once()

    assert done.the("versions_expired")["by"] == {"old": 2}
    assert rig.metric("versions_expired_total") == 2
    assert rig.metric("versions_files") == FLOOR
    assert not rig.run("plan", "--retention", "--json").stdout
