"""A source file and its mirror, compared byte for byte."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from job.core.entry import Entry
from job.core.record import Record
from job.errors import ChangedWhileReadError
from job.fs.hashing_reader import BUFFER_BYTES, THREAD_BYTES
from job.fs.small_copies import SMALL_BYTES
from tests.fs.copying import CopyRig

LARGE = 2 * THREAD_BYTES + 77
SIZES = [0, 5, SMALL_BYTES, SMALL_BYTES + 1, BUFFER_BYTES, LARGE]


def twins(bench: CopyRig, size: int) -> None:
    """Make a file, and a mirror of it to the last detail."""
    for folder in (bench.source, bench.mirror):
        path = folder / "file"
        path.write_bytes(bytes(size))
        path.chmod(0o640)
        os.utime(path, ns=(1, 5))


@pytest.mark.parametrize("size", SIZES)
def test_equal_files_with_equal_metadata_are_the_same_and_alike(bench: CopyRig, size: int) -> None:
    twins(bench, size)

    found = bench.compare()

    assert found.same
    assert found.source == bench.listed()
    assert found.alike == bench.mirrored()
    assert found.checksum == "sha256:" + hashlib.sha256(bytes(size)).hexdigest()


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def first_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")


def last_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("change", [longer, shorter, first_byte, last_byte])
@pytest.mark.parametrize("side", ["source", "mirror"])
def test_one_byte_makes_contents_differ(bench: CopyRig, size: int, change: Callable[[Path], None], side: str) -> None:
    twins(bench, size)
    change(getattr(bench, side) / "file")

    found = bench.compare()

    assert not found.same
    assert found.alike is None
    assert found.checksum == "sha256:" + hashlib.sha256((bench.source / "file").read_bytes()).hexdigest()


OTHERWISE: dict[str, Callable[[Path], None]] = {
    "mode": lambda path: path.chmod(0o600),
    "setuid": lambda path: path.chmod(0o4640),
    "time": lambda path: os.utime(path, ns=(1, 6)),
    "attribute": lambda path: os.setxattr(path, "user.colour", b"blue"),
    "owner": lambda path: os.chown(path, 1234, -1),
    "group": lambda path: os.chown(path, -1, 1234),
}


@pytest.mark.needs_root
@pytest.mark.parametrize("differ", OTHERWISE)
def test_equal_contents_with_other_metadata_are_the_same_but_not_alike(bench: CopyRig, differ: str) -> None:
    twins(bench, 100)
    OTHERWISE[differ](bench.mirror / "file")

    found = bench.compare()

    assert found.same
    assert found.alike is None


def gone(path: Path) -> None:
    path.unlink()


def swapped(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.write_bytes(bytes(100))


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("meddle", [gone, swapped, a_fifo])
def test_a_mirror_that_cannot_be_read_differs(bench: CopyRig, meddle: Callable[[Path], None]) -> None:
    twins(bench, 100)
    mirrored: Entry = bench.mirrored()
    meddle(bench.mirror / "file")

    found = bench.copier().compare(bench.listed(), bench.source_folder, mirrored, bench.mirror_folder)

    assert not found.same


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_mirror_that_changes_while_it_is_read_differs(bench: CopyRig, size: int) -> None:
    twins(bench, size)
    bench.chunk_done = lambda _: first_byte(bench.mirror / "file")

    found = bench.compare()

    assert not found.same


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_source_that_changed_once_is_compared_again(bench: CopyRig, size: int) -> None:
    twins(bench, size)
    waiting = [b"a"]
    bench.chunk_done = lambda _: first_byte(bench.source / "file") if waiting and waiting.pop() else None
    first_byte(bench.mirror / "file")

    found = bench.compare()

    assert found.same


def test_a_source_that_keeps_changing_is_given_up(bench: CopyRig) -> None:
    twins(bench, 100)
    bench.chunk_done = lambda _: longer(bench.source / "file")

    with pytest.raises(ChangedWhileReadError):
        bench.compare()


# Against what a record says, at little cost --------------------------------------------------------------------------


def a_record(bench: CopyRig) -> Record:
    return Record(bench.listed(), bench.mirrored(), bench.compare().checksum, racy=False)


def confirms(bench: CopyRig, record: Record) -> bool:
    return bench.copier().confirmed([record], bench.source_folder, bench.mirror_folder) == [record]


@pytest.mark.parametrize("size", [0, 5, SMALL_BYTES])
def test_a_small_file_that_both_sides_have_as_recorded_is_confirmed(bench: CopyRig, size: int) -> None:
    twins(bench, size)

    assert confirms(bench, a_record(bench))


def test_a_large_file_is_left_to_a_comparison(bench: CopyRig) -> None:
    twins(bench, SMALL_BYTES + 1)

    assert not confirms(bench, a_record(bench))


DIFFERENCES = {change.__name__: change for change in (longer, shorter, first_byte, last_byte)} | OTHERWISE


@pytest.mark.needs_root
@pytest.mark.parametrize("differ", DIFFERENCES)
@pytest.mark.parametrize("side", ["source", "mirror"])
def test_nothing_that_differs_from_its_record_is_confirmed(bench: CopyRig, differ: str, side: str) -> None:
    twins(bench, 5)
    record = a_record(bench)
    DIFFERENCES[differ](getattr(bench, side) / "file")

    assert not confirms(bench, record)


@pytest.mark.parametrize("change", [first_byte, last_byte])
@pytest.mark.parametrize("sides", [("source",), ("mirror",), ("source", "mirror")])
def test_content_that_moved_no_time_and_no_inode_is_not_confirmed(
    bench: CopyRig, change: Callable[[Path], None], sides: tuple[str, ...]
) -> None:
    # Such file systems exist, and `compare: checksum` is for them; here the record is told what it would see there.
    twins(bench, 5)
    checksum = bench.compare().checksum
    for side in sides:
        change(getattr(bench, side) / "file")

    assert not confirms(bench, Record(bench.listed(), bench.mirrored(), checksum, racy=False))


def test_an_attribute_that_moved_no_time_is_not_confirmed(bench: CopyRig) -> None:
    twins(bench, 5)
    checksum = bench.compare().checksum
    os.setxattr(bench.source / "file", "user.colour", b"blue")

    assert not confirms(bench, Record(bench.listed(), bench.mirrored(), checksum, racy=False))


@pytest.mark.parametrize("side", ["source", "mirror"])
def test_a_file_that_is_gone_or_became_a_pipe_is_not_confirmed(bench: CopyRig, side: str) -> None:
    twins(bench, 5)
    record = a_record(bench)
    path = getattr(bench, side) / "file"
    path.unlink()
    assert not confirms(bench, record)
    os.mkfifo(path)
    assert not confirms(bench, record)
