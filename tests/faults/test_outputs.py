"""Where log lines go and where they must not: real runs with their standard output, their files and their paths."""

import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import ROOT, Rig, environment, until
from tests.faults.tampering import mounted

pytestmark = pytest.mark.one_process  # only the main one writes these
NEEDS_ROOT = pytest.mark.needs_root
RESERVED = ".truecopy-tmp-x"
"""A file of the source with this name fails."""
STRANGER = 65534


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def shown_on_a_terminal(rig: Rig, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal, and give what that shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        rig.command(*arguments), cwd=ROOT, env=environment() | {"TERM": "xterm"}, stdout=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            shown += chunk
    os.close(ours)
    return process.returncode, shown.decode()


# In sources and mirrors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["log_file", "error_log_file", "textfile"])
@pytest.mark.parametrize("how", ["path", "link", "link to a folder in it", pytest.param("bind", marks=NEEDS_ROOT)])
@pytest.mark.parametrize("noun", ["source", "mirror"])
def test_an_output_in_a_source_or_mirror_is_refused_before_anything_is_written(
    rig: Rig, noun: str, how: str, output: str
) -> None:
    root = rig.source if noun == "source" else rig.mirror
    (root / "logs").mkdir()
    way = rig.base / "way"
    if how.startswith("link"):
        way.symlink_to(root / "logs" if how.endswith("in it") else root)
    place = str((root / "logs" if how == "path" else way) / "a.prom")
    key = "metrics.textfile" if output == "textfile" else output
    rig.configure(**({"metrics": {"enabled": False, "textfile": place}} if output == "textfile" else {output: place}))

    with mounted(str(root), way, "--bind") if how == "bind" else open(os.devnull):
        done, checked = rig.once(), rig.run("config", "check")

    for each in (done, checked):
        assert (each.code, each.stdout) == (2, "")
        assert f'{key} = "{place}": lies in the {noun} {root}' in each.stderr
        assert "write a path outside of every source and mirror" in each.stderr
    assert sorted(each.name for each in rig.mirror.iterdir()) == (["logs"] if noun == "mirror" else [])


@pytest.mark.parametrize("noun", ["source", "mirror"])
@pytest.mark.parametrize("place", ["{root}/backup.log", "{base}/way/backup.log", "{base}/disk/backup.log"])
def test_no_log_makes_a_missing_source_or_mirror_or_the_folder_it_is_in(rig: Rig, place: str, noun: str) -> None:
    disk = rig.base / "disk"
    root = disk / noun
    (rig.base / "way").symlink_to(root)
    pair = {"source": str(rig.source), "dest": str(rig.mirror)} | {"dest" if noun == "mirror" else "source": str(root)}
    rig.configure(pairs=[pair], log_file=place.format(root=root, base=rig.base))

    done = rig.once()

    assert done.code in {2, 4}
    assert not disk.exists()
    assert not list(rig.mirror.iterdir())


def test_a_service_keeps_its_outputs_when_an_edit_puts_them_into_a_mirror(rig: Rig) -> None:
    (rig.base / "way").symlink_to(rig.mirror)
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        rig.configure(log_file=str(rig.base / "way/backup.log"))
        told = service.wait_for("config_rejected")
        (rig.source / "later").touch()
        service.wait_for("file_copied", path="later")
        service.end(signal.SIGTERM)

    assert "lies in the mirror" in told["faults"][0]
    assert not (rig.mirror / "backup.log").exists()
    assert "service_stopped" in events(rig.log)


def test_the_originals_relative_log_files_work_in_any_working_folder(rig: Rig) -> None:
    rig.configure(source_dirs=["source"], dest_dirs=["mirror"], log_file="backup.log", error_log_file="error.log")

    done = subprocess.run(
        rig.command("run", "--once"), cwd=rig.base, env=environment(), capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (rig.base / "backup.log").read_bytes() == done.stdout


# Links and devices ---------------------------------------------------------------------------------------------------


def plant(kind: str, path: Path) -> None:
    if kind == "a link":
        (path.parent / "real.log").touch()
        path.symlink_to("real.log")
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mknod(path, 0o020600, os.makedev(1, 7))


@pytest.mark.parametrize("kind", ["a link", "a named pipe", "a folder", pytest.param("a device", marks=NEEDS_ROOT)])
def test_what_is_no_file_in_the_place_of_a_log_is_named_by_check_and_run_and_stops_no_backup(
    rig: Rig, kind: str
) -> None:
    plant(kind, rig.log)

    checked, done = rig.run("config", "check"), rig.once()

    assert checked.code == 2
    assert f'log_file = "{rig.log}": it is {kind}; a log is written to a regular file only' in checked.stderr
    assert (done.code, done.copied) == (0, {"file"})
    assert done.the("output_failed")["error"].startswith(f"{rig.log} is {kind}; ")
    assert done.lines[1]["event"] == "output_failed", "at the start"


@NEEDS_ROOT
def test_another_users_link_on_the_way_is_named_by_check_and_run_and_not_followed(rig: Rig) -> None:
    (rig.base / "victim").mkdir()
    (rig.base / "logs").symlink_to("victim")
    os.chown(rig.base / "logs", STRANGER, STRANGER, follow_symlinks=False)
    metrics = {"enabled": False, "textfile": str(rig.base / "logs/x.prom")}
    rig.configure(log_file=str(rig.base / "logs/backup.log"), metrics=metrics)

    checked, done = rig.run("config", "check"), rig.once()

    assert checked.code == 2
    assert f"{rig.base}/logs is a link of user {STRANGER}, and only links of root are followed" in checked.stderr
    assert done.code == 0
    assert {line["output"] for line in done.of("output_failed")} == {"log_file", "textfile"}
    for line in done.of("output_failed"):
        assert f"{rig.base}/logs is a link of user {STRANGER}" in line["error"]
    assert not list((rig.base / "victim").iterdir())


@NEEDS_ROOT
@pytest.mark.parametrize("key", ["log_file", "error_log_file"])
def test_a_log_file_of_another_user_or_with_another_name_is_named_and_not_written_to(rig: Rig, key: str) -> None:
    path = {"log_file": rig.log, "error_log_file": rig.error_log}[key]
    path.write_text("theirs\n")
    os.chown(path, STRANGER, STRANGER)
    (rig.source / ".truecopy-tmp-x").touch()  # fails, so that there is something for the error log

    checked, done = rig.run("config", "check"), rig.once()
    os.chown(path, 0, 0)
    os.link(path, rig.base / "another name")
    again = rig.once()

    assert checked.code == 2
    assert f'{key} = "{path}": it belongs to user {STRANGER}' in checked.stderr
    assert (done.code, again.code, done.copied) == (3, 3, {"file"})
    assert f"{path} belongs to user {STRANGER}" in done.the("output_failed")["error"]
    assert "2 names (hard links)" in again.the("output_failed")["error"]
    assert path.read_text() == "theirs\n"


def test_one_file_for_both_logs_is_named_by_check(rig: Rig) -> None:
    (rig.base / "again").symlink_to(".")
    rig.configure(log_file=str(rig.base / "x.log"), error_log_file=str(rig.base / "again/x.log"))
    (rig.source / ".truecopy-tmp-x").touch()

    checked, done = rig.run("config", "check"), rig.once()

    assert checked.code == 2
    assert "it is the file of log_file" in checked.stderr
    assert done.code == 3
    lines = [json.loads(line) for line in (rig.base / "x.log").read_text().splitlines()]
    assert [line["event"] for line in lines].count("file_failed") == 1


@NEEDS_ROOT
def test_a_textfile_of_another_user_or_with_another_name_is_replaced(rig: Rig) -> None:
    rig.textfile.write_text("theirs\n")
    os.chown(rig.textfile, STRANGER, STRANGER)
    os.link(rig.textfile, rig.base / "another name")

    assert rig.once().code == 0

    assert (rig.base / "another name").read_text() == "theirs\n"
    assert (rig.textfile.stat().st_uid, rig.textfile.stat().st_nlink) == (0, 1)


# Many lines ----------------------------------------------------------------------------------------------------------


def test_many_failures_with_long_names_take_little_log_and_none_again_while_they_stay(rig: Rig) -> None:
    deep = rig.source / "u" / "/".join(["\x01" * 200] * 6)
    deep.mkdir(parents=True)
    for number in range(130):
        (deep / f".truecopy-tmp-{number:0200}").touch()
    rig.configure(idle_log_interval=3600, sleep_time=0.2)

    with rig.started("run") as service:
        service.wait_for("cycle_finished", count=3)
        service.end(signal.SIGTERM)
    first, second = (part.splitlines() for part in rig.log.read_text().split('"event": "cycle_started"')[1:3])

    assert all(len(line) <= 4096 for line in rig.log.read_text().splitlines())
    assert sum('"event": "file_failed"' in line for line in first) == 100
    summed = [json.loads(line) for line in first + second if '"event": "log_lines_suppressed"' in line]
    assert [(line["entries"], line["by"], line["because"]) for line in summed[:2]] == [
        (30, {"reserved_name": 30}, "folder"),
        (100, {"reserved_name": 100}, "as_before"),
    ]
    assert sum('"event": "file_failed"' in line for line in second) == 30, "those that had no line before"


# Standard output -----------------------------------------------------------------------------------------------------


def test_a_full_standard_output_costs_no_line_of_the_log_file_and_shows_no_traceback(rig: Rig) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            rig.command("run", "--once"), cwd=ROOT, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert b"Traceback" not in done.stderr
    assert (rig.mirror / "file").exists()
    assert events(rig.log)[-1] == "cycle_finished"
    failed = [json.loads(line) for line in rig.log.read_text().splitlines() if '"output_failed"' in line]
    assert [(line["output"], line["error"]) for line in failed] == [("stdout", "No space left on device")]


def test_quiet_prints_nothing_of_a_success_and_the_log_file_has_it_all(rig: Rig) -> None:
    done = rig.run("run", "--once", "-q")

    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert events(rig.log) == [
        "cycle_started",
        "mirror_adopted",
        "mirror_probed",
        "pair_started",
        "file_copied",
        "pair_finished",
        "cycle_finished",
    ]


def test_quiet_prints_what_is_wrong_and_nothing_else(rig: Rig) -> None:
    (rig.source / RESERVED).touch()

    done = rig.run("run", "--once", "--quiet")

    assert done.code == 3
    assert [line["event"] for line in done.lines] == ["file_failed"]
    assert done.stdout == rig.error_log.read_text()


def test_a_quiet_service_prints_what_is_wrong_and_nothing_else(rig: Rig) -> None:
    (rig.source / RESERVED).touch()
    with rig.started("run", "-q") as service:
        service.wait_for("file_failed")
        until(lambda: '"cycle_finished"' in rig.log.read_text())
        service.end(signal.SIGTERM)

    assert {line["level"] for line in service.lines} == {"error"}


def test_a_terminal_gets_text_and_files_get_json(rig: Rig) -> None:
    (rig.source / RESERVED).touch()

    code, shown = shown_on_a_terminal(rig, "run", "--once", "-q")

    assert code == 3
    (line,) = shown.splitlines()
    time, level, rest = line.split(maxsplit=2)
    assert (time[-1], level) == ("Z", "ERROR")
    assert rest.startswith(f"source: Failed {RESERVED}: ")
    assert '"file_failed"' in rig.error_log.read_text()


@pytest.mark.parametrize("key", ["json", "text"])
def test_a_format_that_is_set_holds_for_standard_output_and_files(rig: Rig, key: str) -> None:
    rig.configure(log_format=key)

    done = rig.run("run", "--once")

    assert done.stdout == rig.log.read_text()
    assert done.stdout.startswith("{") == (key == "json")
    assert "source: Pair source success: 1 copied" in done.stdout or key == "json"


# Rotation and idle cycles --------------------------------------------------------------------------------------------


def test_log_rotate_bounds_both_log_files(rig: Rig) -> None:
    rig.configure(log_rotate={"size": 4096, "count": 2}, log_level="debug")
    for number in range(40):
        (rig.source / f"{RESERVED}{number}").touch()

    for _ in range(4):
        rig.once()

    for path in (rig.log, rig.error_log):
        found = sorted(path.parent.glob(f"{path.name}*"))
        assert [each.name for each in found] == [path.name, f"{path.name}.1", f"{path.name}.2"]
        assert all(json.loads(line) for each in found for line in each.read_text().splitlines())


def service_with(rig: Rig, **options: Any) -> Any:
    rig.configure(idle_log_interval=3600, **options)
    return rig.started("run")


def test_a_service_logs_idle_cycles_as_a_sum_and_what_changes_at_once(rig: Rig) -> None:
    def cycles() -> float:
        return rig.metric("cycles_total", result="success")

    with service_with(rig) as service:
        service.wait_for("cycle_finished")
        until(lambda: rig.textfile.exists() and cycles() >= 4)
        before = events(rig.log)
        (rig.source / "later").write_text("new")
        service.wait_for("file_copied", path="later")
        service.wait_for("cycle_finished", count=2)
        until(lambda: cycles() >= 7)
        service.end(signal.SIGTERM)

    told = service.lines
    assert before.count("cycle_started") == before.count("cycle_finished") == 1
    sums = [line["cycles"] for line in told if line["event"] == "idle_cycles_counted"]
    assert len(sums) == 2
    assert sum(sums) + 2 == cycles()
    assert [line["event"] for line in told].count("cycle_finished") == 2
    assert [line["timestamp"] for line in told] == sorted(line["timestamp"] for line in told)


def test_one_cycle_by_hand_is_always_logged(rig: Rig) -> None:
    rig.configure(idle_log_interval=3600)

    assert rig.once().of("cycle_finished")
    assert rig.once().of("cycle_finished")
