"""The folders a benchmark works in: a fresh one on a real file system, one on tmpfs, both gone at the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import machine, trees
from tests.bench.errors import BenchError
from tests.bench.works import Place, Source, Work

TMPFS = Path("/dev/shm")
BYTES_A_FILE = 8 * 1024
"""What a small file takes on a disk, with its share of folders and inodes, rounded up."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is copied: number of small files, bytes of the large file, timed runs of each tool."""

    files: int
    large: int
    runs: int


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
        return None

    def source(self, work: Work) -> Path:
        """Give the source of a work, grown the first time it is asked for."""
        root = self.folders[work.place] / "source" / work.source
        if not root.exists() and work.source is Source.LARGE:
            trees.grow_large(root, self.sizes.large)
        elif not root.exists():
            trees.grow(root, self.sizes.files)
        return root

    def mirror(self, work: Work, tool: str, run: int) -> Path:
        """Say where a tool's mirror is: the standing one, or where the work asks for it one for each run."""
        return self.folders[work.place] / (f"{work.name}-{run}" if work.fresh else "standing") / tool

    def logs(self, work: Work, tool: str) -> Path:
        """Say where a tool logs: on the file system of the mirror, so that they become durable together."""
        return self.folders[work.place] / "logs" / tool


def emptied(folder: Path) -> Path:
    """Make a folder, or make it anew, and give it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def opened(parent: Path, sizes: Sizes, tools: int) -> Iterator[Scratch]:
    """Make the scratch folders and remove them at the end, however that comes.

    Raises `BenchError` when the real file system has no room for the mirrors of all tools.
    """
    trees_on_disk = 1 + tools * (1 + 1 + sizes.runs)  # source; and for each tool standing mirror, check, timed runs
    needed = sizes.files * BYTES_A_FILE * trees_on_disk
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise BenchError(f"{parent} has {free:,} bytes free, {needed:,} are needed; name another folder by --scratch")
    with ExitStack() as stack:
        folders = {Place.DISK: Path(stack.enter_context(_folder_in(parent)))}
        missing = _why_no_tmpfs(2 * (sizes.files * BYTES_A_FILE + sizes.large))
        if missing is None:
            folders[Place.TMPFS] = Path(stack.enter_context(_folder_in(TMPFS)))
        yield Scratch(sizes, folders, {} if missing is None else {Place.TMPFS: missing})


def _folder_in(parent: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="truecopy-bench-", dir=parent)


def _why_no_tmpfs(needed: int) -> str | None:
    if not os.access(TMPFS, os.W_OK) or machine.file_system(TMPFS) != "tmpfs":
        return f"{TMPFS} is no tmpfs to write to"
    free = min(shutil.disk_usage(TMPFS).free, machine.memory_available())
    return f"{TMPFS} has {free:,} bytes to spare, {needed:,} are needed" if free < needed else None
