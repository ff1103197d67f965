"""What the kernel takes from a thread that walls itself in, tried out for real in processes of their own."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from job.system import sandbox
from tests.walls import needs_landlock

PROGRAM = """
import errno, json, os, sys
from job.system import sandbox
top = sys.argv[1]
os.chdir(top)
granted = [(sandbox.READ, os.open("source", os.O_PATH)), (sandbox.CHANGE, os.open("mirror", os.O_PATH))]
# So that a program would run, if it may.
granted += [(sandbox.READ_AND_RUN, os.open(each, os.O_PATH)) for each in sandbox.system_paths() if os.path.exists(each)]
moved = os.open("outside/open before", os.O_RDWR)
sandbox.restrict(granted)
tried = {
    "read the source": lambda: os.open("source/file", os.O_RDONLY),
    "list the source": lambda: os.listdir("source"),
    "write the source": lambda: os.open("source/file", os.O_WRONLY),
    "truncate the source": lambda: os.truncate("source/file", 0),
    "make in the source": lambda: os.open("source/new", os.O_WRONLY | os.O_CREAT),
    "make a folder in the source": lambda: os.mkdir("source/folder"),
    "make a link in the source": lambda: os.symlink("file", "source/link"),
    "make a FIFO in the source": lambda: os.mkfifo("source/fifo"),
    "remove from the source": lambda: os.unlink("source/file"),
    "remove a folder from the source": lambda: os.rmdir("source/empty"),
    "rename in the source": lambda: os.rename("source/file", "source/other"),
    "move out of the source": lambda: os.rename("source/file", "mirror/moved"),
    "link the source into the mirror": lambda: os.link("source/file", "mirror/linked"),
    "write the mirror": lambda: os.open("mirror/file", os.O_RDWR | os.O_TRUNC),
    "make in the mirror": lambda: os.open("mirror/new", os.O_WRONLY | os.O_CREAT),
    "make a folder in the mirror": lambda: os.mkdir("mirror/folder"),
    "move between folders of the mirror": lambda: os.rename("mirror/new", "mirror/folder/new"),
    "link between folders of the mirror": lambda: os.link("mirror/file", "mirror/folder/linked"),
    "make a link in the mirror": lambda: os.symlink("/etc", "mirror/away"),
    "remove from the mirror": lambda: os.unlink("mirror/folder/linked"),
    "run what is in the mirror": lambda: os.execv("mirror/program", ["program"]),
    "move out of the mirror": lambda: os.rename("mirror/file", "outside/file"),
    "link from outside": lambda: os.link("outside/file", "mirror/secret"),
    "write by a link of the mirror": lambda: os.open("mirror/planted", os.O_WRONLY | os.O_TRUNC),
    "read outside": lambda: os.open("outside/file", os.O_RDONLY),
    "list outside": lambda: os.listdir("outside"),
    "write outside": lambda: os.open("outside/file", os.O_WRONLY),
    "truncate outside": lambda: os.truncate("outside/file", 0),
    "make outside": lambda: os.open("outside/new", os.O_WRONLY | os.O_CREAT),
    "remove outside": lambda: os.unlink("outside/file"),
    "go up from the source": lambda: os.open("source/../outside/file", os.O_RDONLY),
    "use what is open": lambda: os.write(moved, b"still open"),
}
told = {}
for name, deed in tried.items():
    try:
        deed()
        told[name] = ""
    except OSError as error:
        told[name] = errno.errorcode[error.errno]
