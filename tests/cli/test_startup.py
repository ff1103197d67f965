"""What a run imports: a short one is mostly start-up, so it pays only for what it uses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import ROOT, environment

HEAVY = {
    "http.client",
    "importlib.metadata",
    "ipaddress",
    "job.outputs.prometheus",
    "job.outputs.http",
    "job.config.describe",
    "job.service",
    "multiprocessing",
    "prometheus_client",
    "pydantic",
    "rich",
    "schedule",
    "secrets",
    "socket",
    "tomllib",
    "urllib.request",
    "waitress",
    "zoneinfo",
}


def loaded_by_a_run(base: Path, **options: Any) -> set[str]:
    """Run twice over a small tree, and give the modules that the second run, which finds nothing to do, imports."""
    for folder in ("source", "mirror", "tmp"):
        (base / folder).mkdir()
    (base / "source/file").write_text("content")
    written = {"source_dirs": [str(base / "source")], "dest_dirs": [str(base / "mirror")], **options}
    (base / "config.json").write_text(json.dumps(written))
    (base / "config.json").chmod(0o644)
    command = [sys.executable, "-X", "importtime", "-m", "job", "--config", str(base / "config.json"), "run", "--once"]
    told = ""
    for _ in range(2):
        environ = environment() | {"TMPDIR": str(base / "tmp")}
        told = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines()}


def test_a_run_with_nothing_special_imports_nothing_special(tmp_path: Path) -> None:
    loaded = loaded_by_a_run(tmp_path)

    assert "job.engine.cycle" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"metrics": {"textfile": "/dev/null/metrics.prom"}}, {"prometheus_client", "job.outputs.prometheus"}),
        ({"metrics": {"pushgateway_username": "me", "pushgateway_password": "secret"}}, {"pydantic"}),
    ],
    ids=["textfile", "password"],
)
def test_a_run_with_something_special_imports_what_that_takes(
    tmp_path: Path, options: dict[str, Any], needed: set[str]
) -> None:
    assert needed <= loaded_by_a_run(tmp_path, **options)
    assert (tmp_path / "mirror/file").exists()
