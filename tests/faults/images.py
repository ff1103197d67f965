"""Disks of the test's own: an image of a file system, mounted for a while."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.tampering import mounted

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-m", "0"),
    "btrfs": ("mkfs.btrfs", "-q", "--mixed"),
}


def make(image: Path, kind: str, size: int) -> None:
    """Make an image of so many bytes."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*MAKERS[kind], str(image)], check=True, capture_output=True)


@contextmanager
def disk(at: Path, kind: str, size: int) -> Iterator[Path]:
    """Mount a new disk of a kind, and forget it afterwards."""
    image = at.with_name(f"{at.name}.img")
    make(image, kind, size)
    with mounted(str(image), at, "-o", "loop"):
        with suppress(FileNotFoundError):
            (at / "lost+found").rmdir()
        yield at
    image.unlink()
