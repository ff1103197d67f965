"""The reserve on the mirror's disk, on small file systems that are really filled."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

import pytest

from job.fs.free_space import FreeSpace
from tests.faults.tampering import mounted
from tests.memory_disks import memory_disk, variant

pytestmark = pytest.mark.needs_root

MIB = 1 << 20


class Mount(Protocol):
    def __call__(self, options: str) -> Path: ...


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Mount]:
    """Give a function that mounts a small tmpfs."""
    with ExitStack() as undo:
        yield lambda options: undo.enter_context(mounted("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", options))


def check(room: FreeSpace, file: BinaryIO, folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        room.check(file.fileno(), os.fstat(file.fileno()), opened)
    finally:
        os.close(opened)


def fill(folder: Path, size: int) -> None:
    """Write files of a size with an eye on the room, until there is none."""
    room = FreeSpace()
    for number in range(50_000):
        with (folder / f"{number}").open("wb") as file:
            file.write(bytes(size))
            file.flush()
            check(room, file, folder)


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


@pytest.mark.parametrize(("disk_mib", "reserve_mib"), [(8, 1), (100, 8)])
@pytest.mark.parametrize("size", [100, 50_000, 900_000])
def test_filling_a_disk_ends_at_the_reserve(tmpfs: Mount, disk_mib: int, reserve_mib: int, size: int) -> None:
    folder = tmpfs(f"size={disk_mib}m,nr_inodes=1000000")

    with pytest.raises(OSError, match="No space left"):
        fill(folder, size)

    assert free(folder) < reserve_mib * MIB
    assert free(folder) > reserve_mib * MIB - size - 65_536


def test_filling_a_file_system_with_names_ends_while_some_are_left(tmpfs: Mount) -> None:
    folder = tmpfs("size=100m,nr_inodes=5000")

    with pytest.raises(OSError, match="No file names left"):
        fill(folder, 0)

    assert os.statvfs(folder).f_ffree == 7


def test_another_file_system_below_the_same_mirror_is_looked_at_too(tmpfs: Mount, tmp_path: Path) -> None:
    room = FreeSpace()
    with (tmp_path / "ample").open("wb") as file:
        check(room, file, tmp_path)
    folder = tmpfs("size=1m")
    (folder / "full").write_bytes(bytes(1_000_000))

    with (folder / "more").open("wb", buffering=0) as file:
        file.write(b"x")
        with pytest.raises(OSError, match="No space left"):
            check(room, file, folder)


# Counts that make no sense --------------------------------------------------------------------------------------------


def served(folder: Path, files: int, size: int) -> None:
    """Write files with an eye on the room."""
    room = FreeSpace()
    for number in range(files):
        with (folder / f"{number}").open("wb") as file:
            file.write(bytes(size))
            file.flush()
            check(room, file, folder)


def test_a_server_without_a_single_name_left_that_takes_files_is_written_to(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "server", "noinodes") as folder:
        assert os.statvfs(folder).f_files > 0 == os.statvfs(folder).f_ffree

        served(folder, 70, 10)

        assert len(os.listdir(folder)) == 70


# Total and free blocks, total and free names, as a server may have them.
_ALL_ONES = (1 << 64) - 1
NONSENSE = {
    "no blocks at all": (0, 0, 1 << 19, 1 << 19),
    "none of many blocks": (1 << 20, 0, 1 << 19, 1 << 19),
    "more free than there are": (1 << 10, 1 << 30, 1 << 10, 1 << 19),
    "all ones": (1 << 20, _ALL_ONES >> 12, _ALL_ONES, _ALL_ONES),
    "a few names that never get fewer": (1 << 20, 1 << 19, 1 << 19, 3),
    "no names at all": (1 << 20, 1 << 19, 0, 0),
    "nothing": (0, 0, 0, 0),
}


@pytest.mark.parametrize("counts", NONSENSE.values(), ids=NONSENSE)
def test_counts_that_nothing_changes_do_not_keep_files_out(tmp_path: Path, counts: tuple[int, ...]) -> None:
    blocks, free, names, names_free = counts
    server = variant(
        tmp_path / "server.py",
        f"""
def answer(files, op, n, data):
    if op == 17:
        return struct.pack('<5Q4I6I', {blocks}, {free}, {free}, {names}, {names_free}, 4096, 255, 4096, 0, *[0] * 6)
""",
    )

    with memory_disk(tmp_path / "at", server=server) as folder:
        served(folder, 40, 5000)

        assert len(os.listdir(folder)) == 40


def test_the_last_names_of_a_disk_are_kept_by_an_honest_count(tmpfs: Mount) -> None:
    folder = tmpfs("size=100m,nr_inodes=5")

    with pytest.raises(OSError, match="No file names left"):
        served(folder, 10, 0)

    assert len(os.listdir(folder)) == 1
