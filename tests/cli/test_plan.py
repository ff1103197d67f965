"""`truecopy plan`: says what the next run does, and changes nothing."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.trees import HOSTILE_NAMES, LONG_AGO_NS, plant


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


Look = list[tuple[Path, os.stat_result]]


def everything(rig: Rig) -> Look:
    """Look at every path there is, without the times of reading."""
    return [
        (path, os.stat_result((*seen[:7], 0, *seen[8:10])))
        for path in sorted(rig.base.rglob("*"))
        for seen in [path.lstat()]
        if path != rig.config
    ]


def planned(done: Done) -> dict[str, str]:
    """Give the action for each path of a plan in JSON."""
    return {line["path"]: line["action"] for line in done.lines}


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_plan_before_the_first_run_changes_nothing(rig: Rig, *, as_json: bool) -> None:
    plant(rig.source)
    rig.configure(state_dir=str(rig.base / "no state yet"))
    before = everything(rig)

    done = rig.run("plan", *(["--json"] if as_json else []))

    assert done.code == 0, done.stderr
    assert everything(rig) == before
    assert not (rig.base / "no state yet").exists()


def test_a_plan_after_a_run_changes_nothing(rig: Rig) -> None:
    plant(rig.source)
    rig.once()
    (rig.source / "old").write_text("edited")
    (rig.mirror / "script").unlink()
    before = everything(rig)

    done = rig.run("plan")

    assert done.code == 0, done.stderr
    assert everything(rig) == before


def test_a_plan_copies_what_the_next_run_copies(rig: Rig) -> None:
    plant(rig.source)

    plan = planned(rig.run("plan", "--json"))
    run = rig.once()

    assert {path for path, action in plan.items() if action == "copy"} == run.copied
    assert {path for path, action in plan.items() if action == "make_folder"} == {
        "empty folder",
        "folder \\xe9\\n",
        "folder \\xe9\\n/deeper",
        "read-only folder",
    }
    assert set(plan.values()) == {"copy", "make_folder"}


def test_a_plan_tells_the_reasons_that_the_next_run_logs(rig: Rig) -> None:
    for name in ("grown", "touched", "missing", "kept"):
        (rig.source / name).write_text("content")
        os.utime(rig.source / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
    rig.once()
    (rig.source / "grown").write_text("more content")
    (rig.source / "touched").touch()
    (rig.source / "new").write_text("new")
    (rig.mirror / "missing").unlink()

    plan = rig.run("plan", "--json")
    run = rig.once()

    reasons = {line["path"]: line["reason"] for line in plan.lines if line["action"] == "copy"}
    assert reasons == {line["path"]: line["reason"] for line in run.of("file_copied")}
    assert reasons.keys() == {"grown", "touched", "new", "missing"}


def test_what_has_to_be_compared_first_is_listed_as_such(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    rig.once()
    (rig.source / "file").chmod(0o600)

    plan = planned(rig.run("plan", "--json"))
    run = rig.once()

    assert plan == {"file": "compare_source"}
    assert run.counts == (0, 1, 0, 0)


def test_text_is_one_line_an_entry_whatever_the_names_are(rig: Rig) -> None:
    for name in HOSTILE_NAMES:
        with open(os.fsencode(rig.source) + b"/" + name, "wb") as file:
            file.write(name)

    done = rig.run("plan")

    lines = done.stdout.splitlines()
    assert len(lines) == len(HOSTILE_NAMES) + 1
    assert all(line.startswith("copy ") and line.isprintable() for line in lines[:-1])
    assert lines[-1].startswith(f"# source: {len(HOSTILE_NAMES)} entries need work, ")


def test_names_that_are_not_utf_8_come_with_their_bytes(rig: Rig) -> None:
    (rig.source / os.fsdecode(b"\xff")).write_text("bytes")

    (line,) = rig.run("plan", "--json").lines

    assert (line["path"], line["path_base64"]) == ("\\xff", "/w==")


def test_what_will_fail_is_told_and_is_3(rig: Rig) -> None:
    (rig.source / ".truecopy").write_text("reserved")

    plan, run = rig.run("plan", "--json"), rig.once()

    assert (plan.code, run.code) == (3, 3)
    assert planned(plan) == {".truecopy": "refuse_name"}


def test_a_pair_that_would_be_refused_is_told_and_is_4(rig: Rig) -> None:
    rig.source.rmdir()

    text, as_json = rig.run("plan"), rig.run("plan", "--json")

    assert (text.code, as_json.code) == (4, 4)
    assert text.stdout.startswith("refuse ")
    assert "does not exist" in text.stdout
    assert as_json.lines[0]["reason"] == "source_missing"


def test_an_empty_source_that_would_be_refused_is_told(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    rig.once()
    (rig.source / "file").unlink()

    plan, run = rig.run("plan", "--json"), rig.once()

    assert (plan.code, run.code) == (4, 4)
    assert plan.lines[0]["reason"] == run.the("pair_refused")["reason"] == "source_empty"


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 1000], ids=["empty", "torn"])
def test_a_damaged_index_is_planned_for_as_it_will_be_handled(rig: Rig, damage: bytes) -> None:
    (rig.source / "file").write_text("content")
    rig.once()
    (rig.state / "index.sqlite3").write_bytes(damage)
    before = everything(rig)

    done = rig.run("plan", "--json")

    assert done.code == 0, done.stderr
    assert planned(done) == {"file": "compare_both"}
    assert everything(rig) == before


def test_a_plan_while_a_run_is_at_work_is_no_trouble(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    rig.configure(rate_limit=1)
    with rig.started("run", "--once") as running:
        running.wait_for("pair_started")

        done = rig.run("plan", "--json")

    assert done.code == 0
    assert planned(done) == {"file": "copy"}


def test_an_index_of_a_newer_version_is_told_in_a_sentence(rig: Rig) -> None:
    rig.once()
    index = sqlite3.connect(rig.state / "index.sqlite3")
    index.execute("PRAGMA user_version = 99")
    index.close()

    plan, run = rig.run("plan"), rig.once()

    assert "Traceback" not in plan.stderr
    assert plan.code == run.code == 4
    assert "format 99" in plan.stdout + plan.stderr


def test_an_index_that_may_not_be_opened_is_told_in_a_sentence(rig: Rig) -> None:
    rig.once()
    (rig.state / "index.sqlite3").unlink()
    (rig.state / "index.sqlite3").symlink_to("index.sqlite3")

    plan, run = rig.run("plan"), rig.once()

    assert (plan.code, run.code) == (4, 4)
    assert plan.stderr == ""
    assert "index.sqlite3 cannot be opened" in plan.stdout


def test_a_disabled_run_is_planned_with_a_remark(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    rig.configure(run_enabled="N")

    done = rig.run("plan", "--json")

    assert done.code == 0
    assert planned(done) == {"file": "copy"}
    assert "run_enabled is 'N'" in done.stderr
    assert json.loads(done.stdout)
