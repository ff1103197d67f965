"""A full disk: versions are given up for copies, the oldest first, as long as that gives room, and are reported."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from job.core.outcome import Result
from job.core.record import FolderDone
from job.core.retention import FLOOR
from job.events.pair import FileFailed, VersionsGaveNothing, VersionsGivenUp
from tests.engine.test_expiry import DAY_NS, complete_since, contents, folders, rows, seconds
from tests.engine.workshop import HOUR_NS, Told, Workshop, assert_mirrored, with_index
from tests.faults.images import disk
from tests.faults.tampering import mounted, run

MIB = 1 << 20
pytestmark = pytest.mark.needs_root


@contextmanager
def small(shop: Workshop, kind: str, size: int) -> Iterator[Path]:
    """Put the mirror on a small disk of its own."""
    if kind == "tmpfs":
        with mounted("tmpfs", shop.mirror, "-t", "tmpfs", "-o", f"size={size}") as at:
            yield at
    else:
        with disk(shop.mirror, kind, size) as at:
            yield at


def replace(shop: Workshop, name: str, size: int) -> Told:
    """Replace a file by random bytes, an hour later."""
    shop.ahead_ns += HOUR_NS
    path = shop.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return shop.cycle()


def given_up(told: Told) -> list[str]:
    return [event.folder for event in told.of(VersionsGivenUp)]


@pytest.mark.parametrize("kind", ["tmpfs", "ext4", pytest.param("btrfs", marks=pytest.mark.needs_tool("mkfs.btrfs"))])
def test_the_oldest_versions_give_way_to_copies_and_the_cycles_succeed(shop: Workshop, kind: str) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, kind, 128 * MIB):
        tolds = [replace(shop, "file", 6 * MIB) for _ in range(30)]

        assert not [told.of(FileFailed) for told in tolds if told.result is not Result.SUCCESS]
        assert_mirrored(shop)
        up = [name for told in tolds for name in given_up(told)]
        assert up
        assert up == sorted(up)
        assert FLOOR <= len(folders(shop)) == 29 - len(up)
        assert len(rows(shop)) == len(folders(shop))
        assert complete_since(shop) == seconds(folders(shop)[0])
        assert not shop.temps


def test_a_file_that_fits_only_without_many_versions_takes_their_place(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, "ext4", 128 * MIB):
        for _ in range(12):
            replace(shop, "file", 5 * MIB)
        told = replace(shop, "large", 64 * MIB)

        assert told.result is Result.SUCCESS
        assert 3 <= len(given_up(told)) <= 6
        assert_mirrored(shop)


def test_a_file_that_fits_in_no_case_takes_no_version(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, "ext4", 128 * MIB):
        for _ in range(12):
            replace(shop, "file", 5 * MIB)
        told = replace(shop, "large", 150 * MIB)

        assert told.failed == {b"large": "no_space"}
        assert not given_up(told)
        assert len(folders(shop)) == 11


def test_the_newest_folders_and_what_the_mirror_does_not_hold_stay(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, "tmpfs", 64 * MIB):
        shop.write("gone/file", "only here")
        replace(shop, "first", 100)
        shutil.rmtree(shop.source / "gone")
        replace(shop, "gone", 5)
        for _ in range(FLOOR + 3):
            replace(shop, "file", 4 * MIB)
        told = replace(shop, "new", 40 * MIB)

        assert told.failed == {b"new": "no_space"} or len(folders(shop)) == FLOOR + 1
        assert contents(shop, "gone/file") == ["only here"]
        told = replace(shop, "new", 25 * MIB)
        assert told.result is Result.SUCCESS
        assert contents(shop, "gone/file") == ["only here"]
        assert len(folders(shop)) >= FLOOR + 1


def test_many_small_files_reclaim_again_and_again(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, "tmpfs", 32 * MIB):
        for _ in range(12):
            replace(shop, "file", 2 * MIB)
        for number in range(200):
            (shop.source / f"small {number}").write_bytes(os.urandom(30_000))
        told = replace(shop, "file", 2 * MIB)

        assert told.result is Result.SUCCESS
        assert len(given_up(told)) >= 2
        assert_mirrored(shop)


def test_versions_give_way_where_names_run_out(shop: Workshop) -> None:
    with mounted("tmpfs", shop.mirror, "-t", "tmpfs", "-o", "size=64m,nr_inodes=150"):
        for number in range(10):
            shop.write(f"file {number}", "first")
        shop.cycle()
        for cycle in range(14):
            shop.ahead_ns += HOUR_NS
            for number in range(10):
                shop.write(f"file {number}", f"{cycle}")
            told = shop.cycle()
            assert told.result is Result.SUCCESS, told.failed
        assert_mirrored(shop)
        assert len(folders(shop)) < 14


@pytest.mark.needs_tool("btrfs")
def test_where_a_snapshot_holds_the_space_two_folders_are_given_up_and_no_more(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, "btrfs", 160 * MIB):
        for _ in range(16):
            replace(shop, "file", 5 * MIB)
        run("btrfs", "subvolume", "snapshot", "-r", str(shop.mirror), str(shop.mirror / "snapshot"))
        told = replace(shop, "large", 75 * MIB)

        assert told.failed == {b"large": "no_space"}
        assert len(given_up(told)) == 2
        [nothing] = told.of(VersionsGaveNothing)
        assert (nothing.files, nothing.bytes) == (2, 10 * MIB)


def test_versions_that_are_off_are_not_given_up(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    with small(shop, "tmpfs", 64 * MIB):
        for _ in range(10):
            replace(shop, "file", 4 * MIB)
        shop.options = {"versions": False}
        told = replace(shop, "large", 30 * MIB)

        assert told.failed == {b"large": "no_space"}
        assert len(folders(shop)) == 9


def test_a_commit_of_the_index_without_room_is_tried_again(shop: Workshop) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    errors = iter([OSError(errno.ENOSPC, "the index could not be written")])

    def fail_once(_: list[FolderDone]) -> None:
        if error := next(errors, None):
            raise error

    with small(shop, "tmpfs", 64 * MIB):
        for _ in range(FLOOR + 4):
            replace(shop, "file", MIB)
        (shop.mirror / ".truecopy/filler").write_bytes(bytes(50 * MIB))
        shop.ahead_ns += HOUR_NS
        shop.write("file", "")
        told = shop.cycle(with_index(fail_once))

        assert told.result is Result.SUCCESS
        assert len(given_up(told)) == 1
        assert len(rows(shop)) == len(folders(shop)) == FLOOR + 3


# Disks without a free byte or name ------------------------------------------------------------------------------------


def fill(folder: Path) -> None:
    """Leave not a byte, nor a name, on a disk."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(MIB))
    for size in (4096, 0):
        with suppress(OSError):
            for number in count():
                (folder / f"filler {size} {number}").write_bytes(bytes(size))
    os.sync()


