"""The service as users run it: a loop with a config that is edited while it runs, and signals."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.faults.holding import Holding
from tests.faults.rig import Rig, Running, temps_in, until

pytestmark = pytest.mark.one_process  # the service itself; with workers: test_workers.py


@pytest.fixture(autouse=True)
def content(rig: Rig) -> None:
    (rig.source / "file").write_text("content")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ends_well(service: Running, number: signal.Signals = signal.SIGTERM) -> None:
    code, seconds = service.end(number)
    assert code == 0
    assert seconds < 5
    assert service.lines[-1]["event"] == "service_stopped"
    assert service.lines[-1]["reason"] == number.name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_runs_at_start_and_again_copies_what_is_dropped_and_stops(rig: Rig, number: signal.Signals) -> None:
    with rig.started("run") as service:
        service.wait_for("file_copied", path="file")
        service.wait_for("cycle_finished", result="success")
        (rig.source / "dropped").write_text("dropped")
        service.wait_for("file_copied", path="dropped")
        service.wait_for("cycle_finished", count=2)
        ends_well(service, number)

    assert service.lines[0]["event"] == "service_started"
    assert rig.mirrored == rig.wanted
    assert rig.log.read_text() == service.output.read_text()


def test_a_config_edited_while_the_service_runs_is_followed_rejected_and_mended(rig: Rig) -> None:
    other, other_mirror = rig.base / "other", rig.base / "other mirror"
    other.mkdir()
    other_mirror.mkdir()
    (other / "elsewhere").write_text("elsewhere")
    two = {
        "source_dirs": [str(rig.source), str(other)],
        "dest_dirs": [str(rig.mirror), str(other_mirror)],
    }
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        until(lambda: rig.textfile.exists() and rig.metric("config_last_reload_successful") == 1)

        rig.configure(**two)
        assert service.wait_for("config_reloaded")["pairs"] == ["source", "other"]
        service.wait_for("file_copied", pair="other", path="elsewhere")

        rig.config.write_text('{"run_enabled": "Y", "source_dirs": ["a"], "dest_dirs": [], "slep_time": 3')
        service.wait_for("config_rejected", level="error")
        cycles = len([line for line in service.lines if line["event"] == "cycle_finished"])
        (other / "later").write_text("the old config goes on")
        service.wait_for("file_copied", pair="other", path="later")
        service.wait_for("cycle_finished", count=cycles + 2)
        until(lambda: rig.metric("config_last_reload_successful") == 0)

        rig.configure(**two, log_level="debug")
        service.wait_for("config_reloaded", count=2)
        service.wait_for("next_cycle_due")
        until(lambda: rig.metric("config_last_reload_successful") == 1)
        ends_well(service)

    rejected = [line for line in service.lines if line["event"] == "config_rejected"]
    assert len(rejected) == 1
    assert all(line["result"] == "success" for line in service.lines if line["event"] == "cycle_finished")


def emptied(config: Path) -> None:
    config.write_bytes(b"")


def cut_off(config: Path) -> None:
    os.truncate(config, config.stat().st_size // 2)


def removed(config: Path) -> None:
    config.unlink()


def made_a_folder(config: Path) -> None:
    config.unlink()
    config.mkdir()


def made_a_fifo(config: Path) -> None:
    config.unlink()
    os.mkfifo(config)


def filled_with_zeros(config: Path) -> None:
    config.write_bytes(bytes(5000))


@pytest.mark.parametrize("harm", [emptied, cut_off, removed, made_a_folder, made_a_fifo, filled_with_zeros])
def test_a_config_that_is_broken_in_the_middle_of_a_cycle_changes_nothing_but_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    holding = Holding(rig.state)
    holding.begin(rig.base / "code", monkeypatch)
    with rig.started("run") as service:
        holding.wait()
        harm(rig.config)
        holding.let_go()
        service.wait_for("file_copied", path="file")
        service.wait_for("config_rejected", level="error")
        (rig.source / "later").write_text("the old config goes on")
        service.wait_for("file_copied", path="later")
        until(lambda: rig.metric("config_last_reload_successful") == 0)
        ends_well(service)

    assert len([line for line in service.lines if line["event"] == "config_rejected"]) == 1
    assert {line["result"] for line in service.lines if line["event"] == "cycle_finished"} == {"success"}
    assert rig.mirrored == rig.wanted


def test_a_rejected_edit_tells_every_fault(rig: Rig) -> None:
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        document = json.loads(rig.config.read_text())
        rig.write(document | {"dest_dirs": [], "slep_time": 3, "checksum": "crc32"})
        rejected = service.wait_for("config_rejected")
        ends_well(service)

    told = " ".join(rejected["faults"])
    assert len(rejected["faults"]) == 3
    for word in ("sleep_time", "crc32", "dest_dirs"):
        assert word in told


def test_a_disabled_service_waits_until_it_is_enabled(rig: Rig) -> None:
    rig.configure(run_enabled="N")
    with rig.started("run") as service:
        service.wait_for("run_disabled", run_enabled="N")
        rig.configure()
        service.wait_for("file_copied", path="file")
        ends_well(service)

    assert len([line for line in service.lines if line["event"] == "run_disabled"]) == 1


def test_a_stop_in_the_middle_of_a_slow_copy_is_quick_and_leaves_no_temp(rig: Rig) -> None:
    (rig.source / "slow").write_bytes(bytes(1_000_000))
    rig.configure(rate_limit=10_000)
    with rig.started("run") as service:
        until(lambda: len(temps_in(rig.mirror)) == 2)
        ends_well(service)

    (summary,) = [line for line in service.lines if line["event"] == "cycle_finished"]
    assert summary["result"] == "stopped"
    assert not rig.temps


def test_a_restart_remembers_the_counters(rig: Rig) -> None:
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        ends_well(service)
    copied, cycles = rig.metric("files_copied_total"), rig.metric("cycles_total", result="success")
    (rig.source / "another").write_text("another")

    with rig.started("run") as service:
        service.wait_for("file_copied", path="another")
        service.wait_for("cycle_finished")
        until(lambda: rig.metric("files_copied_total") > copied)
        ends_well(service)

    assert (copied, rig.metric("files_copied_total")) == (1, 2)
    assert rig.metric("cycles_total", result="success") > cycles >= 1


def test_the_port_shows_what_the_cycle_did(rig: Rig) -> None:
    port = free_port()
    os.mkfifo(rig.source / "fifo")
    rig.configure(metrics={"port": port}, sleep_time=60)
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        shown = fetched(f"http://127.0.0.1:{port}/metrics")
        healthy = fetched(f"http://127.0.0.1:{port}/healthz")
        ends_well(service)

    assert 'truecopy_files_copied_total{pair="source"} 1.0' in shown
    assert 'truecopy_files_skipped_total{pair="source",reason="special_file"} 1.0' in shown
    assert healthy


def fetched(address: str) -> str:
    with urlopen(address, timeout=10) as answer:
        body: Any = answer.read()
        return str(body, "utf-8")


def test_a_pair_that_cannot_be_done_is_tried_again_in_each_cycle_and_heals(rig: Rig, tmp_path: Path) -> None:
    rig.source.rename(tmp_path / "unplugged")
    with rig.started("run") as service:
        service.wait_for("pair_refused", count=2, reason="source_missing")
        (tmp_path / "unplugged").rename(rig.source)
        service.wait_for("file_copied", path="file")
        service.wait_for("cycle_finished", result="success")
        ends_well(service)

    assert rig.metric("last_success_timestamp_seconds") > 0
