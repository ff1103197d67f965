"""Holes: zeros are left out in writing, and nothing else is."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.fs.sparse import SparseWriter, allocated_bytes

BLOCK = 4096
pieces = st.one_of(
    st.integers(1, 5).map(lambda count: bytes(count * BLOCK)),
    st.integers(1, 3 * BLOCK).map(bytes),
    st.integers(1, 40).map(lambda count: bytes(count * BLOCK // 2)),
    st.binary(min_size=1, max_size=50),
    st.integers(1, 2 * BLOCK).map(lambda count: b"x" * count),
)


def written(path: Path, chunks: list[bytes]) -> bytes:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        holes = SparseWriter(descriptor)
        for chunk in chunks:
            holes.write(memoryview(chunk))
        os.ftruncate(descriptor, sum(map(len, chunks)))
    finally:
        os.close(descriptor)
    return path.read_bytes()


@given(st.lists(pieces, max_size=12))
def test_whatever_is_written_with_holes_reads_as_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "holes"

    assert written(path, chunks) == b"".join(chunks)


def test_zeros_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "file"

    written(path, [bytes(64 << 20), b"x" * BLOCK, bytes(1 << 20)])

    assert path.stat().st_size == (65 << 20) + BLOCK
    assert path.stat().st_blocks * 512 < 1 << 16
    assert allocated_bytes(path.stat()) < path.stat().st_size


def test_a_block_of_data_between_zeros_is_all_that_takes_room(tmp_path: Path) -> None:
    path = tmp_path / "file"
    chunk = bytes(32 * BLOCK) + b"x" + bytes(32 * BLOCK - 1)

    written(path, [chunk] * 4)

    assert path.stat().st_blocks * 512 <= 8 * BLOCK


def test_a_file_without_holes_is_not_sparse(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10 * BLOCK))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

    assert allocated_bytes((tmp_path / "file").stat()) >= 10 * BLOCK
