"""Holes that a file system tells of: passed over where it can be believed, and never instead of data."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.errors import ChangedWhileReadError
from job.fs import sparse as sparse_files
from job.fs.sparse import BLOCK, HoleWithDataError, Piece, SparseLayout, check_holes
from tests.faults.tampering import mounted

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def sparse(path: Path, size: int, *data: int) -> int:
    """Make a file of holes, with a little data at each of the given places; gives it open."""
    with path.open("wb") as file:
        file.truncate(size)
        for place in data:
            file.seek(place)
            file.write(b"here")
    return os.open(path, os.O_RDONLY)


def layout_of(descriptor: int, *, ours: bool = False) -> SparseLayout | None:
    return SparseLayout.of(descriptor, os.fstat(descriptor), ours=ours)


def pieces_of(descriptor: int) -> list[Piece]:
    layout = layout_of(descriptor)
    assert layout is not None
    return list(layout.pieces())


def by_pieces(descriptor: int) -> bytes:
    return b"".join(
        bytes(end - start) if hole else os.pread(descriptor, end - start, start)
        for start, end, hole in pieces_of(descriptor)
    )


@contextmanager
def disk(kind: str, tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a new file system."""
    at = tmp_path / "at"
    if kind == "tmpfs":
        with mounted("tmpfs", at, "-t", "tmpfs"):
            yield at
        return
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    with mounted(str(image), at, "-o", "loop"):
        yield at


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "kind",
    [
        "tmpfs",
        pytest.param("ext4", marks=pytest.mark.needs_tool("mkfs.ext4")),
        pytest.param("xfs", marks=pytest.mark.needs_tool("mkfs.xfs")),
        pytest.param("btrfs", marks=pytest.mark.needs_tool("mkfs.btrfs")),
    ],
)
def test_data_that_is_not_on_the_disk_yet_is_no_hole(tmp_path: Path, kind: str) -> None:
    with disk(kind, tmp_path) as at:
        path = at / "file"
        for number in range(5):
            descriptor = sparse(path, 8 * MIB, number * MIB, 5 * MIB + number * BLOCK, 8 * MIB - 4)

            pieces, content = pieces_of(descriptor), by_pieces(descriptor)

            os.close(descriptor)
            assert content == path.read_bytes()
            assert sum(end - start for start, end, hole in pieces if not hole) <= 256 << 10
            path.unlink()


writes = st.lists(st.tuples(st.integers(0, 3 * MIB), st.integers(1, 100_000)), max_size=8)


@settings(max_examples=25)
@given(writes, st.integers(3 * MIB, 4 * MIB), st.sampled_from([0, 700_000]))
def test_pieces_are_in_order_and_make_up_the_content(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[int, int]], size: int, reserved: int
) -> None:
    path = tmp_path_factory.mktemp("holes") / "file"
    with path.open("wb") as file:
        for place, count in data:
            file.seek(place)
            file.write(b"x" * count)
        if reserved:
            os.posix_fallocate(file.fileno(), 0, reserved)  # room without data
        file.truncate(size)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if layout_of(descriptor) is None:
            return  # with so little in holes it is read whole
        pieces = pieces_of(descriptor)
        assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
        assert pieces[-1].end == size
        assert all(piece.start % BLOCK == 0 for piece in pieces)
        assert by_pieces(descriptor) == path.read_bytes()
    finally:
        os.close(descriptor)


def test_a_hole_of_tebibytes_is_one_piece(tmp_path: Path) -> None:
    descriptor = sparse(tmp_path / "file", 15 * TIB, 5 * TIB)

    assert [(piece.end - piece.start, piece.hole) for piece in pieces_of(descriptor)] == [
        (5 * TIB, True),
        (BLOCK, False),
        (10 * TIB - BLOCK, True),
    ]


def test_a_part_of_a_file_has_its_own_pieces(tmp_path: Path) -> None:
    descriptor = sparse(tmp_path / "file", 10 * MIB, 0, 5 * MIB, 9 * MIB)

    assert list(SparseLayout(descriptor, MIB, 6 * MIB).pieces()) == [
        Piece(MIB, 5 * MIB, hole=True),
        Piece(5 * MIB, 5 * MIB + BLOCK, hole=False),
        Piece(5 * MIB + BLOCK, 6 * MIB, hole=True),
    ]


def test_a_file_with_hardly_any_holes_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 * MIB))

    assert layout_of(os.open(tmp_path / "file", os.O_RDONLY)) is None


def lies(monkeypatch: pytest.MonkeyPatch, *data: int) -> None:
    """Have a file system tell of data at the given places only, a block at each."""

    def lseek(_: int, place: int, how: int) -> int:
        if how == os.SEEK_DATA:
            found = [each for each in data if each >= place]
            if not found:
                raise OSError(6, "No such device or address")
            return found[0]
        return place // BLOCK * BLOCK + BLOCK

    monkeypatch.setattr(os, "lseek", lseek)


@pytest.mark.parametrize("place", [0, 10 * MIB, 20 * MIB - 4])
def test_data_at_the_edges_and_in_the_middle_of_what_is_told_to_be_a_hole_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    descriptor = sparse(tmp_path / "file", 20 * MIB, place)
    lies(monkeypatch)

    with pytest.raises(HoleWithDataError, match="tells of a hole at byte"):
        pieces_of(descriptor)


class TestUnreliable:
    """File systems that are not known to be right about a file that was just written."""

    @pytest.fixture(autouse=True)
    def _unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sparse_files, "_RELIABLE", set())

    def test_a_young_file_is_read_whole(self, tmp_path: Path) -> None:
        assert layout_of(sparse(tmp_path / "file", 40 * MIB)) is None

    def test_a_young_file_that_would_take_long_waits(self, tmp_path: Path) -> None:
        descriptor = sparse(tmp_path / "file", 2 * GIB)

        with pytest.raises(ChangedWhileReadError, match="2,147,483,648 bytes in holes is believed after a minute"):
            layout_of(descriptor)

    def test_after_a_minute_it_is_believed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        descriptor = sparse(tmp_path / "file", 2 * GIB)
        now = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: now + 61_000_000_000)

        assert pieces_of(descriptor) == [Piece(0, 2 * GIB, hole=True)]

    def test_what_was_written_and_synced_here_is_believed(self, tmp_path: Path) -> None:
        assert layout_of(sparse(tmp_path / "file", 2 * GIB), ours=True) is not None


def test_what_nobody_could_read_to_its_end_is_refused(tmp_path: Path) -> None:
    found = os.fstat(sparse(tmp_path / "file", 15 * TIB, 0))

    check_holes(found, 15 * TIB - BLOCK)
    with pytest.raises(OSError, match="16,492,674,416,640 bytes in 4,096 on the disk"):
        check_holes(found, 0)


def test_a_large_file_that_is_compressed_is_not() -> None:
    found = os.stat_result([0o100644, 1, 1, 1, 0, 0, 2 * TIB, 0, 0, 0], {"st_blocks": 2 * TIB // 20 // 512})

    check_holes(found, 0)
