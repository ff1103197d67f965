"""The page cache after a large file was read or written: without its pages, on a file system with pages to drop."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.fs.hashing_reader import PageCacheGuard, WritebackLimiter, drop
from job.fs.mounts import file_system_type
from tests.faults.tampering import mounted
from tests.fs.cached import cached_pages

MIB = 1 << 20
SIZE = 21 * MIB + 5
PAGES = SIZE // 4096 + 1


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a file system that keeps its files elsewhere than in memory."""
    here = tmp_path_factory.mktemp("disk")
    if file_system_type(here.stat().st_dev) != "tmpfs":
        yield here
        return
    if os.geteuid() != 0:
        pytest.skip("temps are in memory here, and only root may mount another file system")
    image = here / "image"
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(str(image), here / "mounted", "-o", "loop") as at:
        yield at


@pytest.fixture
def large(disk: Path) -> Iterator[int]:
    """An open file of which nothing is cached."""
    path = disk / "large"
    path.write_bytes(os.urandom(SIZE))
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    drop(descriptor)
    assert not any(cached(descriptor))
    yield descriptor
    os.close(descriptor)
    path.unlink()


def cached(descriptor: int) -> bytes:
    return cached_pages(descriptor, 0, SIZE)


def read_through(descriptor: int) -> bytes:
    """Read a file under a guard; return which pages were cached just before its end."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    guard = PageCacheGuard(descriptor)
    done = 0
    while True:
        guard.arrive(done)
        chunk = os.read(descriptor, MIB)
        if not chunk:
            break
        done += len(chunk)
    at_the_end = cached(descriptor)
    guard.leave()
    return at_the_end


def test_a_file_that_was_not_cached_is_not_cached_after_it_was_read(large: int) -> None:
    read_through(large)

    assert not any(cached(large))


def test_what_was_read_is_dropped_already_on_the_way(large: int) -> None:
    at_the_end = read_through(large)

    assert len(at_the_end) == PAGES
    assert not any(at_the_end[: 16 * MIB // 4096])


def test_a_descriptor_without_pages_can_be_dropped() -> None:
    reading, writing = os.pipe()

    drop(reading)

    os.close(reading)
    os.close(writing)


def test_what_is_written_goes_to_the_disk_and_out_of_the_cache_on_the_way(disk: Path) -> None:
    descriptor = os.open(disk / "written", os.O_RDWR | os.O_CREAT)
    limiter = WritebackLimiter(descriptor)
    chunk = os.urandom(MIB)

    for _ in range(80):
        os.write(descriptor, chunk)
        limiter.wrote(len(chunk))
    found = cached_pages(descriptor, 0, 80 * MIB)
    content = os.pread(descriptor, 80 * MIB, 0)
    os.close(descriptor)
    (disk / "written").unlink()

    assert not any(found[: 32 * MIB // 4096])
    assert all(found[64 * MIB // 4096 :])
    assert content == chunk * 80


def test_a_file_system_that_knows_nothing_of_this_is_written_to_all_the_same() -> None:
    with open("/dev/null", "wb", buffering=0) as file:
        limiter = WritebackLimiter(file.fileno())

        limiter.wrote(200 * MIB)


def test_a_disk_that_does_not_take_what_is_written_is_heard_of() -> None:
    with open("/dev/null", "wb") as file:
        closed = os.dup(file.fileno())
    os.close(closed)

    with pytest.raises(OSError, match="Bad file descriptor"):
        WritebackLimiter(closed).wrote(200 * MIB)
