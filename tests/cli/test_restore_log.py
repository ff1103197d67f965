"""The log lines of a restore: what was restored, what was not, and how it ended."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_restore import BEFORE_OLD, OLD, keep, record
from tests.faults.rig import UNPRIVILEGED, Rig
from tests.faults.tampering import injected


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "rig")
    (rig.source / "folder").mkdir()
    (rig.source / "folder" / "file").write_text("of today")
    (rig.source / "top").write_text("top")
    (rig.base / "logs").mkdir()
    rig.configure(log_file=str(rig.base / "logs" / "all.log"), error_log_file=str(rig.base / "logs" / "errors.log"))
    rig.once()
    return rig


def lines(rig: Rig, name: str = "all.log") -> list[dict[str, Any]]:
    """Give the lines of the last restore in a log."""
    found = [json.loads(line) for line in (rig.base / "logs" / name).read_text().splitlines()]
    restores = [line for line in found if line["event"].startswith(("restore_", "file_r", "file_not_r"))]
    return [line for line in restores if line["cycle_id"] == restores[-1]["cycle_id"]]


def test_each_entry_is_logged_with_its_checksum_between_start_and_end(rig: Rig) -> None:
    keep(rig, OLD, "top", "older")
    record(rig, OLD, "top")
    out = rig.base / "out"

    assert rig.run("restore", "--to", str(out), "--at", BEFORE_OLD, "top").code == 0
    first, restored, last = lines(rig)

    assert (first["event"], first["target"], first["entries"], first["bytes"]) == ("restore_started", str(out), 1, 5)
    assert (restored["event"], restored["path"], restored["bytes"], restored["version"]) == (
        "file_restored",
        "top",
        5,
        OLD,
    )
    assert restored["checksum"].startswith("sha256:")
    assert restored["message"] == "Restored top"
    assert (last["event"], last["exit_code"], last["counts"], last["bytes"], last["error"]) == (
        "restore_finished",
        0,
        {restored_as(restored): 1},
        5,
        "",
    )
    assert last["message"].startswith("The restore ended with exit code 0 in ")
    assert lines(rig, "all.log") == [first, restored, last]


def restored_as(line: dict[str, Any]) -> str:
    return "likely" if line["reason"] else "restored"


def test_what_was_not_restored_is_no_line_of_a_restored_file(rig: Rig) -> None:
    out = rig.base / "out"
    seen = (rig.mirror / "folder" / "file").stat()
    (rig.mirror / "folder" / "file").write_text("OF TODAY")
    os.utime(rig.mirror / "folder" / "file", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    out.mkdir()
    (out / "top").write_text("in the way")

    assert rig.run("restore", "--to", str(out), "folder", "top", "nothing").code == 3
    by_event = {line["event"]: line for line in lines(rig)}
    others = [line for line in lines(rig) if line["event"] == "file_not_restored"]

    assert "file_restored" not in by_event
    assert by_event["file_rotten"]["path"] == "folder/file"
    assert by_event["file_rotten"]["level"] == "error"
    assert {(line["path"], line["reason"]) for line in others} == {("top", "exists"), ("nothing", "not_kept")}
    assert by_event["restore_finished"]["counts"] == {"exists": 1, "not_kept": 1, "rotten": 1}
    assert by_event["restore_finished"]["exit_code"] == 3
    assert {line["event"] for line in lines(rig, "errors.log")} == {"file_rotten", "file_not_restored"}


def test_a_second_restore_of_the_same_logs_no_file(rig: Rig) -> None:
    for _ in range(2):
        assert rig.run("restore", "--to", str(rig.base / "out")).code == 0

    assert [line["event"] for line in lines(rig)] == ["restore_started", "restore_finished"]
    assert lines(rig)[-1]["counts"] == {"equal": 2}


@pytest.mark.needs_tool("strace")
def test_names_that_were_not_synced_are_not_logged_as_restored(rig: Rig) -> None:
    broken = injected("syncfs", "error=EIO:when=2", log=rig.base / "strace.log")

    done = rig.run("restore", "--to", str(rig.base / "out"), prefix=broken)

    assert done.code == 1
    assert [line["event"] for line in lines(rig)] == ["restore_started", "restore_finished"]
    assert (lines(rig)[-1]["exit_code"], lines(rig)[-1]["counts"]) == (1, {})
    assert "failed" in lines(rig)[-1]["error"]
    assert "restored   " not in done.stdout


def test_a_refusal_is_logged_and_changes_nothing(rig: Rig) -> None:
    assert rig.run("restore", "--to", str(rig.mirror)).code == 4

    assert [(line["event"], line["exit_code"]) for line in lines(rig)] == [("restore_finished", 4)]


def test_a_log_that_cannot_be_written_does_not_stop_a_restore(rig: Rig) -> None:
    (rig.base / "logs" / "all.log").unlink()
    (rig.base / "logs" / "all.log").mkdir()

    done = rig.run("restore", "--to", str(rig.base / "out"))

    assert done.code == 0
    assert "# log_file failed, nothing is logged: " in done.stderr
    assert (rig.base / "out" / "top").read_text() == "top"


def test_a_log_that_a_link_leads_into_a_source_is_not_written(rig: Rig) -> None:
    (rig.base / "link").symlink_to(rig.source)
    rig.configure(log_file=str(rig.base / "link" / "all.log"))

    done = rig.run("restore", "--to", str(rig.base / "out"))

    assert done.code == 0
    assert "# nothing is logged: log_file" in done.stderr
    assert not (rig.source / "all.log").exists()


@pytest.mark.needs_root
def test_a_user_who_may_not_write_the_log_can_restore(rig: Rig) -> None:
    for path in (rig.base / "logs").iterdir():
        path.chmod(0o400)
    out = rig.base / "out"
    out.mkdir()

    done = rig.run("restore", "--to", str(out), prefix=UNPRIVILEGED)

    assert done.code == 0, done
    assert "# log_file failed, nothing is logged: " in done.stderr
    assert (out / "top").read_text() == "top"
