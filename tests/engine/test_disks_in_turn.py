"""Disks that take turns at one path with the state elsewhere, and disks that come back by another device."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from job.core.outcome import Refusal, Result
from job.engine.preflight.adopt import adopt
from job.events.pair import IndexRebuilt, PairRefused
from job.fs.mounts import file_system_type
from tests.engine.workshop import Workshop, assert_mirrored
from tests.faults.images import NO_SUCH_DISK
from tests.faults.tampering import run
from tests.fidelity import foreign
from tests.memory_disks import memory_disk

pytestmark = pytest.mark.needs_root

Plugged = Callable[[str], AbstractContextManager[Path]]
"""Mounts the disk of such a name as the mirror."""

EXT4 = pytest.param("ext4", id="ext4")
XFS = pytest.param("xfs", id="xfs", marks=pytest.mark.needs_tool("mkfs.xfs"))
BTRFS = pytest.param("btrfs", id="btrfs", marks=pytest.mark.needs_tool("mkfs.btrfs"))
EXFAT = pytest.param("exfat", id="exfat", marks=foreign.EXFAT)


@contextmanager
def native(at: Path, image: Path, kind: str) -> Iterator[Path]:
    """Mount a disk of one of Linux's own kinds, made at its first use, by whatever loop device is free."""
    made = image.exists()
    if not made:
        run("truncate", "-s", "400M", str(image))
    device = run("losetup", "--find", "--show", str(image)).strip()
    try:
        if not made:
            run(f"mkfs.{kind}", "-q", device, passing=NO_SUCH_DISK)
        run("mount", device, str(at))
        try:
            yield at
        finally:
            run("umount", str(at))
    finally:
        run("losetup", "--detach", device)


@pytest.fixture(params=[EXT4, XFS, BTRFS, EXFAT])
def plugged(shop: Workshop, tmp_path: Path, request: pytest.FixtureRequest) -> Plugged:
    """A pair with its state elsewhere, whose mirror is on whatever disk is mounted there."""
    shop.options |= {"state_dir": str(tmp_path / "state"), "audit_interval": "1h", "exclude": ["/lost+found"]}
    kind = request.param
    mount = foreign.exfat if kind == "exfat" else partial(native, kind=kind)
    return lambda name: mount(shop.mirror, tmp_path / f"{name}.img")


def adopted(shop: Workshop) -> None:
    """Adopt what is mounted, as a person does at the first use of each disk."""
    adopt(shop.pair, shop.config.state_dir, shop.memory, 1.0)


def is_exfat(shop: Workshop) -> bool:
    return file_system_type(shop.mirror.stat().st_dev).startswith(("exfat", "fuse"))


