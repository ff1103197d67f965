import os
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / ".ci"
LOST_CHECK = 100
SKIPPED = "import pytest\n\ndef test_one():\n    pytest.skip('no engine')\n\ndef test_two():\n    pass\n"


def run_guarded(folder: Path, allowed: str) -> subprocess.CompletedProcess[str]:
    guard = folder / "guard"
    guard.mkdir()
    (guard / "skips.py").write_text((CI / "skips.py").read_text("utf-8"), "utf-8")
    (guard / "allowed-skips.txt").write_text(allowed, "utf-8")
    (folder / "test_it.py").write_text(SKIPPED, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        env={**os.environ, "PYTHONPATH": str(guard)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_skip_that_nobody_allowed_fails_the_run_and_is_named(tmp_path: Path) -> None:
    run = run_guarded(tmp_path, "# nothing\n")

    assert run.returncode == LOST_CHECK
    assert "test_it.py::test_one: Skipped: no engine" in run.stdout
    assert "1 passed, 1 skipped" in run.stdout.splitlines()[-1]


def test_a_listed_skip_passes(tmp_path: Path) -> None:
    run = run_guarded(tmp_path, "test_it.py::test_o*  # no engine here\n")

    assert run.returncode == pytest.ExitCode.OK, run.stdout


def test_a_listed_skip_needs_a_reason(tmp_path: Path) -> None:
    run = run_guarded(tmp_path, "test_it.py::*\n")

    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "has no reason" in run.stderr
