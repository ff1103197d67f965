"""Large files, which two threads copy."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator

import pytest

from job.engine.volumes import RateLimiter
from job.errors import Stopped
from job.fs.hashing_reader import BUFFER_BYTES, THREAD_BYTES, drop
from job.fs.mounts import file_system_type
from job.fs.small_copies import SMALL_BYTES
from tests.fs.cached import cached_pages
from tests.fs.copying import TEMP, CopyRig

LARGE = 2 * THREAD_BYTES + 77
SIZES = [0, 5, SMALL_BYTES, SMALL_BYTES + 1, BUFFER_BYTES, LARGE, 64 * BUFFER_BYTES + 1]


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def content_of(size: int) -> bytes:
    return (os.urandom(1009) * (size // 1009 + 1))[:size]


@pytest.mark.parametrize("sync_each", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_size_is_copied_whole_with_its_metadata(
    bench: CopyRig, size: int, algorithm: str, *, sync_each: bool
) -> None:
    content = content_of(size)
    path = bench.source / "file"
    path.write_bytes(content)
    path.chmod(0o640)
    os.utime(path, ns=(1, 2_000_000_003))
    copier = bench.copier(algorithm, sync_each=sync_each)

    copied = copier.copy(bench.listed(), bench.source_folder, bench.mirror_folder, TEMP)

    made = bench.temp.stat()
    assert bench.temp.read_bytes() == content
    assert copied.checksum == copier.cold_checksum(TEMP, bench.mirror_folder)
    assert algorithm == "blake3" or copied.checksum == "sha256:" + hashlib.sha256(content).hexdigest()
    assert (stat.S_IMODE(made.st_mode), made.st_mtime_ns) == (0o640, 2_000_000_003)
    assert (copied.inode, copied.mtime_ns) == (made.st_ino, made.st_mtime_ns)


@pytest.mark.parametrize("error", [Stopped("asked to"), KeyboardInterrupt(), OSError("disk full")])
def test_a_large_copy_that_is_broken_off_ends_at_once_and_leaves_nothing(bench: CopyRig, error: BaseException) -> None:
    (bench.source / "file").write_bytes(bytes(LARGE))
    told: list[int] = []

    def break_off(count: int) -> None:
        told.append(count)
        if len(told) == 3:
            raise error

    bench.chunk_done = break_off

    with pytest.raises(type(error)):
        bench.copy()

    assert len(told) == 3
    assert bench.left_over == []


def test_a_large_file_that_changed_once_is_read_again_and_copied_whole(bench: CopyRig) -> None:
    path = bench.source / "file"
    path.write_bytes(bytes(LARGE))
    fresh = content_of(LARGE - 5)
    waiting = [fresh]
    bench.chunk_done = lambda _: path.write_bytes(waiting.pop()) if waiting else None

    copied = bench.copy()

    assert bench.temp.read_bytes() == fresh
    assert copied.checksum == "sha256:" + hashlib.sha256(fresh).hexdigest()


def test_the_rate_limit_holds_for_every_chunk_of_a_large_file(bench: CopyRig) -> None:
    (bench.source / "file").write_bytes(bytes(LARGE))
    now = [0.0]
    seen: list[tuple[float, int]] = []

    def wait(seconds: float) -> None:
        now[0] += seconds

    pace = RateLimiter(BUFFER_BYTES, stop=lambda: False, progress=lambda _: None, clock=lambda: now[0], wait=wait)

    def paced(count: int) -> None:
        # The temp never holds more than what was accounted for, and this chunk.
        seen.append((now[0], bench.temp.stat().st_size))
        pace(count)

    bench.chunk_done = paced

    bench.copy()

    assert all(size <= BUFFER_BYTES * (when + 1) for when, size in seen)
    assert now[0] == pytest.approx(LARGE / BUFFER_BYTES)


def test_a_large_copy_that_was_synced_is_let_go_of(bench: CopyRig) -> None:
    if file_system_type(bench.mirror.stat().st_dev) == "tmpfs":
        pytest.skip("temps are in memory here, which nothing drops; tests/fs/test_page_cache.py has a disk")
    path = bench.source / "file"
    path.write_bytes(content_of(LARGE))
    os.sync()
    source = os.open(path, os.O_RDONLY)
    drop(source)

    bench.copy()
    os.sync()
    bench.copier().release(TEMP, bench.mirror_folder, LARGE)

    mirrored = os.open(bench.temp, os.O_RDONLY)
    pages = [cached_pages(each, 0, LARGE) for each in (source, mirrored)]
    os.close(source)
    os.close(mirrored)
    assert not any(pages[0])
    assert not any(pages[1])
    bench.copier().release(b"not there", bench.mirror_folder, LARGE)
