"""A file in memory: whole whenever it is read, found by processes of this user, and gone with who made it."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from job.health import MemoryFile, find_memory_files

pytestmark = pytest.mark.usefixtures("no_leak")

WRITER = """
import sys
from job.health import MemoryFile
file = MemoryFile(sys.argv[1])
file.publish(sys.argv[2].encode())
print("published", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def name() -> str:
    return f"truecopy-test-{uuid.uuid4().hex}"


@pytest.fixture
def writer(name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, name, "content"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "published\n"
        yield process
        process.kill()


def test_another_process_finds_it_and_nobody_else_after_a_kill(writer: subprocess.Popen[str], name: str) -> None:
    during = list(find_memory_files(name, 100))
    other = list(find_memory_files(name + "x", 100))
    writer.send_signal(signal.SIGKILL)
    writer.wait()

    assert (during, other, list(find_memory_files(name, 100))) == ([b"content"], [], [])


def test_each_content_replaces_the_one_before_as_a_whole_and_opens_no_more_descriptors(name: str) -> None:
    with closing(MemoryFile(name)) as file:
        assert file.read(100) is None
        file.publish(b"a long content")
        descriptors = len(os.listdir("/proc/self/fd"))
        file.publish(b"short")

        assert file.read(100) == b"short"
        assert list(find_memory_files(name, 100)) == [b"short"]
        assert list(find_memory_files(name, 2)) == [b"sh"]
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_program_that_is_started_does_not_inherit_it(name: str) -> None:
    with closing(MemoryFile(name)) as file:
        file.publish(b"one")
        file.publish(b"two")
        with subprocess.Popen(["sleep", "60"]) as child:
            try:
                assert list(find_memory_files(name, 100)) == [b"two"]
            finally:
                child.kill()


def test_a_file_that_only_has_such_a_name_is_none(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("named") / f"memfd:{name} (deleted)"
    with path.open("w") as file:
        file.write("planted")
        file.flush()

        assert list(find_memory_files(name, 100)) == []


@pytest.mark.needs_root
def test_a_file_of_another_user_is_not_believed_even_when_a_process_of_ours_has_it_open(name: str) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setresuid(64003, 64003, 64003)
        file = MemoryFile(name)
        file.publish(b"forged")
        os.setpgid(0, 0)
        os.write(writing, str(file._descriptor).encode())
        os.close(writing)
        signal.pause()
    os.close(writing)
    number = os.read(reading, 10).decode()
    handed_over = os.open(f"/proc/{child}/fd/{number}", os.O_RDONLY)
    try:
        assert list(find_memory_files(name, 100)) == []
    finally:
        os.close(handed_over)
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
