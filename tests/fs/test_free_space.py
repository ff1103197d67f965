"""The reserve on the mirror's disk, on small file systems that are really filled."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from job.fs.copier import Copier
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from tests.faults.tampering import mounted
from tests.memory_disks import memory_disk, variant

pytestmark = pytest.mark.needs_root

MIB = 1 << 20


class Mount(Protocol):
    def __call__(self, options: str) -> Path: ...


class Copy(Protocol):
    def __call__(self, folder: Path, size: int, name: str = "0") -> None: ...


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Mount]:
    """Give a function that mounts a small tmpfs."""
    with ExitStack() as undo:
        yield lambda options: undo.enter_context(mounted("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", options))


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """Give a function that copies a new file of a size into a folder, with one copier for all."""
    copier = Copier("sha256", MetadataWriter(), lambda _: None, sync_each=False)
    source = tmp_path / "source"
    source.mkdir()
    from_ = os.open(source, os.O_RDONLY)

    def copy_to(folder: Path, size: int, name: str = "0") -> None:
        if not (source / str(size)).exists():
            (source / str(size)).write_bytes(os.urandom(size))
        listed = entry_of(b"%d" % size, (source / str(size)).stat())
        to = os.open(folder, os.O_RDONLY)
        try:
            copier.copy(listed, from_, to, name.encode())
        finally:
            os.close(to)

    yield copy_to
    os.close(from_)


def fill(copy: Copy, folder: Path, size: int, files: int = 50_000) -> None:
    """Copy files of a size into a folder until there is no space for the next one."""
    for number in range(files):
        copy(folder, size, f"{number}")


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


@pytest.mark.parametrize(("disk_mib", "reserve_mib"), [(8, 1), (100, 8)])
@pytest.mark.parametrize("size", [100, 50_000, 900_000])
def test_filling_a_disk_ends_at_the_reserve(
    tmpfs: Mount, copy: Copy, disk_mib: int, reserve_mib: int, size: int
) -> None:
    folder = tmpfs(f"size={disk_mib}m,nr_inodes=1000000")

    with pytest.raises(OSError, match="No space left"):
        fill(copy, folder, size)

    # The last file did not fit, and is gone again.
    assert free(folder) < reserve_mib * MIB + size + 65_536
    assert free(folder) > reserve_mib * MIB - 65_536


def test_filling_a_file_system_with_names_ends_while_some_are_left(tmpfs: Mount, copy: Copy) -> None:
    folder = tmpfs("size=100m,nr_inodes=5000")

    with pytest.raises(OSError, match="No file names left"):
        fill(copy, folder, 0)

    assert os.statvfs(folder).f_ffree == 7 + 1  # the last file did not fit, and is gone again


def test_another_file_system_below_the_same_mirror_is_looked_at_too(tmpfs: Mount, copy: Copy, tmp_path: Path) -> None:
    copy(tmp_path, 0)
    folder = tmpfs("size=1m")
    (folder / "full").write_bytes(bytes(1_000_000))

    with pytest.raises(OSError, match="No space left"):
        copy(folder, 1)


# Counts that make no sense --------------------------------------------------------------------------------------------


def test_a_server_without_a_single_name_left_that_takes_files_is_written_to(copy: Copy, tmp_path: Path) -> None:
    with memory_disk(tmp_path / "server", "noinodes") as folder:
        assert os.statvfs(folder).f_files > 0 == os.statvfs(folder).f_ffree

        fill(copy, folder, 10, 70)

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
def test_counts_that_nothing_changes_do_not_keep_files_out(copy: Copy, tmp_path: Path, counts: tuple[int, ...]) -> None:
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
        fill(copy, folder, 5000, 40)

        assert len(os.listdir(folder)) == 40


def test_the_last_names_of_a_disk_are_kept_by_an_honest_count(tmpfs: Mount, copy: Copy) -> None:
    folder = tmpfs("size=100m,nr_inodes=5")

    with pytest.raises(OSError, match="No file names left"):
        fill(copy, folder, 0, 10)

    assert not os.listdir(folder)
