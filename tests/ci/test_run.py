import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN = (Path(__file__).parents[2] / ".ci" / "run").read_text("utf-8")
FUNCTION = "run_tests() {" + RUN.split("run_tests() {", maxsplit=1)[1].split("\n}\n", maxsplit=1)[0] + "\n}\n"
TESTS = """
from pathlib import Path

def test_good():
    pass

def test_bad():
    count = Path("count")
    times = int(count.read_text()) if count.exists() else 0
    count.write_text(str(times + 1))
    assert times not in {fails}
"""


def run(folder: Path, tests: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Have the function of `.ci/run` run these tests."""
    (folder / "test_it.py").write_text(tests, "utf-8")
    script = f'set -euo pipefail\ntell() {{ echo "ci: $*"; }}\n{FUNCTION}\nrun_tests .pytest_cache "$@"\n'
    command = [sys.executable, "-m", "pytest", "--rootdir=.", *arguments]
    return subprocess.run(
        ["bash", "-c", script, "-", *command], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("fails", "code", "times"),
    [({9}, 0, 1), ({0}, 0, 4), ({0, 1}, 1, 2), ({0, 3}, 1, 4)],
    ids=["never", "once", "twice", "in its last try"],
)
def test_what_fails_once_has_to_pass_three_times_alone(tmp_path: Path, fails: set[int], code: int, times: int) -> None:
    done = run(tmp_path, TESTS.format(fails=fails))

    assert done.returncode == code, done.stdout + done.stderr
    assert int((tmp_path / "count").read_text()) == times
    assert done.stdout.count("again, alone") == times - 1
    assert ("test_it.py::test_bad" in done.stdout) == (times > 1)


def test_where_many_fail_none_is_tried_again(tmp_path: Path) -> None:
    tests = "import pytest\n\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n):\n    assert False\n"
    done = run(tmp_path, tests)

    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "again, alone" not in done.stdout


def test_what_is_no_failed_test_is_not_tried_again(tmp_path: Path) -> None:
    done = run(tmp_path, "import nothing_of_this_name\n")

    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "again, alone" not in done.stdout


def test_every_test_that_it_names_exists() -> None:
    commands = "\n".join(line for line in RUN.splitlines() if not line.startswith("#"))
    named = re.findall(r"(?<!\S)tests/[\w/{},.]+", commands)
    words = subprocess.run(["bash", "-c", f"echo {' '.join(named)}"], capture_output=True, text=True, check=True).stdout

    assert len(words.split()) > 20
    assert not [word for word in words.split() if not (Path(__file__).parents[2] / word).exists()]
