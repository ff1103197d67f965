"""Disks and servers that do not answer: told while they hang, never waited for without end, and healed from."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Line, Rig, Running, environment, until
from tests.faults.troubled import NEEDS, Server, troubled

pytestmark = [*NEEDS, pytest.mark.one_process]  # the tests say themselves how many workers there are

SIDES = ("source", "mirror")
slow_source, slow_mirror = (pytest.param(side, marks=pytest.mark.slow) for side in SIDES)
SECONDS = 1.5
FOLDERS = 60
CALLS = {"source": "read", "mirror": "write"}
"""What hangs in one folder, where not the whole server does."""


@contextmanager
def hanging(base: Path, side: str, folders: int = 8, **options: Any) -> Iterator[tuple[Rig, Server]]:
    """Give a rig with one side on a server that may hang; some of it is copied already, and some is new."""
    with troubled(base / side) as server:
        rig = Rig(base, {"state_dir": str(base / "state"), **options})
        rig.finely = rig.options.get("workers", 1) > 1
        plant(rig, "old", folders)
        assert rig.once().code == 0
        plant(rig, "newer", folders)
        rig.configure(**rig.options, stall_timeout=SECONDS)
        yield rig, server


def plant(rig: Rig, content: str, folders: int) -> None:
    for number in range(folders):
        folder = rig.source / f"folder {number}"
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text(f"{content} {number}")
        (folder / f"{content} only").write_text(content)


def heals(rig: Rig) -> None:
    """The next run is a success and leaves an equal tree; it may be slow, as any may on a busy machine."""
    rig.configure(**rig.options, stall_timeout=0)
    again = rig.once()
    assert again.code == 0, again
    assert contents(rig.mirror) == contents(rig.source)
    assert not rig.temps


def contents(root: Path) -> dict[str, bytes]:
    return {str(each.relative_to(root)): each.read_bytes() for each in root.glob("folder*/*")}


def files_stay_whole(rig: Rig) -> None:
    """What has a final name is as it was or as it is to be."""
    for path in rig.mirror.glob("folder*/[!.]*"):
        assert path.read_text().split()[0] in {"old", "newer"}, path


def told(rig: Rig, running: Running) -> Line:
    """Wait until it is told that a cycle hangs; it is so in the error log and in the metric."""
    line = running.wait_for("cycle_stalled")
    until(lambda: rig.metric("cycle_stalled") == 1)
    errors = [json.loads(each) for each in rig.error_log.read_text().splitlines()]
    assert ("cycle_stalled", line["process"]) in [(each["event"], each.get("process")) for each in errors]
    return line


def healthy(rig: Rig) -> bool:
    """Ask as a container engine does."""
    done = subprocess.run(rig.command("healthcheck"), env=environment(), capture_output=True, check=False)
    return done.returncode == 0


# One-shot runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_run_on_a_server_that_hangs_tells_it_and_ends_failed_although_it_still_hangs(
    tmp_path: Path, side: str
) -> None:
    with hanging(tmp_path, side) as (rig, server):
        server.hold()
        with rig.started("run", "--once") as running:
            line = told(rig, running)
            code = running.process.wait(60)
        server.go_on()

        assert code == 1
        assert (line["pair"], line["process"]) == ("source", "main")
        assert line["stalled_seconds"] >= SECONDS
        assert "open" in line["doing"]
        files_stay_whole(rig)
        heals(rig)


@pytest.mark.parametrize("side", ["source", slow_mirror])
def test_where_not_even_a_kill_ends_the_call_it_is_told_while_it_hangs_and_the_folder_is_named(
    tmp_path: Path, side: str
) -> None:
    with hanging(tmp_path, side) as (rig, server):
        server.tell(hang={CALLS[side]: "folder 5/"})
        with rig.started("run", "--once") as running:
            line = told(rig, running)
            server.tell()
            code = running.process.wait(60)

        assert code == 1
        assert Path(line["where"]).is_relative_to(rig.base / side)
        files_stay_whole(rig)
        heals(rig)


@pytest.mark.parametrize("side", [slow_source, "mirror"])
def test_a_stop_of_a_run_that_hangs_ends_it_all_the_same(tmp_path: Path, side: str) -> None:
    with hanging(tmp_path, side) as (rig, server):
        rig.configure(**rig.options, stall_timeout=3600)
        server.hold()
        with rig.started("run", "--once") as running:
            running.wait_for("cycle_started")
            code, _ = running.end(signal.SIGTERM)
            server.go_on()

        assert code == 143
        heals(rig)


def test_without_a_deadline_a_run_waits_and_goes_on_when_the_server_does(tmp_path: Path) -> None:
    with hanging(tmp_path, "source") as (rig, server):
        rig.configure(**rig.options, stall_timeout=0)
        server.hold()
        with rig.started("run", "--once") as running:
            running.wait_for("cycle_started")
            server.go_on()
            code = running.process.wait(60)

        assert code == 0
        assert not [line for line in running.lines if line["event"] == "cycle_stalled"]


# Workers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [slow_source, "mirror"])
def test_a_worker_that_hangs_is_given_up_and_the_others_do_the_rest(tmp_path: Path, side: str) -> None:
    # More folders than a worker is sent to at once: what the one that hangs has not got is for the other.
    with hanging(tmp_path, side, FOLDERS, workers=2, workers_from=0) as (rig, server):
        rig.configure(**rig.options, stall_timeout=2 * SECONDS)
        server.tell(hang={CALLS[side]: "folder 1/"})
        with rig.started("run", "--once") as running:
            line = told(rig, running)
            code = running.wait_for("cycle_finished")
            server.tell()
            running.process.wait(60)

        failed = {each["path"]: each["reason"] for each in running.lines if each["event"] == "file_failed"}
        copied = {each["path"] for each in running.lines if each["event"] == "file_copied"}
        assert line["process"].startswith("worker ")
        assert (running.process.returncode, code["result"]) == (3, "partial")
        assert failed["folder 1"] == "worker_lost"
        assert set(failed.values()) == {"worker_lost"}
        others = {f"folder {number}" for number in range(FOLDERS)} - failed.keys()
        assert {path.partition("/")[0] for path in copied} == others
        assert copied
        files_stay_whole(rig)
        heals(rig)


def test_when_all_workers_hang_the_pair_is_given_up_and_the_next_one_is_done(tmp_path: Path) -> None:
    with hanging(tmp_path, "source") as (rig, server):
        other, other_mirror = tmp_path / "other", tmp_path / "other mirror"
        other.mkdir()
        other_mirror.mkdir()
        (other / "file").write_text("elsewhere")
        pairs = [
            {"source": str(rig.source), "dest": str(rig.mirror)},
            {"source": str(other), "dest": str(other_mirror)},
        ]
        rig.finely = True
        rig.configure(**rig.options, workers=2, workers_from=0, stall_timeout=2 * SECONDS, pairs=pairs)
        server.tell(hang={"read": "folder "})
        with rig.started("run", "--once") as running:
            failed = running.wait_for("pair_failed", pair="source")
            running.wait_for("file_copied", pair="other")
            server.tell()
            code = running.process.wait(60)

        assert code == 1
        assert "no worker came back" in failed["error"]
        files_stay_whole(rig)
        heals(rig)


# The service ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "side"),
    [
        ("stopped", "source"),
        ("stuck", "mirror"),
        pytest.param("stuck", "source", marks=pytest.mark.slow),
        pytest.param("stopped", "mirror", marks=pytest.mark.slow),
    ],
)
def test_a_service_on_a_server_that_hangs_is_unhealthy_and_goes_on_when_it_answers(
    tmp_path: Path, side: str, how: str
) -> None:
    with hanging(tmp_path, side, sleep_time=0.2) as (rig, server):
        with rig.started("run") as service:
            service.wait_for("cycle_finished", result="success")
            server.hold() if how == "stopped" else server.tell(hang={"getattr": "folder 5"})
            told(rig, service)
            until(lambda: not healthy(rig))
            server.go_on() if how == "stopped" else server.tell()
            service.wait_for("cycle_resumed")
            (tmp_path / "source" / "folder 1" / "later").write_text("later")
            service.wait_for("file_copied", path="folder 1/later")
            until(lambda: healthy(rig))
            until(lambda: rig.metric("cycle_stalled") == 0)
            code, _ = service.end(signal.SIGTERM)

        assert code == 0
        assert "Traceback" not in service.errors


def test_a_stop_of_a_service_that_hangs_ends_it_all_the_same(tmp_path: Path) -> None:
    with hanging(tmp_path, "source", sleep_time=0.2) as (rig, server):
        rig.configure(**rig.options, stall_timeout=3600)
        with rig.started("run") as service:
            service.wait_for("cycle_finished", result="success")
            server.hold()
            begun = len([line for line in service.lines if line["event"] == "cycle_started"])
            service.wait_for("cycle_started", count=begun)
            code, _ = service.end(signal.SIGTERM)
            server.go_on()

        assert code in {0, 143}
        heals(rig)
