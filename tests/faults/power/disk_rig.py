"""A rig whose mirror lies on a disk of its own, in a folder of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.power.disks import plugged
from tests.faults.rig import Rig


class DiskRig(Rig):
    """A pair of which the mirror is there while its disk is plugged in."""

    prefix: Sequence[str] = ()
    """Goes before each command, as `strace` does."""

    def __post_init__(self) -> None:
        self.finely = True
        super().__post_init__()
        self.mirror.rmdir()
        self.disk = self.base / "disk"
        self.mirror = self.disk / "mirror"
        self.configure(**self.options)

    @property
    def memory(self) -> Path:
        """What is remembered of the mirror, on a disk that is not cut off."""
        return self.base / "memory"

    def command(self, *arguments: str, prefix: Sequence[str] = ()) -> list[str]:
        return super().command(*arguments, prefix=[*self.prefix, *prefix])

    @contextmanager
    def on(self, image: Path, options: str = "defaults") -> Iterator[None]:
        """Plug a disk in for a while."""
        with plugged(image, self.disk, options):
            self.mirror.mkdir(exist_ok=True)
            yield

    @property
    def amiss(self) -> set[bytes]:
        """Paths of the source that the mirror does not hold just so, with those that share a file and do not there."""
        mirrored, wanted = self.mirrored, self.wanted
        unequal = {path for path, thing in wanted.items() if mirrored.get(path) != thing}
        return unequal | {b" and ".join(names) for names in _shared(self.source) - _shared(self.mirror)}


def _shared(root: Path) -> set[tuple[bytes, ...]]:
    """Give the names of each file that has several, below a root."""
    names: dict[int, list[bytes]] = {}
    for each in sorted(root.rglob("*")):
        if each.is_file() and not each.is_symlink() and each.stat().st_nlink > 1:
            names.setdefault(each.stat().st_ino, []).append(str(each.relative_to(root)).encode())
    return {tuple(each) for each in names.values()}
