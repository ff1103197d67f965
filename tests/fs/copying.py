"""Two open folders and a copier between them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from job.core.entry import Entry
from job.core.record import Compared, Copied
from job.fs.copier import Copier
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter

TEMP = b".truecopy-tmp-1"


@dataclass
class CopyRig:
    """Two open folders, and what is told of every chunk."""

    source: Path
    mirror: Path
    source_folder: int
    mirror_folder: int
    chunk_done: Callable[[int], object] = bool

    def _chunk_done(self, count: int) -> None:
        self.chunk_done(count)

    def copier(self, algorithm: str = "sha256", *, sync_each: bool = False) -> Copier:
        return Copier(algorithm, MetadataWriter(), self._chunk_done, sync_each=sync_each)

    def listed(self, name: str = "file") -> Entry:
        return entry_of(os.fsencode(name), (self.source / name).lstat())

    def mirrored(self, name: str = "file") -> Entry:
        return entry_of(os.fsencode(name), (self.mirror / name).lstat())

    def compare(self) -> Compared:
        return self.copier().compare(self.listed(), self.source_folder, self.mirrored(), self.mirror_folder)

    def copy(self, listed: Entry | None = None, algorithm: str = "sha256") -> Copied:
        listed = listed or self.listed()
        return self.copier(algorithm).copy(listed, self.source_folder, self.mirror_folder, TEMP)

    @property
    def temp(self) -> Path:
        return self.mirror / os.fsdecode(TEMP)

    @property
    def left_over(self) -> list[str]:
        return [each.name for each in self.mirror.iterdir()]
