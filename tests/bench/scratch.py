"""The folders a benchmark works in: a fresh one on a real file system, one on tmpfs, both gone at the end."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import machine, trees
from tests.bench.errors import BenchError
from tests.bench.works import Place, Source, Work

TMPFS = Path("/dev/shm")
REAL_UP_TO = 200_000
"""Number of files up to which they have the sizes of real ones; a larger tree is looked at and never read."""
BYTES_A_FILE = 24 * 1024
BYTES_A_TINY_FILE = 5 * 1024
"""What a small file takes on a disk, with its share of folders and inodes, rounded up."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is copied: number of small files, bytes of the large file, timed runs of each tool."""

    files: int
    large: int
    runs: int
    guest_runs: int = 2

    @property
    def tiny(self) -> bool:
        """Whether the small files are tiny."""
        return self.files > REAL_UP_TO

    @property
    def tree_bytes(self) -> int:
        """How much room the tree of small files takes, rounded up."""
        return self.files * (BYTES_A_TINY_FILE if self.tiny else BYTES_A_FILE)

    def of(self, work: Work) -> int:
        """Give what counts for a work: the number of small files, or the bytes of the large one."""
        return self.large if work.source is Source.LARGE else self.files


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where things lie. A place that cannot be used has a reason instead of a folder."""

    sizes: Sizes
    folders: Mapping[Place, Path]
    missing: Mapping[Place, str] = field(default_factory=dict)

    def obstacle(self, work: Work) -> str | None:
        """Say why a work cannot be done here; None if it can."""
        if work.place in self.missing:
            return self.missing[work.place]
        if work.durable and machine.file_system(self.folders[work.place]) == "tmpfs":
            return "the scratch folder is on tmpfs, where nothing is durable; name another by --scratch"
        if work.place is Place.TMPFS:
            return self._why_no_room(work)
        return None

    def source(self, work: Work) -> Path:
        """Give the source of a work, grown the first time it is asked for."""
        root = self._source(work)
        if not root.exists() and work.source is Source.LARGE:
            trees.grow_large(root, self.sizes.large)
        elif not root.exists():
            trees.grow(root, self.sizes.files, tiny=self.sizes.tiny)
        return root

    def mirror(self, work: Work, tool: str, run: int) -> Path:
        """Say where a tool's mirror is: the standing one, or where the work asks for it one for each run."""
        return self.folders[work.place] / (f"{work.name}-{run}" if work.fresh else "standing") / tool

    def logs(self, work: Work, tool: str) -> Path:
        """Say where a tool logs: on the file system of the mirror, so that they become durable together."""
        return self.folders[work.place] / "logs" / tool

    def drop_source(self, work: Work) -> None:
        """Remove the source of a work; the next that needs it grows it anew."""
        removed(self._source(work))

    def _source(self, work: Work) -> Path:
        return self.folders[work.place] / "source" / work.source

    def _why_no_room(self, work: Work) -> str | None:
        trees_needed = 1 if self._source(work).exists() else 2
        needed = trees_needed * (self.sizes.large if work.source is Source.LARGE else self.sizes.tree_bytes)
        free = min(shutil.disk_usage(self.folders[work.place]).free, machine.memory_available())
        return f"{TMPFS} has {free:,} bytes to spare, {needed:,} are needed" if free < needed else None


def emptied(folder: Path) -> Path:
    """Make a folder, or make it anew, and give it."""
    removed(folder)
    folder.mkdir(parents=True)
    return folder


def removed(folder: Path) -> None:
    """Remove a folder with all it holds, if it is there: millions of files, so by a program made for it."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], check=True)


@contextmanager
def opened(parent: Path, needed: int) -> Iterator[dict[Place, Path]]:
    """Make the scratch folders, of which that on tmpfs may be missing, and remove them at the end, however that comes.

    Raises `BenchError` when the real file system has no room for so many bytes.
    """
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise BenchError(f"{parent} has {free:,} bytes free, {needed:,} are needed; name another folder by --scratch")
    with ExitStack() as stack:
        folders = {Place.DISK: stack.enter_context(_folder_in(parent))}
        if os.access(TMPFS, os.W_OK) and machine.file_system(TMPFS) == "tmpfs":
            folders[Place.TMPFS] = stack.enter_context(_folder_in(TMPFS))
        yield folders


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="truecopy-bench-", dir=parent))
    try:
        yield folder
    finally:
        removed(folder)
        # Freed inodes whose blocks are written are passed over for one more minute, the others for six.
        subprocess.run(["sync", "-f", parent], check=True)