@pytest.mark.parametrize("kind", ["ext4", pytest.param("btrfs", marks=pytest.mark.needs_tool("mkfs.btrfs"))])
@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_versions_expire_on_a_disk_without_a_free_byte_or_name(shop: Workshop, kind: str, state: str) -> None:
    shop.options = {"sleep_time": 86400}
    if state == "elsewhere":
        shop.options["state_dir"] = str(shop.base / "state")
    with small(shop, kind, 64 * MIB if kind == "btrfs" else 24 * MIB):
        for number in range(FLOOR + 10):
            shop.write("file", f"{number}")
            shop.write("folder/file", f"{number}" * 5000)
            shop.cycle()
            shop.ahead_ns += DAY_NS
        assert shop.cycle().result is Result.SUCCESS
        (shop.mirror / ".truecopy/filler").mkdir()
        fill(shop.mirror / ".truecopy/filler")
        left = len(folders(shop))
        shop.ahead_ns += 20 * DAY_NS

        tolds = []
        for _ in range(24):
            shop.ahead_ns += DAY_NS
            tolds.append(shop.cycle())

        assert {told.result for told in tolds} == {Result.SUCCESS}
        assert left == FLOOR + 9
        assert len(folders(shop)) == FLOOR
        assert contents(shop) == [f"{number}" for number in range(9, FLOOR + 9)]
        shutil.rmtree(shop.mirror / ".truecopy/filler")
        assert replace(shop, "file", 1000).result is Result.SUCCESS
        assert_mirrored(shop)


@pytest.mark.parametrize("kind", ["ext4", pytest.param("btrfs", marks=pytest.mark.needs_tool("mkfs.btrfs"))])
def test_copies_get_room_on_a_disk_without_a_free_byte_or_name(shop: Workshop, kind: str) -> None:
    shop.options = {"versions": {"most": "100 %"}}
    size = 160 * MIB if kind == "btrfs" else 64 * MIB
    with small(shop, kind, size):
        for _ in range(FLOOR + 6):
            replace(shop, "file", size // 40)
        (shop.mirror / ".truecopy/filler").mkdir()
        fill(shop.mirror / ".truecopy/filler")

        told = replace(shop, "file", 1000)

        assert told.result is Result.SUCCESS, told.failed
        assert given_up(told)
        assert len(folders(shop)) >= FLOOR
        assert_mirrored(shop)
