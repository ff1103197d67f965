"""One instance on a mirror, by locks of the kernel, seen from other processes."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.errors import Busy
from job.locking.lock import acquire, describe_holder, holder_record, is_held
from tests.conftest import FOLDER

HOLDER = """
import os, sys
from job.locking.lock import acquire
acquire(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), "music", 1.0)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The `.truecopy` of a mirror."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def another_instance(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Have a second process hold the lock."""
    command = [sys.executable, "-c", HOLDER, str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def held(home: Path) -> Iterator[tuple[int, int]]:
    """Hold the lock in this process; gives the open folder, too. Raises what `acquire` raises."""
    folder = os.open(home, FOLDER)
    try:
        lock = acquire(folder, "music", 2.0)
        try:
            yield lock, folder
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def try_to_hold(home: Path) -> None:
    """Take the lock and let it go again; raises what `acquire` raises."""
    with held(home):
        pass


pytestmark = pytest.mark.usefixtures("no_leak")


def test_a_lock_is_free_again_when_it_was_let_go(home: Path) -> None:
    try_to_hold(home)
    try_to_hold(home)


def test_a_second_instance_is_told_who_holds_the_mirror(home: Path) -> None:
    with another_instance(home) as holder, pytest.raises(Busy) as busy:
        try_to_hold(home)

    assert busy.value.message.startswith("another instance works on the mirror of music (process ")
    assert f"process {holder.pid} on " in busy.value.message
    assert busy.value.hint == "Wait for it to end, or stop it; a lock never outlives its process."


def test_a_dead_instance_leaves_no_lock_behind(home: Path) -> None:
    with another_instance(home) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()

        try_to_hold(home)


def test_the_lock_is_for_its_owner_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        try_to_hold(home)
    finally:
        os.umask(before)

    assert (home / "lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_that_others_could_open_is_closed_to_them_and_they_are_named_as_what_may_hold_it(home: Path) -> None:
    (home / "lock").touch(mode=0o600)
    (home / "lock").chmod(0o644)
    with (home / "lock").open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(Busy) as busy:
            try_to_hold(home)

    assert "Others could open the file until now" in busy.value.hint
    assert (home / "lock").stat().st_mode & 0o777 == 0o600
    try_to_hold(home)


@pytest.mark.parametrize("note", [b"", b"not JSON", b"[]", b'{"pid": "x"}', b'{"pid": 1}', b"\xff" * 2000])
def test_a_damaged_note_about_the_holder_does_no_harm(home: Path, note: bytes) -> None:
    with another_instance(home):
        (home / "lock").write_bytes(note)

        with pytest.raises(Busy, match=r"another instance works on the mirror of music$"):
            try_to_hold(home)


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
    record = json.dumps(holder_record(9.0) | {"host": "nas", "pid": 7} | fields).encode()

    assert describe_holder(record).startswith(f" {told}" if told else "")
    assert bool(describe_holder(record)) == bool(told)


PLANTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (os.mkfifo, r"a special file of user \d+ has the name of the lock; remove it"),
    "folder": (Path.mkdir, r"a folder of user \d+ has the name of the lock; remove it"),
    "link": (lambda lock: lock.symlink_to("../treasure"), r"a link of user \d+ has the name of the lock; remove it"),
    "hard link": (lambda lock: lock.hardlink_to(lock.parent / "../treasure"), "a file with 2 names; remove it"),
}


@pytest.mark.parametrize("planted", PLANTS)
def test_what_is_planted_in_its_place_is_refused_in_words_and_not_followed(home: Path, planted: str) -> None:
    treasure = home.parent / "treasure"
    treasure.write_bytes(b"precious")
    plant, told = PLANTS[planted]
    plant(home / "lock")

    with pytest.raises(OSError, match=told):
        try_to_hold(home)

    assert treasure.read_bytes() == b"precious"


@pytest.mark.needs_root
def test_the_file_of_another_user_is_refused_and_left_as_it_is(home: Path) -> None:
    (home / "lock").write_text("theirs")
    os.chown(home / "lock", 64003, 64003)

    with pytest.raises(PermissionError, match="the lock belongs to user 64003; remove it"):
        try_to_hold(home)

    assert (home / "lock").read_text() == "theirs"


def test_a_lock_that_is_removed_or_replaced_is_seen_as_lost(home: Path) -> None:
    with held(home) as (lock, folder):
        before = is_held(lock, folder)
        (home / "lock").unlink()
        removed = is_held(lock, folder)
        (home / "lock").touch()
        replaced = is_held(lock, folder)

    assert (before, removed, replaced) == (True, False, False)


def test_a_lock_that_is_removed_while_it_is_taken_is_taken_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, calls = fcntl.flock, iter(range(10))

    def removed_meanwhile(descriptor: int, how: int) -> None:
        if next(calls) == 0:
            (home / "lock").unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with held(home) as (lock, folder):
        assert is_held(lock, folder)


@pytest.mark.needs_root
@pytest.mark.needs_tool("chattr")
def test_a_lock_that_cannot_be_written_to_holds_all_the_same(home: Path) -> None:
    try_to_hold(home)
    if subprocess.run(["chattr", "+i", home / "lock"], capture_output=True, check=False).returncode:
        pytest.skip("the file system has no immutable files")
    try:
        with held(home), pytest.raises(Busy):
            try_to_hold(home)
    finally:
        subprocess.run(["chattr", "-i", home / "lock"], check=True)


@pytest.mark.needs_root
def test_on_a_file_system_that_turned_read_only_it_holds_all_the_same(home: Path) -> None:
    with mounted_tmpfs(home) as remount:
        try_to_hold(home)
        remount("ro")
        with held(home), pytest.raises(Busy):
            try_to_hold(home)


@contextmanager
def mounted_tmpfs(point: Path) -> Iterator[Callable[[str], object]]:
    """Mount a small tmpfs; gives what mounts it anew with other options."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(point)], check=True)
    try:
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", str(point)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)
