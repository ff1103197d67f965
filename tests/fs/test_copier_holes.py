"""Copies of files with holes: what is told to be a hole is neither read nor written, and the checksum is right."""

import errno
import hashlib
import os
import struct
from pathlib import Path

import pytest

from job.errors import ChangedWhileReadError, Stopped
from job.fs.copier import Copier
from job.fs.hashing_reader import new_hash
from job.fs.metadata import MetadataWriter
from job.fs.sparse import BLOCK, HoleWithDataError
from tests.fs.copying import TEMP, CopyRig

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def sparse(path: Path, size: int, *data: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for place in data:
            file.seek(place)
            file.write(b"here")


def of_blocks(size: int, *data: int) -> str:
    """Give the checksum of what `sparse` makes, as it is documented."""
    digest = hashlib.sha256()
    for place in data:
        start = place // BLOCK * BLOCK
        block = bytes(place - start) + b"here"
        digest.update(struct.pack(">Q", start) + block.ljust(BLOCK, b"\0"))
    digest.update(struct.pack(">Q", size))
    return f"sparse-sha256:{digest.hexdigest()}"


def read_bytes() -> int:
    """Tell how many bytes this process read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_file_of_tebibytes_costs_what_it_takes_on_the_disk(bench: CopyRig) -> None:
    sparse(bench.source / "file", 15 * TIB, 4, 5 * TIB, 15 * TIB - 4)
    before = read_bytes()

    copied = bench.copy()

    assert read_bytes() - before < 8 * MIB
    assert copied.checksum == of_blocks(15 * TIB, 4, 5 * TIB, 15 * TIB - 4)
    assert copied.source.size - copied.holes == 3 * BLOCK
    assert bench.temp.stat().st_size == 15 * TIB
    assert bench.temp.stat().st_blocks == (bench.source / "file").stat().st_blocks
    assert bench.copier().cold_checksum(TEMP, bench.mirror_folder, "sparse-sha256") == copied.checksum
    with bench.temp.open("rb") as made:
        made.seek(5 * TIB)
        assert made.read(4) == b"here"


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_as_long_as_there_is_time_for_its_zeros_a_file_has_the_checksum_that_any_tool_gives(
    bench: CopyRig, algorithm: str
) -> None:
    path = bench.source / "file"
    sparse(path, 20 * MIB, 7 * MIB, 19 * MIB + 5)
    content = path.read_bytes()

    copied = bench.copy(algorithm=algorithm)

    assert copied.checksum == f"{algorithm}:{new_hash(algorithm)(content).hexdigest()}"
    assert bench.temp.read_bytes() == content
    assert copied.holes == 20 * MIB - 2 * BLOCK


def test_zeros_are_hashed_for_many_files_only_as_long_as_there_is_time(bench: CopyRig) -> None:
    sparse(bench.source / "file", 20 * MIB)
    one = bench.copier()
    one.zeros_left = 50 * MIB

    checksums = [one.checksum(bench.listed(), bench.source_folder)[0] for _ in range(4)]

    whole = "sha256:" + hashlib.sha256(bytes(20 * MIB)).hexdigest()
    assert checksums == [whole, whole, of_blocks(20 * MIB), of_blocks(20 * MIB)]


def test_a_file_with_an_eighth_of_data_always_has_the_usual_checksum(bench: CopyRig) -> None:
    one = bench.copier()
    one.zeros_left = 0
    path = bench.source / "file"
    path.write_bytes(b"x" * 2 * MIB)
    os.truncate(path, 16 * MIB)

    copied = one.copy(bench.listed(), bench.source_folder, bench.mirror_folder, TEMP)

    assert copied.checksum == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_checksum_that_was_recorded_is_made_again(bench: CopyRig) -> None:
    sparse(bench.source / "file", 20 * MIB, 4)
    one = bench.copier()

    assert one.checksum(bench.listed(), bench.source_folder, "sparse-sha256")[0] == of_blocks(20 * MIB, 4)
    (bench.source / "small").write_bytes(b"here")
    small = bench.listed("small")
    assert one.checksum(small, bench.source_folder, "sparse-sha256")[0] == of_blocks(4, 0)


def test_a_stop_is_noticed_in_the_middle_of_a_hole(bench: CopyRig) -> None:
    sparse(bench.source / "file", 12 * GIB)
    left = iter(range(5))

    def chunk_done(_: int) -> None:
        if next(left, None) is None:
            raise Stopped("asked to")

    bench.chunk_done = chunk_done

    with pytest.raises(Stopped):
        bench.copy()
    assert bench.left_over == []


class TestCompare:
    SIZE = 15 * TIB

    @pytest.fixture(autouse=True)
    def _both(self, bench: CopyRig) -> None:
        for folder in (bench.source, bench.mirror):
            sparse(folder / "file", self.SIZE, 5 * TIB)
            os.utime(folder / "file", ns=(1, 1))

    def test_equal_ones_are_found_equal(self, bench: CopyRig) -> None:
        found = bench.compare()

        assert (found.same, found.alike is not None) == (True, True)
        assert found.checksum == of_blocks(self.SIZE, 5 * TIB)

    @pytest.mark.parametrize("place", [0, 4 * TIB, 5 * TIB + 1, 14 * TIB + 77, SIZE - 1])
    @pytest.mark.parametrize("side", ["source", "mirror"])
    def test_one_byte_more_in_a_hole_is_a_difference(self, bench: CopyRig, side: str, place: int) -> None:
        with (bench.source.parent / side / "file").open("r+b") as file:
            file.seek(place)
            file.write(b"X")

        assert not bench.compare().same

    def test_another_size_is_a_difference(self, bench: CopyRig) -> None:
        os.truncate(bench.mirror / "file", self.SIZE - 1)

        assert not bench.compare().same

    def test_a_mirror_that_has_zeros_where_the_source_has_holes_is_equal(self, bench: CopyRig) -> None:
        with (bench.mirror / "file").open("r+b") as file:
            file.seek(TIB)
            file.write(bytes(3 * MIB))

        assert bench.compare().same


def test_a_mirror_without_holes_gets_the_zeros(bench: CopyRig) -> None:
    path = bench.source / "file"
    sparse(path, 20 * MIB, 7 * MIB)
    dense = Copier("sha256", MetadataWriter(), bench._chunk_done, sync_each=False, sparse=False)

    copied = dense.copy(bench.listed(), bench.source_folder, bench.mirror_folder, TEMP)

    assert bench.temp.read_bytes() == path.read_bytes()
    assert bench.temp.stat().st_blocks * 512 >= 20 * MIB
    assert copied.checksum == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_mirror_without_holes_is_not_filled_up_by_a_file_that_does_not_fit(bench: CopyRig) -> None:
    sparse(bench.source / "file", 15 * TIB)
    dense = Copier("sha256", MetadataWriter(), bench._chunk_done, sync_each=False, sparse=False)

    with pytest.raises(OSError, match=r"has no holes, so that it needs 16,492,674,416,640 bytes") as raised:
        dense.copy(bench.listed(), bench.source_folder, bench.mirror_folder, TEMP)
    assert raised.value.errno == errno.ENOSPC
    assert bench.left_over == []


def lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the file system tell that files are nothing but holes."""

    real = os.lseek

    def lseek(descriptor: int, place: int, how: int) -> int:
        if how == os.SEEK_DATA:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return real(descriptor, place, how)

    monkeypatch.setattr(os, "lseek", lseek)


def test_a_hole_that_is_none_fails_instead_of_being_copied(bench: CopyRig, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(bench.source / "file", 20 * MIB, 0)
    lie(monkeypatch)

    with pytest.raises(HoleWithDataError):
        bench.copy()
    assert bench.left_over == []


def test_a_hole_that_is_written_to_meanwhile_is_a_change_of_the_file(
    bench: CopyRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.source / "file"
    sparse(path, 20 * MIB)
    lie(monkeypatch)
    real = os.pread

    def pread(descriptor: int, count: int, place: int) -> bytes:
        with path.open("r+b") as file:
            file.write(os.urandom(4))
        return real(descriptor, count, place)

    monkeypatch.setattr(os, "pread", pread)

    with pytest.raises(ChangedWhileReadError):
        bench.copy()


def test_a_file_that_becomes_sparse_while_it_is_read_is_copied_as_it_is_then(bench: CopyRig) -> None:
    path = bench.source / "file"
    path.write_bytes(os.urandom(3 * MIB))
    once = iter([True])

    def chunk_done(_: int) -> None:
        if next(once, False):
            sparse(path, 30 * MIB, 5 * MIB, 29 * MIB)

    bench.chunk_done = chunk_done

    copied = bench.copy()

    assert bench.temp.read_bytes() == path.read_bytes()
    assert copied.holes == 30 * MIB - 2 * BLOCK
