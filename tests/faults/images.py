"""Disks of the test's own: an image of a file system, mounted for a while.

Others make and take away disks at the same time, so what fails because of that is tried again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.tampering import mounted, run

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-m", "0"),
    "btrfs": ("mkfs.btrfs", "-q", "--mixed"),
    "xfs": ("mkfs.xfs", "-q"),
}
NO_SUCH_DISK = "cannot check mount status"
"""What mkfs.btrfs says, which looks at every disk there is, where somebody else's goes away meanwhile."""


def make(image: Path, kind: str, size: int) -> None:
    """Make an image of so many bytes."""
    with image.open("wb") as file:
        file.truncate(size)
    run(*MAKERS[kind], str(image), passing=NO_SUCH_DISK)


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
