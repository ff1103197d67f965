"""Whole runs behind the kernel's wall: in every way of working, as whoever runs them, and with code that misbehaves."""

import json
import os
import signal
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import PATIENCE, UNPRIVILEGED, Line, Rig
from tests.faults.test_service import free_port
from tests.faults.trees import plant
from tests.walls import needs_landlock

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are

WAYS: dict[str, dict[str, Any]] = {
    "one process": {"workers": 1},
    "forked workers": {"workers": 2, "workers_from": 0},
    "service": {"workers": 1},
    "service with fresh workers": {"workers": 2, "workers_from": 0},
}

MISBEHAVING = """
    import json, os
    from job.fs.copier import Copier
    from job.fs.small_copies import PlainCopier

    TOP = os.environ["MISBEHAVE_IN"]

    def touched(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))

    DEEDS = {
        "write to the source": lambda: touched(TOP + "/source/file"),
        "make in the source": lambda: touched(TOP + "/source/made"),
        "remove from the source": lambda: os.unlink(TOP + "/source/precious"),
        "write outside": lambda: touched(TOP + "/outside/file"),
        "move out": lambda: os.link(TOP + "/source/file", TOP + "/outside/stolen"),
        "read outside": lambda: open(TOP + "/outside/file").close(),
        "change the config": lambda: touched(TOP + "/config.json"),
        "change the log": lambda: touched(TOP + "/backup.log"),
        "write for the system": lambda: touched("/etc/truecopy-test"),
        "read a secret": lambda: open("/etc/shadow").close(),
        "make in the mirror": lambda: touched(TOP + "/mirror/may be made"),
    }

    def copy(self, *_):
        told = {"pid": os.getpid(), "fresh": b"multiprocessing" in open("/proc/self/cmdline", "rb").read()}
        for name, deed in DEEDS.items():
            try:
                deed()
                told[name] = "done"
            except PermissionError:
                told[name] = "stopped"
            except OSError as error:
                told[name] = error.strerror
        raise OSError(json.dumps(told))

    Copier.copy, PlainCopier.copy = copy, lambda self, listed, *_, **__: ([], [(entry, None) for entry in listed])
"""
HARMLESS = {"make in the mirror"}


@pytest.fixture
def misbehaving(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Have every interpreter of the product run code that breaks out instead of copying."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/sitecustomize.py").write_text(textwrap.dedent(MISBEHAVING))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("outside")
    for name in ("file", "precious"):
        (rig.source / name).write_text(name)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setenv("MISBEHAVE_IN", str(tmp_path))
    return rig


def worked(rig: Rig, way: str, *, prefix: Sequence[str] = (), **options: Any) -> tuple[list[Line], int]:
    """Do a cycle in some way of working; give what was told, and the number of the main process if it was seen."""
    rig.finely = "workers" in way
    if not way.startswith("service"):
        rig.configure(**WAYS[way], **options)
        return rig.once(prefix=prefix).lines, 0
    # The port has a thread, so that workers are fresh interpreters.
    rig.configure(**WAYS[way], **options, sleep_time=600, metrics={"port": free_port()})
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        assert service.end(signal.SIGTERM)[0] == 0
    return service.lines, service.process.pid


def attempts(lines: list[Line]) -> list[dict[str, Any]]:
    """Give what the misbehaving code says of its tries."""
    failures = [line["error"] for line in lines if line["event"] == "file_failed"]
    return [json.loads(error[error.index("{") : error.rindex("}") + 1]) for error in failures if "{" in error]


@needs_landlock
@pytest.mark.parametrize("way", WAYS)
def test_code_that_misbehaves_is_stopped_by_the_kernel(misbehaving: Rig, way: str) -> None:
    lines, main = worked(misbehaving, way, landlock="required")
    tried = attempts(lines)

    assert tried
    for told in tried:
        by = told.pop("pid")
        assert not main or (by != main) == ("workers" in way)
        assert told.pop("fresh") == (way == "service with fresh workers")
        assert {name for name, how in told.items() if how == "done"} == HARMLESS
        assert {how for name, how in told.items() if name not in HARMLESS} <= {"stopped", "Invalid cross-device link"}
    assert (misbehaving.source / "precious").read_text() == "precious"
    assert sorted(os.listdir(misbehaving.source)) == ["file", "precious"]
    assert os.listdir(misbehaving.base / "outside") == ["file"]
    assert not [line for line in lines if line["event"] in {"sandbox_unavailable", "worker_lost", "output_failed"}]


@pytest.mark.needs_root
def test_without_a_wall_the_same_code_would_do_it(misbehaving: Rig) -> None:
    try:
        (told, *_) = attempts(worked(misbehaving, "one process", landlock="off")[0])
    finally:
        Path("/etc/truecopy-test").unlink(missing_ok=True)

    assert {"write to the source", "remove from the source", "read outside", "change the config"} <= {
        name for name, how in told.items() if how == "done"
    }


