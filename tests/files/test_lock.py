"""One instance on a mirror, by locks of the kernel, seen from other processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.errors import Busy
from job.files.lock import hold
from job.files.owner import described, owner
from tests.files.conftest import FOLDER

HOLDER = """
import os, sys
from job.files.lock import hold
from job.files.owner import described, owner
mirror, state = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in sys.argv[1:])
hold(mirror, state, "music", 1.0)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for name in ("mirror", "state", "other-state"):
        (tmp_path / name).mkdir()
    return tmp_path / "mirror"


@contextmanager
def another_instance(mirror: Path, state: Path) -> Iterator[subprocess.Popen[str]]:
    """Have a second process hold the lock."""
    command = [sys.executable, "-c", HOLDER, str(mirror), str(state)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def opened(mirror: Path, state: Path) -> Iterator[tuple[int, int]]:
    descriptors = os.open(mirror, FOLDER), os.open(state, FOLDER)
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def try_to_hold(mirror: Path, state: Path) -> None:
    """Take the lock and let it go again; raises what `hold` raises."""
    with opened(mirror, state) as (root, folder):
        os.close(hold(root, folder, "music", 2.0))


pytestmark = pytest.mark.usefixtures("no_leak")


def test_a_lock_is_free_again_when_it_was_let_go(mirror: Path, tmp_path: Path) -> None:
    try_to_hold(mirror, tmp_path / "state")
    try_to_hold(mirror, tmp_path / "state")


def test_a_second_instance_is_told_who_holds_the_mirror(mirror: Path, tmp_path: Path) -> None:
    with another_instance(mirror, tmp_path / "state") as holder, pytest.raises(Busy) as busy:
        try_to_hold(mirror, tmp_path / "state")

    assert busy.value.message.startswith("another instance works on the mirror of music (process ")
    assert f"process {holder.pid} on " in busy.value.message
    assert busy.value.hint


def test_a_dead_instance_leaves_no_lock_behind(mirror: Path, tmp_path: Path) -> None:
    with another_instance(mirror, tmp_path / "state") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()

        try_to_hold(mirror, tmp_path / "state")


def test_one_mirror_has_one_lock_wherever_the_state_is_kept(mirror: Path, tmp_path: Path) -> None:
    with another_instance(mirror, tmp_path / "state"), pytest.raises(Busy):
        try_to_hold(mirror, tmp_path / "other-state")


def test_who_held_the_lock_before_is_not_blamed(mirror: Path, tmp_path: Path) -> None:
    try_to_hold(mirror, tmp_path / "other-state")  # leaves our own name in that folder

    with another_instance(mirror, tmp_path / "state"), pytest.raises(Busy) as busy:
        try_to_hold(mirror, tmp_path / "other-state")

    assert str(os.getpid()) not in busy.value.message


@pytest.mark.parametrize("note", [b"", b"not JSON", b"[]", b'{"pid": "x"}', b'{"pid": 1}', b"\xff" * 2000])
def test_a_damaged_note_about_the_holder_does_no_harm(mirror: Path, tmp_path: Path, note: bytes) -> None:
    with another_instance(mirror, tmp_path / "state"):
        (tmp_path / "state" / "lock").write_bytes(note)

        with pytest.raises(Busy, match=r"another instance works on the mirror of music$"):
            try_to_hold(mirror, tmp_path / "state")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "(process 7 on 'nas', since 1970-01-01T00:00:09Z)"),
        ({"pid_namespace": "pid:[1]"}, "(process 7 on 'nas', in another container of this machine, since"),
        ({"boot_id": "another"}, "(process 7 on 'nas', on another machine, since"),
        ({"host": "\x1b[2J\n" + "x" * 400}, "(process 7 on '\\x1b[2J\\n" + "x" * 195 + "', since"),
        ({"since_timestamp_seconds": 1e300}, ""),
        ({"since_timestamp_seconds": "nan"}, ""),
        ({"pid": 1e999}, ""),
    ],
)
def test_who_holds_it_is_told_with_what_tells_it_apart(fields: dict[str, object], told: str) -> None:
    record = json.dumps(owner(9.0) | {"host": "nas", "pid": 7} | fields).encode()

    assert described(record).startswith(f" {told}" if told else "")
    assert bool(described(record)) == bool(told)


@pytest.mark.parametrize("planted", ["fifo", "folder"])
def test_what_is_planted_in_its_place_is_refused_and_not_waited_for(mirror: Path, tmp_path: Path, planted: str) -> None:
    (os.mkfifo if planted == "fifo" else os.mkdir)(tmp_path / "state" / "lock")

    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        try_to_hold(mirror, tmp_path / "state")


def test_a_planted_link_is_not_followed(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "treasure").write_bytes(b"precious")
    (tmp_path / "state" / "lock").symlink_to("../treasure")

    with pytest.raises(OSError, match="symbolic links"):
        try_to_hold(mirror, tmp_path / "state")

    assert (tmp_path / "treasure").read_bytes() == b"precious"


def test_a_lock_of_a_failed_attempt_is_let_go(mirror: Path, tmp_path: Path) -> None:
    with another_instance(mirror, tmp_path / "state"), pytest.raises(Busy):
        try_to_hold(mirror, tmp_path / "other-state")

    try_to_hold(mirror, tmp_path / "other-state")
