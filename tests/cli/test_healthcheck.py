"""`truecopy healthcheck` as the container engine calls it: a process of its own, every half minute."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.errors import Exit
from job.events.service import NextCycleDue
from job.fs.private_folders import PrivateFolder
from job.health import HealthFile, check
from job.outputs.liveness import Heartbeat

COMMAND = [sys.executable, "-X", "importtime", "-m", "job", "healthcheck"]


def ask(config: str, prefix: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TRUECOPY_CONFIG": config} | variables
    return subprocess.run([*prefix, *COMMAND], env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def broken_config(tmp_path: Path) -> str:
    path = tmp_path / "broken.json"
    path.write_text("{")
    return str(path)


@contextmanager
def living(config: str, place: PrivateFolder | None = None) -> Iterator[HealthFile]:
    """Be the service with this config."""
    health_file = HealthFile(config, {})
    heartbeat = Heartbeat(health_file, place, wall=time.time, monotonic=time.monotonic)
    heartbeat(NextCycleDue(due_timestamp_seconds=time.time() + 3600, wait_seconds=3600))
    try:
        yield health_file
    finally:
        health_file.memory.close()


def test_a_living_service_is_healthy_whatever_its_config_looks_like_now(broken_config: str) -> None:
    with living(broken_config):
        answer = ask(broken_config)

    assert answer.returncode == Exit.OK, answer.stdout
    assert answer.stdout.startswith("healthy: the next cycle is due in ")


def test_without_a_service_it_fails_with_a_sentence(broken_config: str) -> None:
    answer = ask(broken_config)

    assert answer.returncode == Exit.FAILED
    assert answer.stdout == f"not running: no service with the configuration {broken_config} gives a sign of life\n"


@pytest.mark.needs_root
def test_no_folder_is_needed_and_a_name_that_another_user_took_is_passed_over(
    tmp_path: Path, broken_config: str
) -> None:
    (tmp_path / "truecopy").mkdir()
    os.chown(tmp_path / "truecopy", 64003, 64003)
    with living(broken_config):
        answer = ask(broken_config, XDG_RUNTIME_DIR=str(tmp_path), RUNTIME_DIRECTORY=str(tmp_path))

    assert (answer.returncode, answer.stdout[:8]) == (Exit.OK, "healthy:")


@pytest.mark.needs_root
def test_the_sign_of_life_of_another_users_service_is_not_believed(broken_config: str) -> None:
    with living(broken_config):
        child = os.fork()
        if not child:
            os.setgroups([])
            os.setresuid(64003, 64003, 64003)
            healthy, sentence = check(HealthFile(broken_config, {}), time.time())
            os._exit(0 if not healthy and sentence.startswith("not running: no service") else 1)
        _, code = os.waitpid(child, 0)

    assert code == 0


@pytest.mark.needs_root
def test_a_sign_of_life_that_another_user_made_up_is_not_believed_by_root(broken_config: str) -> None:
    child = os.fork()
    if not child:
        os.setresuid(64003, 64003, 64003)
        with living(broken_config):
            time.sleep(60)
        os._exit(0)
    try:
        for _ in range(20):
            assert not check(HealthFile(broken_config, {}), time.time())[0]
            time.sleep(0.02)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.needs_root
def test_who_may_not_look_into_the_service_finds_its_file(tmp_path: Path, broken_config: str) -> None:
    with living(broken_config, PrivateFolder(str(tmp_path), "truecopy")):
        less = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")  # the same user, with fewer rights
        answer = ask(broken_config, prefix=less, XDG_RUNTIME_DIR=str(tmp_path))
        alone = ask(broken_config, prefix=less)

    assert (answer.returncode, alone.returncode) == (Exit.OK, Exit.FAILED), answer.stdout


def test_what_was_left_by_a_killed_service_does_not_hide_a_living_one(tmp_path: Path, broken_config: str) -> None:
    folder = tmp_path / "truecopy"
    folder.mkdir(mode=0o700)
    with living(broken_config, PrivateFolder(str(tmp_path), "truecopy")) as health_file:
        left = folder / health_file.file
        left.write_text(left.read_text().replace('"beat_timestamp_seconds": 1', '"beat_timestamp_seconds": 0'))
        answer = ask(broken_config, XDG_RUNTIME_DIR=str(tmp_path))

    assert (answer.returncode, answer.stdout[:8]) == (Exit.OK, "healthy:")


@pytest.mark.parametrize(
    "heavy",
    ["pydantic", "job.config", "job.events.pair", "job.events.service", "sqlite3", "rich", "prometheus_client"],
)
def test_it_loads_nothing_heavy(broken_config: str, heavy: str) -> None:
    answer = ask(broken_config)

    loaded = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "click" in loaded
    assert heavy not in loaded
