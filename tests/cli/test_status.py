"""`truecopy status`: the last cycle of each pair, for people and for programs."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import mounted
from tests.faults.trees import remove
from tests.walls import needs_landlock


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def document(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_before_the_first_cycle_it_says_so_and_makes_nothing(rig: Rig) -> None:
    done = rig.run("status")
    told = document(rig.run("status", "--json"))

    assert "source: no cycle yet" in done.stdout
    assert told["pairs"][0]["result"] is None
    assert told["pairs"][0]["last_success"] is None
    assert told["service"]["alive"] is False
    assert list(rig.mirror.iterdir()) == []


def test_after_a_cycle_it_tells_counts_and_times(rig: Rig) -> None:
    run = rig.once()

    (pair,) = document(rig.run("status", "--json"))["pairs"]

    assert (pair["pair"], pair["source"], pair["mirror"]) == ("source", str(rig.source), str(rig.mirror))
    assert (pair["result"], pair["copied"], pair["bytes_copied"], pair["failed"]) == ("success", 1, 7, 0)
    assert pair["last_success"] == pair["last_attempt"]
    assert pair["last_success"][:16] == run.the("pair_finished")["timestamp"][:16]


def test_it_tells_what_the_mirror_can_hold_once_that_is_known(rig: Rig) -> None:
    (before,) = document(rig.run("status", "--json"))["pairs"]
    run = rig.once()
    (pair,) = document(rig.run("status", "--json"))["pairs"]

    assert before["file_system"] is None
    assert pair["file_system"]["file_system"] == run.the("mirror_probed")["file_system"]
    assert pair["file_system"]["hard_links"] is True
    assert f"    the mirror ({pair['file_system']['file_system']}) " in rig.run("status").stdout


@pytest.mark.needs_root
def test_it_names_what_is_mounted_in_the_source_and_left_out(rig: Rig) -> None:
    with mounted("tmpfs", rig.source / "music", "-t", "tmpfs"):
        rig.configure(cross_mounts=False)
        (pair,) = document(rig.run("status", "--json"))["pairs"]
        text = rig.run("status").stdout
        rig.configure(cross_mounts=True)
        (taken_in,) = document(rig.run("status", "--json"))["pairs"]

    assert pair["left_out"] == [{"path": "music", "file_system": "tmpfs"}]
    assert "left out of the source: music (tmpfs is mounted there; see cross_mounts)" in text
    assert taken_in["left_out"] == []


def test_after_a_partial_cycle_the_last_success_stays(rig: Rig) -> None:
    rig.once()
    (before,) = document(rig.run("status", "--json"))["pairs"]
    (rig.source / ".truecopy").write_text("reserved")
    rig.once()

    (pair,) = document(rig.run("status", "--json"))["pairs"]
    text = rig.run("status").stdout

    assert (pair["result"], pair["failed"], pair["last_success"]) == ("partial", 1, before["last_success"])
    assert "partial at " in text
    assert "1 failed" in text


def test_a_missing_mirror_is_no_error(rig: Rig) -> None:
    remove(rig.mirror)

    done = rig.run("status")

    assert done.code == 0
    assert "no cycle yet" in done.stdout
    assert not rig.mirror.exists()


def test_a_torn_history_is_told_and_left_as_it_is(rig: Rig) -> None:
    rig.once()
    (rig.state / "history.sqlite3").write_bytes(b"no database at all")

    (pair,) = document(rig.run("status", "--json"))["pairs"]
    text = rig.run("status").stdout

    assert pair["trouble"]
    assert "its history cannot be read" in text
    assert (rig.state / "history.sqlite3").read_bytes() == b"no database at all"


def test_while_the_service_waits_it_is_alive_and_tells_when_the_next_cycle_is_due(rig: Rig) -> None:
    rig.configure(sleep_time=600)
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        told = document(rig.run("status", "--json"))
        service.end(signal.SIGTERM)
    later = document(rig.run("status", "--json"))

    assert told["service"]["alive"] is True
    assert told["service"]["next_due"]
    assert (later["service"]["alive"], later["service"]["next_due"]) == (False, None)


def test_every_pair_is_told(rig: Rig) -> None:
    other = rig.base / "other"
    other.mkdir()
    pairs = [
        {"name": "one", "source": str(rig.source), "dest": str(rig.mirror)},
        {"name": "two", "source": str(rig.base / "missing"), "dest": str(other)},
    ]
    rig.configure(pairs=pairs, state_dir=str(rig.base / "state"))
    rig.once()

    told = document(rig.run("status", "--json"))

    assert [(pair["pair"], pair["result"]) for pair in told["pairs"]] == [("one", "success"), ("two", None)]


def test_a_broken_config_is_2(rig: Rig) -> None:
    rig.config.write_text("{")

    done = rig.run("status")

    assert done.code == 2
    assert done.stderr.startswith("error: ")


@needs_landlock
def test_the_wall_around_the_work_is_told_with_what_nobody_behind_it_can_do(rig: Rig) -> None:
    said, told = rig.run("status").stdout, json.loads(rig.run("status", "--json").stdout)["wall"]

    assert told["landlock"] == "auto"
    assert told["abi"] >= 2
    assert "write anything but the mirror and the state of the pair" in told["cannot"]
    assert not told["missing"]
    assert f"(Landlock, version {told['abi']})" in said


def test_a_wall_that_is_off_is_told(rig: Rig) -> None:
    rig.configure(landlock="off")
    said, told = rig.run("status").stdout, json.loads(rig.run("status", "--json").stdout)["wall"]

    assert "wall: none, landlock is off\n" in said
    assert told == {"landlock": "off", "abi": None, "cannot": [], "missing": "landlock is off"}


@pytest.mark.needs_tool("strace")
def test_a_system_without_it_is_told(rig: Rig) -> None:
    fault = ["strace", "-qq", "-o", str(rig.base / "log"), "-e", "inject=landlock_create_ruleset:error=ENOSYS"]

    assert "wall: none, this system does not offer Landlock: Function not" in rig.run("status", prefix=fault).stdout
