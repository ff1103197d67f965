"""Disks that can be cut off, recorded, broken and unplugged: images with a file system, served and mounted."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.images import NO_SUCH_DISK
from tests.faults.processes import children
from tests.faults.rig import PATIENCE, ROOT, until
from tests.faults.tampering import NO_LOOP_DEVICE, run

MIB = 1 << 20


@dataclass(frozen=True)
class FileSystem:
    """A file system on an image."""

    name: str
    size: int
    make: tuple[str, ...]
    superblock: range
    """What it takes a disk to write as a whole."""
    options: str = "defaults"
    """It is mounted with while it is written to."""

    def format(self, image: Path) -> Path:
        """Make an empty one in a sparse file."""
        with image.open("wb") as file:
            file.truncate(self.size)
        run(*self.make, str(image), passing=NO_SUCH_DISK)
        return image


# The smallest that each of them takes; mkfs.xfs refuses less than 300 MiB. Sparse, so that a copy takes no time.
EXT4 = FileSystem(
    "ext4", 64 * MIB, ("mkfs.ext4", "-q", "-b", "4096", "-J", "size=4"), range(1024, 2048), "noauto_da_alloc"
)
XFS = FileSystem("xfs", 300 * MIB, ("mkfs.xfs", "-q"), range(512))
BTRFS = FileSystem("btrfs", 128 * MIB, ("mkfs.btrfs", "-q"), range(64 << 10, 68 << 10))

MOUNTED = [pytest.mark.needs_root]
SERVED = [pytest.mark.needs_root, pytest.mark.needs_tool("nbdkit"), pytest.mark.needs_tool("nbdfuse")]


def on(*systems: FileSystem) -> pytest.MarkDecorator:
    """Run a test on each of these."""
    return pytest.mark.parametrize(
        "system",
        [pytest.param(each, id=each.name, marks=pytest.mark.needs_tool(each.make[0])) for each in systems],
    )


@contextmanager
def memory(at: Path) -> Iterator[Path]:
    """Give a folder in memory for images: what is tried on them hundreds of times wears out no disk."""
    at.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", str(at))
    try:
        yield at
    finally:
        unmount(at)


@contextmanager
def plugged(image: Path, at: Path, options: str = "defaults") -> Iterator[Path]:
    """Mount an image for a while, on a loop device that goes with it."""
    at.mkdir(exist_ok=True)
    mount(image, at, options)
    try:
        yield at
    finally:
        unmount(at)


def mount(image: Path, at: Path, options: str = "defaults") -> None:
    """Mount an image. There are few loop devices, and others use some, too: it waits for one."""
    # Of two images of one btrfs the kernel would take the newer one to be the disk that it knows.
    with suppress(FileNotFoundError):
        subprocess.run(["btrfs", "device", "scan", "--forget"], capture_output=True, check=False)
    run("mount", "-o", f"loop,{options}", str(image), str(at), passing=NO_LOOP_DEVICE)


def unmount(at: Path) -> None:
    """Unmount, and wait until the kernel has let go of the image.

    A mount namespace that was made meanwhile, such as that of a container at its start, has a copy of the mount. Until
    it ends, the next mount of the same image would get the file system of the old one, with what it holds in memory.
    """
    deadline = time.monotonic() + PATIENCE
    image = _image_of(at)
    while (done := subprocess.run(["umount", at], capture_output=True, text=True, check=False)).returncode:
        if time.monotonic() > deadline:
            run("umount", "--lazy", str(at))
            raise AssertionError(done.stderr)
        time.sleep(0.05)
    while image is not None and image in _images():
        assert time.monotonic() < deadline, f"{image} is mounted in another namespace still"
        time.sleep(0.05)


def _image_of(at: Path) -> str | None:
    """Return the image that is mounted there, or None if none is."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4] == str(at) and (device := line.split(" - ")[1].split()[1]).startswith("/dev/loop"):
            return _backing_file(Path("/sys/block", Path(device).name))
    return None


def _images() -> set[str | None]:
    """Return the images of all loop devices."""
    return {_backing_file(device) for device in Path("/sys/block").glob("loop*")}


def _backing_file(device: Path) -> str | None:
    try:
        return (device / "loop/backing_file").read_text().strip()
    except FileNotFoundError:  # it has none by now
        return None


def is_mounted(at: Path) -> bool:
    """Tell whether something is mounted there, without asking it."""
    return f" {at} " in Path("/proc/self/mountinfo").read_text()


def cut_power(disk: Path) -> None:
    """Make everything on a mounted disk fail from now on; what is not on the disk by now never gets there."""
    run("xfs_io", "-x", "-c", "shutdown", str(disk))


@dataclass(frozen=True)
class Served:
    """An image served as a file by processes of its own."""

    file: Path
    """What can be mounted."""
    record: Path
    refuse: Path
    server: "subprocess.Popen[bytes]"

    @property
    def position(self) -> int:
        """How long the record is."""
        return self.record.stat().st_size

    def unplug(self) -> None:
        """Take the disk away."""
        kit = children(self.server.pid)
        self.server.kill()
        self.server.wait()
        for each in kit:
            with suppress(ProcessLookupError):
                os.kill(each, 9)


@contextmanager
def recorded(image: Path) -> Iterator[Served]:
    """Serve an image whose writes and flushes are recorded."""
    record, refuse = image.with_suffix(".record"), image.with_suffix(".refuse")
    plugin = str(Path(__file__).with_name("recorder.py"))
    record.touch()
    arguments = [f"image={image}", f"record={record}", f"refuse={refuse}"]
    with _served(image, ["python", plugin, *arguments], record, refuse) as served:
        yield served


@contextmanager
def failing(image: Path) -> Iterator[Served]:
    """Serve an image that refuses every write while there is a file `refuse`."""
    refuse = image.with_suffix(".refuse")
    arguments = [f"file={image}", "error-pwrite=EIO", "error-pwrite-rate=100%", f"error-file={refuse}"]
    with _served(image, ["--filter=error", "file", *arguments], Path(os.devnull), refuse) as served:
        yield served


@contextmanager
def _served(image: Path, kit: list[str], record: Path, refuse: Path) -> Iterator[Served]:
    file = image.with_suffix(".served")
    file.touch()
    command = ["nbdfuse", str(file), "[", "nbdkit", "--exit-with-parent", "--foreground", *kit, "]"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, env=env, stdout=sys.stderr, stderr=subprocess.STDOUT) as server:
        try:
            until(lambda: is_mounted(file) or server.poll() is not None)
            assert server.poll() is None, command
            yield Served(file, record, refuse, server)
        finally:
            if is_mounted(file):  # even if its server is dead
                unmount(file)
            server.wait(PATIENCE)
