"""`truecopy run --once` and the errors of the command line, as a process."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import ROOT, Rig, environment, temps_in, until
from tests.faults.trees import remove

WINDOWS: dict[str, Any] = {
    "run_enabled": "N",
    "source_dirs": ["C:\\Users\\me\\Music", "D:\\Photos"],
    "dest_dirs": ["E:\\Backup\\Music", "E:\\Backup\\Photos"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


@pytest.mark.parametrize("path", ["C:\\Logs\\backup.log", "C:/Logs/backup.log", "~/backup.log"])
def test_a_disabled_run_makes_no_file_at_a_path_that_means_nothing_here(rig: Rig, path: str) -> None:
    folder = rig.base / "working"
    folder.mkdir()
    rig.configure(run_enabled="N", log_file=path, error_log_file=path, state_dir=path)

    command = [sys.executable, "-m", "job", "--config", str(rig.config), "run", "--once"]
    done = subprocess.run(command, cwd=folder, env=environment() | {"PYTHONPATH": str(ROOT)}, check=False)

    assert done.returncode == 0
    assert list(folder.iterdir()) == []


def test_success_is_0(rig: Rig) -> None:
    done = rig.once()

    assert done.code == 0
    assert done.stderr == ""


def test_a_failed_entry_is_3(rig: Rig) -> None:
    (rig.source / ".truecopy").write_text("reserved")

    done = rig.once()

    assert (done.code, done.copied) == (3, {"file"})


def test_a_refused_pair_is_4(rig: Rig) -> None:
    remove(rig.source)

    assert rig.once().code == 4


def test_another_instance_is_75(rig: Rig) -> None:
    rig.configure(rate_limit=1)
    with rig.started("run", "--once"):
        until(lambda: temps_in(rig.mirror))

        assert rig.once().code == 75


def test_another_instance_is_0_and_is_told_where_busy_runs_are_to_be_skipped(rig: Rig) -> None:
    rig.configure(rate_limit=1)
    with rig.started("run", "--once"):
        until(lambda: temps_in(rig.mirror))

        done = rig.run("run", "--once", "--skip-if-busy")

    assert done.code == 0
    assert [line["event"] for line in done.lines if line["level"] == "warning"] == ["pair_busy"]
    assert done.lines[-1]["event"] == "busy_skipped"
    assert "--skip-if-busy" in done.lines[-1]["message"]
    assert metric(rig.textfile.read_text(), 'truecopy_last_success_timestamp_seconds{pair="source"}') == 0


def test_skipping_busy_pairs_excuses_nothing_else(rig: Rig) -> None:
    assert rig.run("run", "--once", "--skip-if-busy").code == 0

    (rig.source / ".truecopy").write_text("reserved")
    partial = rig.run("run", "--once", "--skip-if-busy")
    rig.mirror.rename(rig.mirror.with_name("elsewhere"))
    refused = rig.run("run", "--once", "--skip-if-busy")

    assert (partial.code, refused.code) == (3, 4)
    assert "busy_skipped" not in {line["event"] for line in partial.lines + refused.lines}


def test_skipping_busy_pairs_is_for_one_run(rig: Rig) -> None:
    done = rig.run("run", "--skip-if-busy")

    assert done.code == 2
    assert "--once" in done.stderr


def metric(text: str, series: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{series} "))


def test_the_interval_of_an_outer_schedule_is_what_the_metrics_say(rig: Rig, tmp_path: Path) -> None:
    textfile = tmp_path / "truecopy.prom"
    shown = []
    for key in ({}, {"expected_interval": "1 day"}, {"expected_interval": "1 day", "schedule": "every 6 hours"}):
        rig.configure(sleep_time=30, metrics={"textfile": str(textfile)}, **key)
        assert rig.once().code == 0
        shown.append(metric(textfile.read_text(), "truecopy_schedule_interval_seconds"))

    assert shown == [30, 86400, 86400]


def test_an_output_that_fails_in_one_shot_runs_is_counted_over_them(rig: Rig, tmp_path: Path) -> None:
    textfile = tmp_path / "truecopy.prom"
    rig.configure(metrics={"textfile": str(textfile), "pushgateway": "http://127.0.0.1:1"})

    shown = []
    for _ in range(3):
        assert rig.once().code == 0
        shown.append(metric(textfile.read_text(), 'truecopy_output_failures_total{output="pushgateway"}'))

    # The push of a run fails after its textfile was written.
    assert shown == [0, 1, 2]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_128_and_its_number_and_quick(rig: Rig, number: signal.Signals, code: int) -> None:
    rig.configure(rate_limit=1)
    with rig.started("run", "--once") as running:
        until(lambda: temps_in(rig.mirror))
        ended, seconds = running.end(number)

    assert ended == code
    assert seconds < 5
    assert running.lines[-1]["event"] == "cycle_finished"
    assert running.lines[-1]["result"] == "stopped"
    assert not rig.temps


@pytest.mark.parametrize("arguments", [("run", "--twice"), ("walk",), ("run", "--once", "more")], ids=" ".join)
def test_a_wrong_command_line_is_2(rig: Rig, arguments: tuple[str, ...]) -> None:
    done = rig.run(*arguments)

    assert done.code == 2
    assert "Usage: truecopy" in done.stderr
    assert "Error: " in done.stderr
    assert done.stdout == ""


def test_a_missing_config_is_2_and_names_the_file(rig: Rig) -> None:
    rig.config.unlink()

    done = rig.run("run", "--once")

    assert done.code == 2
    assert str(rig.config) in done.stderr
    assert "\nhint: " in done.stderr


def test_every_fault_of_a_config_is_printed_at_once(rig: Rig) -> None:
    rig.write(json.loads(rig.config.read_text()) | {"dest_dirs": [], "slep_time": 3, "checksum": "crc32"})

    done = rig.run("run", "--once")

    faults = [line for line in done.stderr.splitlines() if line.startswith("  - ")]
    assert done.code == 2
    assert done.stdout == ""
    assert len(faults) == 3
    assert done.stderr.startswith("error: ")
    for words in (("source_dirs", "1", "dest_dirs", "0"), ("slep_time", "sleep_time"), ("crc32", "sha256")):
        assert [fault for fault in faults if all(word in fault for word in words)], words


@pytest.mark.parametrize("switch", ["N", "n", "no", ""])
def test_the_originals_sample_with_windows_paths_is_accepted_while_it_is_disabled(rig: Rig, switch: str) -> None:
    rig.write(WINDOWS | {"run_enabled": switch, "log_file": str(rig.log), "error_log_file": str(rig.error_log)})

    done = rig.run("run", "--once")

    assert done.code == 0, done.stderr
    assert [line["event"] for line in done.lines] == ["run_disabled"]
    assert done.lines[0]["run_enabled"] == switch
    assert rig.log.read_text() == done.stdout


def test_the_originals_sample_enabled_is_2_and_says_which_mounts_are_missing(rig: Rig) -> None:
    rig.write(WINDOWS | {"run_enabled": "Y"})

    done = rig.run("run", "--once")

    faults = [line for line in done.stderr.splitlines() if line.startswith("  - ")]
    assert done.code == 2
    assert len(faults) == 4
    for path in (*WINDOWS["source_dirs"], *WINDOWS["dest_dirs"]):
        assert [fault for fault in faults if path in fault and "mount" in fault], (path, faults)


def test_the_six_keys_alone_are_enough(rig: Rig) -> None:
    """Relative paths mean relative to the working folder, as they did to the original script."""
    six = WINDOWS | {"run_enabled": "Y", "source_dirs": ["source"], "dest_dirs": ["mirror"]}
    rig.write(six)

    done = subprocess.run(
        rig.command("run", "--once"), cwd=rig.base, env=environment(), capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (rig.mirror / "file").read_text() == "content"
    assert (rig.base / "backup.log").read_bytes() == done.stdout
    assert not list(rig.base.glob("*.prom"))


def test_a_log_file_that_cannot_be_written_never_stops_a_cycle(rig: Rig) -> None:
    (rig.base / "file").write_text("in the way")
    rig.configure(log_file=str(rig.base / "file" / "backup.log"))

    done = rig.once()

    assert (done.code, done.copied) == (0, {"file"})
    assert done.of("output_failed")[0]["output"] == "log_file"
    assert rig.metric("output_failures_total", output="log_file") >= 1


def test_a_textfile_and_a_pushgateway_that_fail_never_fail_the_cycle(rig: Rig) -> None:
    rig.configure(
        metrics={"textfile": str(rig.base / "missing" / "x.prom"), "pushgateway": "http://127.0.0.1:9", "port": 9999}
    )

    done = rig.once()

    assert (done.code, done.copied) == (0, {"file"})
    assert {line["output"] for line in done.of("output_failed")} >= {"pushgateway"}


def test_a_reader_that_goes_away_does_not_stop_the_copying(rig: Rig) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        rig.command("run", "--once"), cwd=ROOT, env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)

    assert b"Traceback" not in done.stderr
    assert done.returncode == 0
    assert (rig.mirror / "file").exists()


def test_on_a_terminal_there_are_bars_and_a_summary_and_the_log_file_has_the_lines(rig: Rig) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        rig.command("run", "--once"), cwd=ROOT, env=environment() | {"TERM": "xterm"}, stdout=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while chunk := read_on(ours):
            shown += chunk
    os.close(ours)

    assert process.returncode == 0
    assert b"{" not in shown
    assert b"source" in shown
    assert '"file_copied"' in rig.log.read_text()


def read_on(terminal: int) -> bytes:
    """Read what a terminal shows; nothing once the other side is gone."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
