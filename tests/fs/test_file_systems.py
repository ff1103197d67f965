"""The file systems of a mirror, and what tells one from another."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from job.core.file_systems import FileSystemId
from job.fs import mounts
from job.fs.mounts import FileSystem, identity_of, mount_of
from tests.faults.tampering import mounted, run
from tests.fidelity import foreign
from tests.memory_disks import memory_disk

MIB = 1 << 20


def listed(folder: Path) -> list[FileSystem]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return mounts.file_systems(descriptor)
    finally:
        os.close(descriptor)


def identity(folder: Path) -> FileSystemId:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return identity_of(descriptor, mount_of(descriptor))
    finally:
        os.close(descriptor)


def test_an_ordinary_mirror_is_one_file_system(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    [own] = listed(tmp_path)

    assert own.point == b""
    assert own == listed(tmp_path / "folder")[0]


@pytest.mark.needs_root
def test_what_is_mounted_below_is_listed_parents_first_and_what_belongs_to_it_is_not(tmp_path: Path) -> None:
    with ExitStack() as undo:
        outer = undo.enter_context(mounted("tmpfs", tmp_path / "mirror" / "b c", "-t", "tmpfs"))
        undo.enter_context(mounted("tmpfs", outer / "inner", "-t", "tmpfs"))
        undo.enter_context(memory_disk(tmp_path / "mirror" / "a"))
        (tmp_path / "elsewhere").mkdir()
        undo.enter_context(mounted(str(tmp_path / "elsewhere"), tmp_path / "mirror" / "same disk", "--bind"))
        file = tmp_path / "mirror" / "file"
        file.touch()
        run("mount", "--bind", str(tmp_path / "elsewhere" / "..") + "/mirror/file", str(file))
        undo.callback(run, "umount", str(file))

        found = {each.point: each.type for each in listed(tmp_path / "mirror")}

        assert list(found)[1:] == [b"a", b"b c", b"b c/inner"]
        assert list(found.values())[1:] == ["fuse.memfs", "tmpfs", "tmpfs"]


@contextmanager
def attached(image: Path) -> Iterator[str]:
    device = run("losetup", "--find", "--show", str(image)).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs"])
def test_a_disk_of_linux_proves_what_it_is_by_whatever_device(tmp_path: Path, kind: str) -> None:
    images = [tmp_path / "one", tmp_path / "two"]
    for image in images:
        run("truncate", "-s", "400M", str(image))
        run(f"mkfs.{kind}", "-q", str(image), passing="cannot check mount status")
    found: list[FileSystemId] = []
    for image in (*images, images[0]):
        with ExitStack() as undo:
            if len(found) == 2:
                run("truncate", "-s", "1M", str(tmp_path / "filler"))
                undo.enter_context(attached(tmp_path / "filler"))
            device = undo.enter_context(attached(image))
            undo.enter_context(mounted(device, tmp_path / "at"))
            found.append(identity(tmp_path / "at"))

    one, two, again = found
    assert "" not in (one.proof, two.proof)
    assert one.proof != two.proof
    assert again.proof == one.proof


@pytest.mark.parametrize("_", [pytest.param(0, marks=foreign.EXFAT)])
def test_exfat_disks_that_take_turns_at_one_device_differ(tmp_path: Path, _: int) -> None:
    found = []
    for name in ("one", "two"):
        with foreign.exfat(tmp_path / "at", tmp_path / name):
            found.append(identity(tmp_path / "at"))
            assert identity(tmp_path / "at") == found[-1]

    assert found[0] != found[1]


@pytest.mark.needs_root
def test_two_in_memory_differ_although_they_get_the_same_device_number(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        with mounted("tmpfs", tmp_path / "at", "-t", "tmpfs"):
            found.append(identity(tmp_path / "at"))

    assert found[0] != found[1]


@pytest.mark.parametrize("source", ["host:/export", "user@host:", "//server/share", "remote:bucket", "[fe80::1]:/x"])
def test_a_server_and_its_folder_are_an_address(source: str) -> None:
    assert mounts._is_address(source)


@pytest.mark.parametrize("source", ["/dev/sdb1", "/mnt/a:/mnt/b", "tmpfs", ""])
def test_devices_and_folders_here_are_no_address(source: str) -> None:
    assert not mounts._is_address(source)


def test_a_number_that_is_made_of_the_device_number_proves_nothing() -> None:
    for major, minor in ((8, 17), (259, 300), (7, 1)):
        device = os.makedev(major, minor)
        encoded = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)

        assert mounts._stable_id(encoded, device) == ""
        assert mounts._stable_id(0, device) == ""
        assert mounts._stable_id(0x6F4224F05528C08F, device) != ""
