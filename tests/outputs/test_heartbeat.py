"""The heartbeat file: what the service writes and what the health check makes of it."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job.core.counts import Tally
from job.core.outcome import Result
from job.events.pair import CycleResumed, CycleStalled, Progressed, WorkersAwaited
from job.events.service import CycleCrashed, CycleFinished, CycleStarted, NextCycleDue, ServiceStopped, ServiceWaited
from job.fs.private_folders import PrivateFolder
from job.health import OVERDUE_SECONDS, SILENT_IN_CYCLE_SECONDS, SILENT_SECONDS, HealthFile, check
from job.outputs.liveness import BEAT_EVERY_SECONDS, Heartbeat

NOW = 1_780_000_000.0

CYCLE_STARTED = CycleStarted(cycle_id="c", pairs=("music",))
CYCLE_FINISHED = CycleFinished(cycle_id="c", result=Result.SUCCESS, tally=Tally(), duration_seconds=1.0)
CYCLE_CRASHED = CycleCrashed(error="RuntimeError: broken", traceback=("...",))
PROGRESSED = Progressed(cycle_id="c", pair="music", phase="copy", entries=1)


def due_in(seconds: float) -> NextCycleDue:
    return NextCycleDue(due_timestamp_seconds=NOW + seconds, wait_seconds=seconds)


class Clock:
    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health_file(tmp_path: Path) -> Iterator[HealthFile]:
    """Where the service writes."""
    health_file = HealthFile(str(tmp_path / "config.json"), {})
    yield health_file
    health_file.memory.close()


@pytest.fixture
def reader(tmp_path: Path) -> HealthFile:
    """The same for who asks from outside."""
    return HealthFile(str(tmp_path / "config.json"), {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/nonexistent"})


@pytest.fixture
def path(tmp_path: Path, health_file: HealthFile) -> str:
    """The file that the service writes, too."""
    return str(tmp_path / "truecopy" / health_file.file)


@pytest.fixture
def heartbeat(health_file: HealthFile, tmp_path: Path, clock: Clock) -> Heartbeat:
    return Heartbeat(health_file, PrivateFolder(str(tmp_path), "truecopy"), wall=clock, monotonic=clock)


def written(path: str) -> dict[str, object]:
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    assert isinstance(content, dict)
    return content


def test_where_it_is_hangs_on_the_path_of_the_config_alone_and_on_no_folder_for_temporary_files(tmp_path: Path) -> None:
    health_file = HealthFile("config/backup_config.json", {"TMPDIR": str(tmp_path), "HOME": "/nonexistent"})
    same = HealthFile(os.path.abspath("config/backup_config.json"), {})

    assert (health_file.name, health_file.file) == (same.name, same.file)
    assert health_file.name != HealthFile("config/other.json", {}).name
    assert health_file.places == []


def test_without_any_folder_a_service_is_found_healthy(health_file: HealthFile, clock: Clock, tmp_path: Path) -> None:
    Heartbeat(health_file, wall=clock, monotonic=clock)(due_in(60))

    assert check(HealthFile(health_file.config_path, {}), NOW) == (True, "healthy: the next cycle is due in 60 seconds")
    assert check(HealthFile(str(tmp_path / "another.json"), {}), NOW)[0] is False


def test_who_asks_in_the_service_itself_is_answered_without_a_look_at_any_folder_or_process(
    health_file: HealthFile, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat(due_in(60))
    monkeypatch.setattr(os, "listdir", None)
    monkeypatch.setattr(os, "open", None)

    assert check(health_file, NOW)[0]


def test_the_file_tells_who_when_and_what_is_due(heartbeat: Heartbeat, path: str) -> None:
    heartbeat(due_in(60))

    content = written(path)
    assert content.pop("boot_id")
    assert content == {
        "pid": os.getpid(),
        "beat_timestamp_seconds": NOW,
        "next_due_timestamp_seconds": NOW + 60,
        "cycle_started_timestamp_seconds": None,
        "stalled_timestamp_seconds": None,
    }
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert len(os.listdir(os.path.dirname(path))) == 1


def test_signs_of_life_are_written_now_and_then_and_turns_at_once(
    heartbeat: Heartbeat, path: str, clock: Clock
) -> None:
    def beat_at() -> object:
        return written(path)["beat_timestamp_seconds"]

    heartbeat(ServiceWaited())
    clock.seconds += BEAT_EVERY_SECONDS - 1
    heartbeat(PROGRESSED)
    unchanged = beat_at()
    heartbeat(CYCLE_STARTED)
    turned = beat_at()
    clock.seconds += BEAT_EVERY_SECONDS
    heartbeat(PROGRESSED)

    assert (unchanged, turned, beat_at()) == (NOW, NOW + BEAT_EVERY_SECONDS - 1, NOW + 2 * BEAT_EVERY_SECONDS - 1)


@pytest.mark.parametrize("ended", [CYCLE_FINISHED, CYCLE_CRASHED])
def test_a_cycle_is_in_progress_until_it_ends_in_whatever_way(
    heartbeat: Heartbeat, path: str, ended: CycleFinished | CycleCrashed
) -> None:
    heartbeat(CYCLE_STARTED)
    during = written(path)["cycle_started_timestamp_seconds"]
    heartbeat(ended)

    assert during == NOW
    assert written(path)["cycle_started_timestamp_seconds"] is None


def test_a_service_that_stops_takes_its_heartbeat_along(heartbeat: Heartbeat, path: str, reader: HealthFile) -> None:
    heartbeat(due_in(60))
    heartbeat(ServiceStopped(reason="SIGTERM"))

    told = f"not running: no service with the configuration {reader.config_path} gives a sign of life"
    assert check(reader, NOW) == (False, told)
    assert not os.path.exists(path)


def test_a_fault_is_told_once_until_a_write_succeeds_again_and_the_service_is_healthy_all_along(
    heartbeat: Heartbeat, path: str, reader: HealthFile
) -> None:
    folder = Path(path).parent
    folder.write_text("in the way")

    with pytest.raises(NotADirectoryError, match="is not a folder"):
        heartbeat(due_in(60))
    heartbeat(due_in(70))
    during = check(reader, NOW)
    folder.unlink()
    heartbeat(due_in(80))
    Path(path).unlink()
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises(NotADirectoryError):
        heartbeat(due_in(90))

    assert during == (True, "healthy: the next cycle is due in 70 seconds")


def test_a_cycle_that_hangs_is_unhealthy_until_it_moves_again(
    heartbeat: Heartbeat, reader: HealthFile, clock: Clock
) -> None:
    heartbeat(CYCLE_STARTED)
    heartbeat(stalled("main"))
    hanging = check(reader, clock.seconds)
    heartbeat(CycleResumed(cycle_id="c", pair="music", stalled_seconds=9.0))

    assert hanging == (False, "hanging: nothing has moved in the cycle for 7 seconds")
    assert check(reader, clock.seconds)[0]


def test_a_worker_that_hangs_makes_nobody_unhealthy_since_the_cycle_goes_on(
    heartbeat: Heartbeat, reader: HealthFile, clock: Clock
) -> None:
    heartbeat(CYCLE_STARTED)
    heartbeat(stalled("worker 7"))

    assert check(reader, clock.seconds)[0]


def test_to_wait_for_silent_workers_is_no_sign_of_life(heartbeat: Heartbeat, reader: HealthFile, clock: Clock) -> None:
    heartbeat(CYCLE_STARTED)
    clock.seconds += SILENT_IN_CYCLE_SECONDS + 1
    heartbeat(WorkersAwaited(cycle_id="c", pair="music"))

    assert not check(reader, clock.seconds)[0]


def stalled(process: str) -> CycleStalled:
    return CycleStalled(cycle_id="c", pair="music", process=process, stalled_seconds=7.0, where="", doing="")


def test_a_link_in_the_place_of_the_folder_is_not_followed(heartbeat: Heartbeat, path: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", os.path.dirname(path))

    with pytest.raises(OSError, match="is not a folder"):
        heartbeat(due_in(60))

    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_service_that_stops_takes_nothing_from_behind_a_link(heartbeat: Heartbeat, path: str, tmp_path: Path) -> None:
    heartbeat(due_in(60))
    folder = os.path.dirname(path)
    os.rename(folder, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder)

    heartbeat(ServiceStopped(reason="SIGTERM"))

    assert os.listdir(tmp_path / "elsewhere") == [os.path.basename(path)]


@pytest.mark.needs_root
def test_a_folder_of_somebody_else_is_not_used_and_needed_by_nobody(
    heartbeat: Heartbeat, path: str, reader: HealthFile
) -> None:
    os.mkdir(os.path.dirname(path), 0o777)
    os.chown(os.path.dirname(path), 4321, 4321)

    with pytest.raises(PermissionError, match="belongs to user 4321"):
        heartbeat(due_in(60))

    assert check(reader, NOW)[0]
    heartbeat(ServiceStopped(reason="SIGTERM"))
    healthy, sentence = check(reader, NOW)
    assert not healthy
    assert "belongs to user 4321" in sentence


def test_a_folder_that_others_may_write_to_is_closed(heartbeat: Heartbeat, path: str) -> None:
    os.mkdir(os.path.dirname(path), 0o700)
    os.chmod(os.path.dirname(path), 0o777)

    heartbeat(due_in(60))

    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        (0, (True, "healthy: the next cycle is due in 60 seconds")),
        (70, (True, "healthy: the next cycle is due in 0 seconds")),
        (SILENT_SECONDS, (True, "healthy: the next cycle is due in 0 seconds")),
        (SILENT_SECONDS + 1, (False, "hanging: the last sign of life is 121 seconds old")),
        (-6 * 3600, (False, "hanging: the last sign of life is 21600 seconds old")),
    ],
)
def test_a_waiting_service_is_healthy_while_it_gives_signs_of_life(
    heartbeat: Heartbeat, reader: HealthFile, later: float, verdict: tuple[bool, str]
) -> None:
    heartbeat(due_in(60))

    assert check(reader, NOW + later) == verdict


def test_a_service_that_lives_but_does_not_start_its_cycle_is_not_healthy(
    heartbeat: Heartbeat, reader: HealthFile, clock: Clock
) -> None:
    heartbeat(due_in(60))
    clock.seconds += 60 + OVERDUE_SECONDS
    heartbeat(ServiceWaited())
    in_time = check(reader, clock.seconds)

    late = check(reader, clock.seconds + 1)

    assert in_time == (True, "healthy: the next cycle is due in 0 seconds")
    assert late == (False, "hanging: the next cycle is overdue by 301 seconds")


def test_a_long_cycle_is_not_overdue_but_may_not_fall_silent(
    heartbeat: Heartbeat, reader: HealthFile, clock: Clock
) -> None:
    heartbeat(due_in(0))
    heartbeat(CYCLE_STARTED)
    clock.seconds += 9 * 3600
    heartbeat(PROGRESSED)

    assert check(reader, clock.seconds) == (True, "healthy: a cycle is in progress")
    assert check(reader, clock.seconds + SILENT_IN_CYCLE_SECONDS)[0]
    assert check(reader, clock.seconds + SILENT_IN_CYCLE_SECONDS + 1) == (
        False,
        "hanging: the last sign of life is 901 seconds old",
    )


def test_a_service_that_has_not_planned_yet_is_healthy(heartbeat: Heartbeat, reader: HealthFile) -> None:
    heartbeat(ServiceWaited())

    assert check(reader, NOW + 1)[0]


def test_a_heartbeat_from_before_the_machine_started_is_no_life(
    heartbeat: Heartbeat, path: str, reader: HealthFile
) -> None:
    heartbeat(due_in(60))
    Path(path).write_text(json.dumps({**written(path), "boot_id": "another"}))

    assert check(reader, NOW) == (False, "not running: the last sign of life is from before the machine started")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"beat_timestamp_seconds": "x"}', "\xff", "1" * 5000])
def test_a_file_that_is_no_heartbeat_is_told_as_such(path: str, reader: HealthFile, content: str) -> None:
    os.mkdir(os.path.dirname(path), 0o700)
    Path(path).write_text(content)

    assert check(reader, NOW) == (False, f"unknown: {path} is not a heartbeat")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_a_heartbeat_that_is_no_file_is_not_read(path: str, reader: HealthFile, make: Callable[[str], None]) -> None:
    os.mkdir(os.path.dirname(path), 0o700)
    make(path)

    healthy, sentence = check(reader, NOW)

    assert not healthy
    assert sentence.startswith("unknown: ")