print(json.dumps(told))
"""
MAY = {
    "read the source",
    "list the source",
    "write the mirror",
    "make in the mirror",
    "make a folder in the mirror",
    "move between folders of the mirror",
    "link between folders of the mirror",
    "make a link in the mirror",
    "remove from the mirror",
    "use what is open",
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("source/empty", "mirror", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("source/file", "mirror/file", "outside/file", "outside/open before"):
        (tmp_path / name).write_text("precious")
    (tmp_path / "mirror/program").write_text("#!/bin/sh\n")
    (tmp_path / "mirror/program").chmod(0o755)
    (tmp_path / "mirror/planted").symlink_to(tmp_path / "outside/file")
    return tmp_path


def python(program: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@needs_landlock
@pytest.mark.parametrize("user", ["as it is", "without a privilege"])
def test_behind_a_wall_the_source_can_be_read_the_mirror_changed_and_nothing_else(top: Path, user: str) -> None:
    prefix: tuple[str, ...] = ()
    if user == "without a privilege":
        if os.geteuid() != 0:
            pytest.skip("is so already")
        prefix = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    done = python(PROGRAM, str(top), prefix=prefix)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert {name for name, error in told.items() if not error} == MAY
    assert {error for name, error in told.items() if name not in MAY} <= {"EACCES", "EXDEV"}
    assert (top / "source/file").read_text() == (top / "outside/file").read_text() == "precious"
    assert sorted(os.listdir(top / "source")) == ["empty", "file"]
    assert sorted(os.listdir(top / "outside")) == ["file", "open before"]


@needs_landlock
def test_a_wall_is_around_one_thread_and_what_it_starts(top: Path) -> None:
    tried: dict[str, object] = {}

    def tries(name: str) -> None:
        command = [sys.executable, "-c", "import sys; open(sys.argv[1]).read()", str(top / "outside/file")]
        tried[name] = subprocess.run(command, check=False, capture_output=True).returncode

    def sandboxed() -> None:
        folders = [os.open(path, os.O_PATH) for path in sandbox.system_paths() if os.path.lexists(path)]
        sandbox.restrict((sandbox.READ_AND_RUN, each) for each in folders)
        for each in folders:
            os.close(each)
        try:
            (top / "outside/file").read_text()
        except PermissionError as error:
            tried["thread"] = error.errno
        tries("child of the thread")

    thread = threading.Thread(target=sandboxed)
    thread.start()
    thread.join()
    tries("child of another")

    assert tried == {"thread": errno.EACCES, "child of the thread": 1, "child of another": 0}
    assert (top / "outside/file").read_text() == "precious"


@needs_landlock
def test_a_descriptor_that_is_no_folder_gets_the_rights_of_a_file(top: Path) -> None:
    program = """
import os, sys
from job.system import sandbox
sandbox.restrict([(sandbox.CHANGE, os.open(sys.argv[1], os.O_PATH))])
open(sys.argv[1], "w").write("changed")
open(sys.argv[2])
"""
    done = python(program, str(top / "mirror/file"), str(top / "outside/file"))

    assert "PermissionError" in done.stderr
    assert (top / "mirror/file").read_text() == "changed"


@needs_landlock
def test_a_wall_that_cannot_be_put_up_takes_nothing(top: Path) -> None:
    program = """
import os, sys
from job.system import sandbox
reading, writing = os.pipe()
try:
    sandbox.restrict([(sandbox.READ, reading)])
except OSError as error:
    print(type(error).__name__)
print(open(sys.argv[1]).read())
"""
    done = python(program, str(top / "outside/file"))

    assert done.stdout.split() == ["OSError", "precious"], done.stderr


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 7, 99])
def test_a_kernel_is_asked_for_what_it_knows_and_for_nothing_newer(
    monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(sandbox, "abi", lambda: version)
    if version < sandbox.LEAST_ABI:
        with pytest.raises(OSError, match="too old"):
            sandbox._handled()
        return
    handled = sandbox._handled()

    assert handled.bit_count() == {2: 14, 3: 15, 4: 15}.get(version, 16)
    assert handled & 1 << 13, "rename and link between folders"
    assert bool(handled & sandbox.TRUNCATE) == (version >= 3)
    assert bool(handled & sandbox.DEVICE_CONTROL) == (version >= 5)


def test_on_a_machine_that_is_not_known_no_call_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_MACHINES", frozenset())
    monkeypatch.setattr(sandbox, "_call", None)

    with pytest.raises(OSError, match="not known on this machine"):
        sandbox.abi()


@pytest.mark.needs_tool("strace")
@pytest.mark.parametrize("number", ["ENOSYS", "EOPNOTSUPP", "EPERM"])
def test_a_kernel_or_container_that_does_not_offer_it_says_so(top: Path, number: str) -> None:
    fault = ("strace", "-qq", "-o", str(top / "log"), "-e", f"inject=landlock_create_ruleset:error={number}")
    program = "from job.system import sandbox\ntry: sandbox.abi()\nexcept OSError as error: print(error.errno)"

    assert int(python(program, prefix=fault).stdout) == getattr(errno, number)
