"""Disks in files: with a file system on them, cut off from power, rotting, or failing to write."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.images import NO_SUCH_DISK
from tests.faults.matrix.scene import MIB
from tests.faults.rig import PATIENCE, until
from tests.faults.tampering import run

ANYTHING = ""
"""What keeps a device busy passes: others, or the kernel's own clearing up."""

_SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}
_OPTIONS = {"ext4": ("-F",), "xfs": ("-f",), "btrfs": ("-f", "-d", "single", "-m", "single")}


@contextmanager
def looped(file: Path) -> Iterator[str]:
    """Give a block device that is a file."""
    device = run("losetup", "--find", "--show", str(file), passing=ANYTHING).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device, passing=ANYTHING)


@contextmanager
def mounted(device: str, at: Path, *options: str) -> Iterator[Path]:
    """Mount, and have it really unmounted at the end."""
    at.mkdir(exist_ok=True)
    run("mount", *options, device, str(at), passing=ANYTHING)
    try:
        yield at
    finally:
        run("umount", str(at), passing=ANYTHING)


def power_cut(at: Path) -> None:
    """Cut a mounted file system off at this moment: what is not on its disk now never gets there."""
    run("xfs_io", "-x", "-c", "shutdown", str(at))


@dataclass(frozen=True)
class Disk:
    """A file system in a file."""

    image: Path
    kind: str

    @classmethod
    def made(cls, image: Path, kind: str, size: int = 0) -> "Disk":
        """Make it, empty."""
        image.touch()
        os.truncate(image, size or _SIZES[kind])
        run(f"mkfs.{kind}", "-q", *_OPTIONS[kind], str(image), passing=NO_SUCH_DISK)
        return cls(image, kind)

    @contextmanager
    def at(self, folder: Path) -> Iterator[Path]:
        """Mount it for a while."""
        with looped(self.image) as device, mounted(device, folder, "-t", self.kind):
            with suppress(FileNotFoundError):
                (folder / "lost+found").rmdir()
            yield folder

    def rot(self, content: bytes) -> None:
        """Flip a bit of a file with this content, while nobody has the disk mounted."""
        with self.image.open("r+b") as file:
            place = file.read().index(content[:4096])
            file.seek(place)
            file.write(bytes([content[0] ^ 1]))
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def failing(base: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Give a block device, and functions that make every write to it fail, and end that."""
    trigger, at = base / "trigger", base / "served"
    at.mkdir()
    errors = ("error-pwrite=EIO", "error-pwrite-rate=100%", f"error-pwrite-file={trigger}")
    server = ["nbdkit", "-s", "--filter=error", "memory", "64M", *errors]
    with subprocess.Popen(
        ["nbdfuse", str(at / "disk"), "--command", *server], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: (at / "disk").exists() or process.poll() is not None)
            assert process.poll() is None, process.args
            with looped(at / "disk") as device:
                try:
                    yield device, trigger.touch, lambda: trigger.unlink(missing_ok=True)
                finally:
                    trigger.unlink(missing_ok=True)
        finally:
            run("umount", str(at), passing=ANYTHING)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