def rewrite(path: Path, content: str) -> None:
    """Change a content, but neither its size nor its time."""
    seen = path.stat()
    path.write_text(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_a_disk_with_old_content_of_the_same_size_and_time_is_brought_up_to_date(
    shop: Workshop, plugged: Plugged
) -> None:
    path = shop.write("d/file", "version 1")
    os.utime(path, (1_400_000_000, 1_400_000_000))
    for name in ("A", "B"):
        with plugged(name):
            adopted(shop)
            assert shop.cycle().result is Result.SUCCESS
    rewrite(path, "version 2")
    with plugged("A"):
        assert shop.cycle().result is Result.SUCCESS
        assert (shop.mirror / "d/file").read_text() == "version 2"

    with plugged("B"):
        told = shop.cycle()

        assert told.result is Result.SUCCESS
        assert (shop.mirror / "d/file").read_text() == "version 2"
        assert told.drift == {}
        # exFAT has nothing to know it by when it comes back: its own index is not believed.
        rebuilt = ["another file system is mounted than the one that it was made for"] if is_exfat(shop) else []
        assert [event.reason for event in told.of(IndexRebuilt)] == rebuilt


def test_one_disk_that_comes_back_by_another_device_is_not_copied_again(shop: Workshop, plugged: Plugged) -> None:
    shop.write("d/file")
    shop.write("file", "more")
    with plugged("A"):
        first = shop.cycle()
    run("truncate", "-s", "1M", str(shop.base / "in the way"))
    taken = run("losetup", "--find", "--show", str(shop.base / "in the way")).strip()
    try:
        with plugged("A"):
            told = shop.cycle()
            again = shop.cycle()
    finally:
        run("losetup", "--detach", taken)

    assert first.tally.copied == 2
    assert told.result is again.result is Result.SUCCESS
    assert told.tally.copied == told.tally.updated == again.tally.copied == 0
    assert told.drift == again.drift == {}


def test_a_disk_that_is_known_by_its_uuid_is_believed_and_audited_when_it_comes_back(
    shop: Workshop, tmp_path: Path
) -> None:
    shop.options |= {"state_dir": str(tmp_path / "state"), "audit_interval": "1h"}
    shop.write("file")
    image = tmp_path / "disk.img"
    with native(shop.mirror, image, "ext4"):
        (shop.mirror / "lost+found").rmdir()
        shop.cycle()
    run("truncate", "-s", "1M", str(shop.base / "in the way"))
    first, second = (run("losetup", "--find", "--show", str(shop.base / "in the way")).strip() for _ in range(2))
    try:
        with native(shop.mirror, image, "ext4"):
            (shop.mirror / "file").chmod(0o600)  # which no folder's time tells

            told = shop.cycle()
    finally:
        subprocess.run(["losetup", "--detach", first, second], check=True)

    assert told.of(IndexRebuilt) == []
    assert told.tally.updated == 1


def test_two_servers_that_take_turns_are_told_apart_while_both_are_mounted(shop: Workshop, tmp_path: Path) -> None:
    shop.options |= {"state_dir": str(tmp_path / "state"), "audit_interval": "1h"}
    path = shop.write("d/file", "version 1")
    os.utime(path, (1_400_000_000, 1_400_000_000))
    with memory_disk(tmp_path / "A", "fat") as one, memory_disk(tmp_path / "B", "fat") as other:

        @contextmanager
        def plugged(disk: Path) -> Iterator[None]:
            run("mount", "--bind", str(disk), str(shop.mirror))
            try:
                yield
            finally:
                run("umount", str(shop.mirror))

        for each in (one, other):
            with plugged(each):
                adopted(shop)
                shop.cycle()
        rewrite(path, "version 2")
        for each in (one, other):
            with plugged(each):
                assert shop.cycle().result is Result.SUCCESS
                assert (shop.mirror / "d/file").read_text() == "version 2"


def test_a_plan_goes_by_the_index_of_the_disk_that_is_there(shop: Workshop, plugged: Plugged) -> None:
    path = shop.write("d/file", "version 1")
    os.utime(path, (1_400_000_000, 1_400_000_000))
    for name in ("A", "B"):
        with plugged(name):
            adopted(shop)
            shop.cycle()
            rewrite(path, "version 2")

    planned = {}
    for name in ("A", "B"):
        with plugged(name):
            planned[name] = {step.path: step.action for step in shop.plan()}
    with plugged("B"):
        shop.cycle()
        planned["B again"] = {step.path: step.action for step in shop.plan()}

    assert b"d/file" in planned["A"]
    assert b"d/file" in planned["B"]
    assert planned["B again"] == {}


def test_a_disk_that_was_never_adopted_is_refused_and_stays_empty(shop: Workshop, plugged: Plugged) -> None:
    shop.write("file")
    with plugged("A"):
        shop.cycle()

    with plugged("B"):
        told = shop.cycle()

        [refused] = told.of(PairRefused)
        assert (told.result, refused.reason) == (Result.REFUSED, Refusal.MIRROR_MISSING)
        assert shop.names() <= {"lost+found"}


def test_an_index_that_was_taken_along_to_another_disk_is_not_believed(shop: Workshop, tmp_path: Path) -> None:
    path = shop.write("file", "version 2")
    shop.cycle()
    (tmp_path / "mount").mkdir()
    with native(tmp_path / "mount", tmp_path / "new.img", "ext4") as at:
        subprocess.run(["cp", "-a", f"{shop.mirror}/.", at], check=True)
        rewrite(at / "file", "version 1")
        run("mount", "--bind", str(at), str(shop.mirror))
        try:
            told = shop.cycle()

            assert told.result is Result.SUCCESS
            assert (shop.mirror / "file").read_text() == path.read_text()
            assert len(told.of(IndexRebuilt)) == 1
        finally:
            run("umount", str(shop.mirror))
    assert_mirrored(shop)
