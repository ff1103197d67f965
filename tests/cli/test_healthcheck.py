"""`truecopy healthcheck` as the container engine calls it: a process of its own, every half minute."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job.adapters.heartbeat import Heartbeat
from job.core.events import NextCycleDue
from job.errors import Exit
from job.files.pulse import heartbeat_path

COMMAND = [sys.executable, "-X", "importtime", "-m", "job", "healthcheck"]


def ask(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "TMPDIR": str(folder), "TRUECOPY_CONFIG": config}
    return subprocess.run(COMMAND, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def broken_config(tmp_path: Path) -> str:
    path = tmp_path / "broken.json"
    path.write_text("{")
    return str(path)


def test_a_living_service_is_healthy_whatever_its_config_looks_like_now(tmp_path: Path, broken_config: str) -> None:
    path = heartbeat_path(broken_config, {"TMPDIR": str(tmp_path)})
    heartbeat = Heartbeat(path, wall=time.time, monotonic=time.monotonic)
    heartbeat(NextCycleDue(due_timestamp_seconds=time.time() + 3600, wait_seconds=3600))

    answer = ask(tmp_path, broken_config)

    assert answer.returncode == Exit.OK
    assert answer.stdout.startswith("healthy: the next cycle is due in ")


def test_without_a_service_it_fails_with_a_sentence(tmp_path: Path, broken_config: str) -> None:
    answer = ask(tmp_path, broken_config)

    assert answer.returncode == Exit.FAILED
    assert answer.stdout.startswith("not running: there is no heartbeat at ")
    assert answer.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "heavy", ["pydantic", "job.core.config", "job.core.events", "sqlite3", "rich", "prometheus_client"]
)
def test_it_loads_nothing_heavy(tmp_path: Path, broken_config: str, heavy: str) -> None:
    answer = ask(tmp_path, broken_config)

    loaded = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "click" in loaded
    assert heavy not in loaded
