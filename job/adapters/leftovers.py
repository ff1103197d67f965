"""Leftovers: the mirror folders in which a killed run may have left temps, noted before the first temp is made there.

One small file in the state folder. It is not synced: after a power cut a temp may stay that no note speaks of, in a
folder that left the source since; everywhere else the next visit of the folder sweeps.
"""

import os
from contextlib import suppress

from job.files.atomic import write_all

FILE_NAME = b"leftovers"
_END = b"\0"
_MOST_BYTES = 64 << 20


class Leftovers:
    """Notes of one mirror, by an open state folder."""

    def __init__(self, state: int) -> None:
        self._state = state

    def note(self, path: bytes) -> None:
        """Note a folder, by its path below the root. Raises `OSError`."""
        descriptor = self._open(os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            write_all(descriptor, path + _END)
        finally:
            os.close(descriptor)

    def noted(self) -> list[bytes]:
        """Give the noted folders; none where nothing was left. Raises `OSError`."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return []
        with open(descriptor, "rb") as file:
            return file.read(_MOST_BYTES).split(_END)[:-1]

    def clear(self) -> None:
        """Forget all notes: no temp is left. Raises `OSError`."""
        with suppress(FileNotFoundError):
            os.unlink(FILE_NAME, dir_fd=self._state)

    def _open(self, flags: int) -> int:
        return os.open(FILE_NAME, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self._state)
