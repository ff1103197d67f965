"""Files read through once, small and large: every byte hashed and taken in order, and nothing left behind."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.fs.hashing_reader import BUFFER_BYTES, THREAD_BYTES, HashingReader

SIZES = [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, THREAD_BYTES - 1, THREAD_BYTES, 3 * THREAD_BYTES + 7]
LARGE = 3 * THREAD_BYTES


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def opened(tmp_path: Path, content: bytes) -> int:
    (tmp_path / "file").write_bytes(content)
    return os.open(tmp_path / "file", os.O_RDONLY)


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_hashed_and_taken_once_in_order(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    descriptor = opened(tmp_path, content)
    digest, taken = hashlib.sha256(), bytearray()

    count = HashingReader().read(descriptor, size, digest, taken.extend)
    os.close(descriptor)

    assert count == size
    assert bytes(taken) == content
    assert digest.digest() == hashlib.sha256(content).digest()


def test_one_stream_reads_many_files(tmp_path: Path) -> None:
    stream = HashingReader()

    for size in (LARGE, 5, LARGE + 1):
        content = os.urandom(size)
        descriptor = opened(tmp_path, content)
        digest = hashlib.sha256()
        stream.read(descriptor, size, digest, len)
        os.close(descriptor)
        assert digest.digest() == hashlib.sha256(content).digest()


class Census:
    """Counts the threads whenever a chunk is taken."""

    def __init__(self) -> None:
        self.counts: set[int] = set()

    def __call__(self, _: memoryview | bytes) -> None:
        self.counts.add(threading.active_count())


def test_a_large_file_is_hashed_in_another_thread_and_a_small_one_is_not(tmp_path: Path) -> None:
    for size, others in ((BUFFER_BYTES, 0), (LARGE, 1)):
        descriptor, before = opened(tmp_path, bytes(size)), threading.active_count()
        taker = Census()

        HashingReader().read(descriptor, size, hashlib.sha256(), taker)
        os.close(descriptor)

        assert {count - before for count in taker.counts} == {others}


class SlowHash:
    """A hash that never catches up with the reader, and adds up what it was given."""

    def __init__(self) -> None:
        self.ours = hashlib.sha256()

    def update(self, data: memoryview | bytes) -> None:
        time.sleep(0.005)
        self.ours.update(data)

    def hexdigest(self) -> str:
        return self.ours.hexdigest()


def test_a_hash_slower_than_the_disk_is_waited_for_and_misses_nothing(tmp_path: Path) -> None:
    content = os.urandom(5 * THREAD_BYTES)
    descriptor, digest = opened(tmp_path, content), SlowHash()

    HashingReader().read(descriptor, len(content), digest, len)
    os.close(descriptor)

    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [BUFFER_BYTES + 1, LARGE])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_what_the_taker_raises_ends_the_reading_at_once(tmp_path: Path, size: int, error: BaseException) -> None:
    descriptor = opened(tmp_path, bytes(size))
    taken: list[int] = []

    def take(chunk: memoryview | bytes) -> None:
        taken.append(len(chunk))
        raise error

    with pytest.raises(type(error)):
        HashingReader().read(descriptor, size, hashlib.sha256(), take)
    os.close(descriptor)

    assert taken == [BUFFER_BYTES]


class BrokenHash(SlowHash):
    """A hash that fails from its second chunk on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def update(self, data: memoryview | bytes) -> None:
        self.calls += 1
        if self.calls > 1:
            raise MemoryError
        super().update(data)


@pytest.mark.parametrize("size", [BUFFER_BYTES + 1, THREAD_BYTES, 30 * BUFFER_BYTES])
def test_what_the_hash_raises_reaches_the_caller(tmp_path: Path, size: int) -> None:
    descriptor = opened(tmp_path, bytes(size))
    taken: list[int] = []

    with pytest.raises(MemoryError):
        HashingReader().read(descriptor, size, BrokenHash(), lambda chunk: taken.append(len(chunk)))
    os.close(descriptor)

    assert sum(taken) < 20 * BUFFER_BYTES


@pytest.mark.parametrize("size", [BUFFER_BYTES, LARGE])
def test_a_file_that_grows_as_fast_as_it_is_read_comes_to_an_end(tmp_path: Path, size: int) -> None:
    descriptor = opened(tmp_path, bytes(size))
    growing = os.open(tmp_path / "file", os.O_WRONLY | os.O_APPEND)

    count = HashingReader().read(descriptor, size, hashlib.sha256(), lambda chunk: os.write(growing, chunk))
    os.close(growing)
    os.close(descriptor)

    assert size < count <= size + BUFFER_BYTES


def test_without_a_thread_to_be_had_a_large_file_is_hashed_in_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    content = os.urandom(LARGE)
    descriptor, digest = opened(tmp_path, content), hashlib.sha256()
    monkeypatch.setattr(threading.Thread, "start", no_thread)

    HashingReader().read(descriptor, LARGE, digest, len)
    os.close(descriptor)

    assert digest.digest() == hashlib.sha256(content).digest()
