"""I/O priority, read back from the kernel by somebody else's program, each time in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from job.system import resources
from job.system.resources import set_io_priority

needs_ionice = pytest.mark.needs_tool("ionice")

TELL = "import subprocess, os; print(subprocess.check_output(['ionice', '-p', str(os.getpid())], text=True).strip())"


def told_after(*levels: str, tell: str = TELL, started_with: tuple[str, ...] = ()) -> list[str]:
    """Give the lines that a process prints which sets these levels one after the other, and tells of itself."""
    calls = "; ".join(f"print(set_io_priority({level!r}))" for level in levels)
    program = f"from job.system.resources import set_io_priority; {calls}; {tell}"
    done = subprocess.run([*started_with, sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@needs_ionice
@pytest.mark.parametrize(
    ("level", "told"), [("normal", "none: prio 0"), ("low", "best-effort: prio 7"), ("idle", "idle")]
)
def test_the_kernel_tells_the_priority_that_was_set(level: str, told: str) -> None:
    assert told_after(level) == ["True", told]


@needs_ionice
def test_children_and_threads_that_start_later_have_it_too() -> None:
    of_a_child = "import subprocess; print(subprocess.check_output(['ionice'], text=True).strip())"
    of_a_thread = (
        "import subprocess, threading;"
        "me = lambda: ['ionice', '-p', str(threading.get_native_id())];"
        "say = lambda: print(subprocess.check_output(me(), text=True).strip());"
        "thread = threading.Thread(target=say); thread.start(); thread.join()"
    )

    assert told_after("idle", tell=of_a_child) == ["True", "idle"]
    assert told_after("idle", tell=of_a_thread) == ["True", "idle"]


@needs_ionice
def test_normal_is_what_the_process_was_started_with() -> None:
    started_with = ("ionice", "-c", "2", "-n", "3")

    assert told_after("low", "normal") == ["True", "True", "none: prio 0"]
    assert told_after("normal", started_with=started_with) == ["True", "best-effort: prio 3"]
    assert told_after("idle", "normal", started_with=started_with) == ["True", "True", "best-effort: prio 3"]


def test_a_machine_whose_call_is_not_known_is_told_and_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_CALLS", {})
    resources._inherited.cache_clear()

    found = {level: set_io_priority(level) for level in ("low", "idle", "normal")}
    resources._inherited.cache_clear()

    assert found == {"low": False, "idle": False, "normal": True}


@needs_ionice
def test_a_configured_priority_is_in_force_with_the_configuration(tmp_path: Path) -> None:
    for name in ("source", "mirror"):
        (tmp_path / name).mkdir()
    config = {"source_dirs": [f"{tmp_path}/source"], "dest_dirs": [f"{tmp_path}/mirror"], "io_priority": "idle"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    program = (
        "import sys; from job.app.application import Application;"
        f"Application(sys.argv[1], {{}}, stream=None).load(); {TELL}"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "config.json")], check=True, capture_output=True, text=True
    )

    assert done.stdout.splitlines() == ["idle"]
