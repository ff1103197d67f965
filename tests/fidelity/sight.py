"""One folder of a source, and what there is of it in the mirror and in the index after a cycle."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from job.core.entry import Entry, join, printable
from job.store import codec
from job.store.codec import FOLDER, UnsupportedMetadata
from job.store.index import Index

KEPT, RECORDED, REFUSED, LOST = "kept", "recorded", "refused", "lost"
_BEST_FIRST = (KEPT, RECORDED, REFUSED, LOST)

Note = UnsupportedMetadata | Entry
"""What the index has of an entry of the source."""


@dataclass(frozen=True)
class Sight:
    """A folder to be judged."""

    source: Path
    mirror: Path
    path: bytes
    """Below the roots."""
    index: Index
    failed: frozenset[str]
    """What the job named as failed."""

    @cached_property
    def names(self) -> list[bytes]:
        return sorted(os.listdir(os.fsencode(self.source)))

    def here(self, name: bytes) -> Path:
        return self.source / os.fsdecode(name)

    def there(self, name: bytes) -> Path:
        return self.mirror / os.fsdecode(name)

    def held(self, name: bytes) -> os.stat_result | None:
        """Give what the mirror has under just that name; none if it lists no such name."""
        with suppress(FileNotFoundError):
            if name in os.listdir(os.fsencode(self.mirror)):
                return self.there(name).lstat()
        return None

    def notes(self, name: bytes) -> list[Note]:
        """Give what the index has of an entry."""
        if stat.S_ISDIR(self.here(name).lstat().st_mode):
            found: Note | None = codec.decode_unsupported(self.index.unsupported(join(self.path, name))).get(FOLDER)
            return [found] if found else []
        record = codec.decode_records(self.index.rows(self.path)).get(name)
        noted = codec.decode_unsupported(self.index.unsupported(self.path)).get(name)
        return [*([record.source] if record else []), *([noted] if noted else [])]

    def verdict(
        self,
        name: bytes,
        kept: Callable[[os.stat_result], bool],
        recorded: Callable[[Note], bool] = lambda _: False,
    ) -> str:
        """Judge one entry: `kept` is asked of what the mirror has, `recorded` of what the index has."""
        found = self.held(name)
        if found is not None and kept(found):
            return KEPT
        if any(recorded(note) for note in self.notes(name)):
            return RECORDED
        return REFUSED if found is None and printable(join(self.path, name)) in self.failed else LOST


def worst(verdicts: list[str]) -> str:
    """Give the verdict for several entries together."""
    return max(verdicts, key=_BEST_FIRST.index)