@needs_landlock
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_everything_that_a_backup_does_can_be_done_behind_a_wall(rig: Rig, way: str, state: str) -> None:
    plant(rig.source)
    linked = rig.source / "linked"
    (linked / "below").mkdir(parents=True)
    (linked / "one").write_text("one file")
    os.link(linked / "one", linked / "below" / "two")
    os.mkfifo(rig.source / "fifo")
    place = {"state_dir": str(rig.base / "state")} if state == "elsewhere" else {}
    options: dict[str, Any] = {**place, "landlock": "required", "specials": "recreate", "audit_interval": 0}
    worked(rig, way, **options)

    # A folder becomes a file and the other way round; contents and links change.
    (rig.source / "empty folder").rmdir()
    (rig.source / "empty folder").write_text("a file now")
    (rig.source / "old").unlink()
    (rig.source / "old").mkdir()
    (rig.source / "old/in it").write_text("new")
    (rig.source / "large").write_bytes(os.urandom(3 << 20))
    os.link(linked / "one", rig.source / "three")
    (rig.mirror / "script").write_text("changed by somebody")
    lines, _ = worked(rig, way, **options)

    assert [line["result"] for line in lines if line["event"] == "cycle_finished"] == ["success"]
    assert not [line for line in lines if line["event"] in {"sandbox_unavailable", "worker_lost", "output_failed"}]
    assert rig.mirrored == rig.wanted
    assert (rig.mirror / "three").stat().st_ino == (rig.mirror / "linked/one").stat().st_ino
    assert (rig.mirror / "fifo").is_fifo()
    assert not rig.temps


@needs_landlock
@pytest.mark.parametrize("way", ["one process", "forked workers"])
def test_an_ordinary_user_is_walled_in_too(misbehaving: Rig, unprivileged: tuple[str, ...], way: str) -> None:
    tried = attempts(worked(misbehaving, way, prefix=unprivileged, landlock="required")[0])

    assert tried
    assert all(told["make in the source"] == told["read outside"] == "stopped" for told in tried)
    assert UNPRIVILEGED or os.geteuid()


@needs_landlock
def test_what_is_written_outside_goes_on_behind_no_wall(rig: Rig) -> None:
    """Logs are moved away and made anew, the textfile and the counters are written, in every cycle."""
    (rig.source / "file").write_text("content")
    rig.configure(landlock="required", metrics={"port": free_port(), "textfile": str(rig.textfile)})
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        rig.log.rename(rig.base / "rotated.log")
        service.wait_for("cycle_finished", count=2)
        (rig.source / "later").write_text("later")
        service.wait_for("file_copied", path="later")
        service.wait_for("cycle_finished", count=3)
        assert service.end(signal.SIGTERM)[0] == 0

    assert "cycle_started" in rig.log.read_text()
    assert rig.metric("files_copied_total") == 2
    assert not [line for line in service.lines if line["event"] == "output_failed"]
    assert {line["result"] for line in service.lines if line["event"] == "cycle_finished"} == {"success"}


@needs_landlock
def test_a_source_or_mirror_that_is_a_link_is_walled_by_where_it_leads(rig: Rig) -> None:
    for folder in (rig.source, rig.mirror):
        folder.rename(folder.with_suffix(".real"))
        folder.symlink_to(folder.with_suffix(".real"))
    (rig.source / "file").write_text("content")
    rig.configure(landlock="required", workers=2, workers_from=0)
    done = rig.once()

    assert done.code == 0, done
    assert (rig.base / "mirror.real/file").read_text() == "content"


@pytest.mark.needs_tool("strace")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EOPNOTSUPP"])
def test_without_it_auto_works_and_says_so_once_and_required_refuses(rig: Rig, error: str) -> None:
    other, other_mirror = rig.base / "other", rig.base / "other mirror"
    for folder in (other, other_mirror):
        folder.mkdir()
    for folder in (rig.source, other):
        (folder / "file").write_text("content")
    fault = ["strace", "-f", "-qq", "-o", str(rig.base / "log"), "-e", f"inject=landlock_create_ruleset:error={error}"]
    dirs = {"source_dirs": [str(rig.source), str(other)], "dest_dirs": [str(rig.mirror), str(other_mirror)]}

    rig.configure(**dirs, landlock="required")
    refused = rig.once(prefix=fault)
    mirrored = sorted(os.listdir(rig.mirror))
    rig.configure(**dirs, landlock="auto")
    done = rig.once(prefix=fault)

    assert refused.code == 4
    assert [line["reason"] for line in refused.of("pair_refused")] == ["sandbox_unavailable", "sandbox_unavailable"]
    assert mirrored == [".truecopy"]
    assert done.code == 0
    assert "does not offer Landlock" in done.the("sandbox_unavailable")["reason"]
    assert rig.mirrored == rig.wanted


@needs_landlock
def test_a_stop_behind_a_wall_is_as_quick_and_clean_as_without(rig: Rig) -> None:
    (rig.source / "slow").write_bytes(bytes(1_000_000))
    rig.configure(landlock="required", rate_limit=10_000)
    with rig.started("run", "--once") as running:
        running.wait_for("pair_started")
        code, seconds = running.end(signal.SIGTERM)

    assert code == 143
    assert seconds < PATIENCE
    assert not rig.temps
