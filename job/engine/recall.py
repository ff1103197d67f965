"""Recall: what of the index goes along with an errand, so that nobody who is out has to ask for it."""

from collections.abc import Iterable

from job.core.capabilities import Capabilities
from job.engine.context import Memory


class Recall:
    """Looks up what is known of a folder's entries, for those who are sent there. Everything raises `OSError`."""

    def __init__(self, memory: Memory, mirrors: Iterable[Capabilities]) -> None:
        """`mirrors` is what each file system of the mirror can hold."""
        self.memory = memory
        self._holds_all = all(
            each.symlinks and each.symlink_metadata and each.fifos and each.devices and each.keeps_metadata
            for each in mirrors
        )

    def rows(self, path: bytes, part: int = 0) -> str:
        """Give the records of a folder, or one part of it."""
        return self.memory.rows(path, part)

    def noted(self, path: bytes, part: int = 0) -> str:
        """Give what is noted because the mirror cannot hold it; a mirror that holds everything is not asked for."""
        return "" if self._holds_all else self.memory.unheld(path, part)
