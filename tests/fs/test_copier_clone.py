"""Clones: where the file system shares blocks, nothing is written, and the checksum is still of what was read."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.fs.copier import Copier
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from tests.faults.tampering import mounted

TEMP = b".truecopy-tmp-1"
MIB = 1 << 20


@pytest.fixture(params=["xfs", "btrfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that can clone."""
    image, at = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 400 * MIB)
    subprocess.run([f"mkfs.{request.param}", "-q", str(image)], check=True, capture_output=True)
    at.mkdir()
    with mounted(str(image), at, "-o", "loop"):
        yield at


@pytest.fixture
def folders(disk: Path) -> tuple[Path, Path, bytes]:
    """A file, the folder it is to be copied to, and its content."""
    source, mirror, content = disk / "file", disk / "mirror", os.urandom(32 * MIB)
    source.write_bytes(content)
    mirror.mkdir()
    return source, mirror, content


def used(disk: Path) -> int:
    os.sync()
    seen = os.statvfs(disk)
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize


def copied(source: Path, mirror: Path, *, reflink: bool) -> str:
    copier = Copier("sha256", MetadataWriter(), lambda _: None, sync_each=False, reflink=reflink)
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source.parent, mirror)]
    try:
        listed = entry_of(os.fsencode(source.name), source.lstat())
        return copier.copy(listed, folders[0], folders[1], TEMP).checksum
    finally:
        for folder in folders:
            os.close(folder)


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.xfs")
@pytest.mark.needs_tool("mkfs.btrfs")
def test_a_clone_takes_no_room_and_has_the_checksum_of_its_source(
    disk: Path, folders: tuple[Path, Path, bytes]
) -> None:
    source, mirror, content = folders
    before = used(disk)

    checksum = copied(source, mirror, reflink=True)

    assert checksum == "sha256:" + hashlib.sha256(content).hexdigest()
    assert used(disk) - before < MIB
    assert (mirror / os.fsdecode(TEMP)).read_bytes() == content


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.xfs")
@pytest.mark.needs_tool("mkfs.btrfs")
def test_without_the_option_every_copy_has_its_own_blocks(disk: Path, folders: tuple[Path, Path, bytes]) -> None:
    source, mirror, _ = folders
    before = used(disk)

    copied(source, mirror, reflink=False)

    assert used(disk) - before >= 32 * MIB


def test_where_nothing_can_be_cloned_it_is_copied(tmp_path: Path) -> None:
    source, mirror = tmp_path / "file", tmp_path / "mirror"
    mirror.mkdir()
    content = os.urandom(300_000)
    source.write_bytes(content)

    checksum = copied(source, mirror, reflink=True)

    assert checksum == "sha256:" + hashlib.sha256(content).hexdigest()
    assert (mirror / os.fsdecode(TEMP)).read_bytes() == content
