"""`truecopy plan`: says what the next run does, and changes nothing."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.faults.rig import UNPRIVILEGED, Done, Rig
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


def forbidden(rig: Rig) -> None:
    """Plant a file and folders that user 1 alone may read, in one folder with a file that everybody may read."""
    for folder in ("open", "closed"):
        (rig.source / folder).mkdir()
        (rig.source / folder / "file").write_text("content")
    (rig.source / "open/secret").write_text("secret")
    for path, mode in ((rig.source / "open/secret", 0o600), (rig.source / "closed", 0o700)):
        path.chmod(mode)
        os.chown(path, 1, 1)


@pytest.mark.needs_root
def test_what_may_not_be_read_is_planned_as_it_will_fail(rig: Rig) -> None:
    forbidden(rig)

    plan, text = rig.run("plan", "--json", prefix=UNPRIVILEGED), rig.run("plan", prefix=UNPRIVILEGED)
    run = rig.once(prefix=UNPRIVILEGED)

    told = {line["path"]: line["reason"].partition(":")[0] for line in plan.lines if line["action"] == "fail"}
    assert (plan.code, text.code, run.code) == (3, 3, 3)
    assert told == run.failed == {"open/secret": "permission", "closed": "permission"}
    assert planned(plan)["open/file"] == "copy"
    assert text.stdout.splitlines()[-1].endswith(", at most 7 B would be read, 2 would fail")


@pytest.mark.needs_root
def test_a_mirror_folder_that_may_not_be_written_is_planned_as_it_will_fail(rig: Rig) -> None:
    (rig.source / "folder").mkdir()
    (rig.mirror / "folder").mkdir()
    (rig.source / "folder/file").write_text("content")
    os.chown(rig.mirror / "folder", 1, 1)

    plan, run = rig.run("plan", "--json", prefix=UNPRIVILEGED), rig.once(prefix=UNPRIVILEGED)

    assert (plan.code, run.code) == (3, 3)
    assert planned(plan)["folder/file"] == "fail"
    assert run.failed["folder/file"] == "permission"


@pytest.mark.needs_root
def test_a_mirror_that_may_not_be_written_is_planned_as_refused(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    os.chown(rig.mirror, 1, 1)

    plan, run = rig.run("plan", "--json", prefix=UNPRIVILEGED), rig.once(prefix=UNPRIVILEGED)

    assert (plan.code, run.code) == (4, 4)
    assert plan.lines[0]["reason"] == run.the("pair_refused")["reason"] == "mirror_not_writable"


@pytest.mark.needs_tool("strace")
def test_a_plan_opens_no_file_of_the_source(rig: Rig) -> None:
    (rig.source / "a file to be copied").write_text("content")
    calls = rig.base / "calls"

    done = rig.run("plan", prefix=["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(calls)])

    assert "a file to be copied" in done.stdout
    assert "a file to be copied" not in calls.read_text()


def test_sizes_are_for_people(rig: Rig) -> None:
    (rig.source / "large").write_bytes(b"x" * 2_500_000)
    (rig.source / "small").write_text("small")

    *steps, summary = rig.run("plan").stdout.splitlines()

    assert [step.rpartition("  ")[2] for step in steps] == ["(new, 2.5 MB)", "(new, 5 B)"]
    assert summary == "# source: 2 entries need work, at most 2.5 MB would be read"


def test_one_entry_and_none_are_said_as_such(rig: Rig) -> None:
    rig.configure(allow_empty=True)
    (rig.source / "file").write_text("content")
    one = rig.run("plan").stdout.splitlines()[-1]
    (rig.source / "file").unlink()

    assert one == "# source: 1 entry needs work, at most 7 B would be read"
    assert rig.run("plan").stdout == "# source: nothing to do\n"
