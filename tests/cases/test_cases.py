"""Each case is what a user of such a tool ran into, as a script that says whether the product is right.

A script can be run alone: `TC=.venv/bin/truecopy bash tests/cases/01-sshfs-source-lists-once.sh`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CASES = sorted(Path(__file__).parent.glob("[0-9]*.sh"))
_CANNOT = 77


@pytest.mark.one_process
@pytest.mark.parametrize("script", _CASES, ids=[script.stem for script in _CASES])
def test_what_a_user_ran_into_is_right(script: Path, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("truecopy")
    # A short folder of its own, open to other users: some cases run the job as one of them.
    ran = subprocess.run(
        ["bash", str(script)],
        env={**os.environ, "TC": str(command), "TMPDIR": "/tmp", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
        check=False,
    )
    if ran.returncode == _CANNOT:
        pytest.skip(ran.stdout.strip() or ran.stderr.strip() or "the case cannot be made here")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_there_are_cases() -> None:
    assert len(_CASES) >= 30
