"""Recall: what of the index goes along with an errand, so that nobody who is out has to ask for it."""

from job.core.capabilities import Capabilities
from job.tasks.bench import Memory


class Recall:
    """Looks up what is known of a folder's entries, for those who are sent there. Everything raises `OSError`."""

    def __init__(self, memory: Memory, mirror: Capabilities) -> None:
        self.memory = memory
        self._holds_all = mirror.symlinks and mirror.fifos and mirror.devices and mirror.keeps_metadata

    def rows(self, path: bytes, part: int = 0) -> str:
        """Give the records of a folder, or one part of it."""
        return self.memory.rows(path, part)

    def noted(self, path: bytes, part: int = 0) -> str:
        """Give what is noted because the mirror cannot hold it; a mirror that holds everything is not asked for."""
        return "" if self._holds_all else self.memory.unheld(path, part)
