"""File systems of a test's own, each with what it can hold, and a job in them."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.images import NO_SUCH_DISK
from tests.faults.rig import Rig
from tests.faults.tampering import mounted, run
from tests.fidelity.scope import Scope
from tests.fidelity.variety import plant

MIB = 1 << 20
FAR = 200_000_000_000
"""Seconds, some six thousand years: for file systems that keep 64 bits of them."""

EVERYTHING: dict[str, Any] = {"specials": "recreate", "keep_setuid": True, "keep_security": True}
"""Options under which a mirror is to be as its source in everything that rsync knows of."""


def image(kind: str, *options: str) -> Callable[[Path, Scope], AbstractContextManager[Path]]:
    """Make a file system in a file, and mount it."""

    @contextmanager
    def at(base: Path, scope: Scope) -> Iterator[Path]:
        file = base / "image"
        file.touch()
        os.truncate(file, 400 * MIB)
        run(f"mkfs.{kind}", "-q", *options, str(file), passing=NO_SUCH_DISK)
        try:
            with mounted(str(file), base / "disk", "-o", "loop") as disk:
                yield _planted(disk, scope)
        finally:
            file.unlink()

    return at


@contextmanager
def memory(base: Path, scope: Scope) -> Iterator[Path]:
    """Mount a tmpfs. It has user attributes since Linux 6.6."""
    with mounted("tmpfs", base / "memory", "-t", "tmpfs", "-o", "size=1g") as disk:
        yield _planted(disk, scope)


@contextmanager
def overlay(base: Path, scope: Scope) -> Iterator[Path]:
    """Mount a source that lies in the lower layer: what changes is copied up, and may get another inode by that."""
    with memory(base, scope) as disk:
        (disk / "source").rename(disk / "lower")
        for name in ("upper", "work", "layers"):
            (disk / name).mkdir()
        (disk / "layers/lower").mkdir(parents=True)
        (disk / "lower").rename(disk / "layers/lower/source")
        layers = f"lowerdir={disk}/layers/lower,upperdir={disk}/upper,workdir={disk}/work"
        with mounted("overlay", base / "merged", "-t", "overlay", "-o", layers) as merged:
            yield merged


@contextmanager
def here(base: Path, scope: Scope) -> Iterator[Path]:
    """Work on whatever the folder for temporary files is on."""
    yield _planted(base, scope)


def _planted(base: Path, scope: Scope) -> Path:
    (base / "source").mkdir()
    plant(base / "source", scope)
    return base


@dataclass(frozen=True)
class System:
    """A file system for both sides."""

    at: Callable[[Path, Scope], AbstractContextManager[Path]]
    scope: Scope
    options: dict[str, Any] = field(default_factory=dict)
    tool: str = "mount"

    @contextmanager
    def pair(self, base: Path, workers: int) -> Iterator[Rig]:
        """Plant a tree, and configure a job that has so many workers, each of which may get any folder."""
        forced = {"workers": workers, "workers_from": 0 if workers > 1 else 1_000_000}
        with self.at(base, self.scope) as folder:
            yield Rig(folder, EVERYTHING | self.options | forced, finely=True)


_XFS = Scope(largest_attribute=60_000, longest_target=1000)
_WIDE = Scope(earliest=-FAR, latest=FAR, largest_attribute=12_000)

SYSTEMS = {
    "ext4": System(image("ext4", "-b", "4096"), Scope(), tool="mkfs.ext4"),
    "XFS": System(image("xfs"), _XFS, tool="mkfs.xfs"),
    "XFS with clones": System(image("xfs"), _XFS, {"reflink": True}, tool="mkfs.xfs"),
    "btrfs": System(image("btrfs"), _WIDE, tool="mkfs.btrfs"),
    "btrfs with clones": System(image("btrfs"), _WIDE, {"reflink": True}, tool="mkfs.btrfs"),
    "tmpfs": System(memory, _WIDE),
    "overlay": System(overlay, _WIDE),
}
