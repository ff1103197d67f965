"""Leftovers: the mirror folders in which a killed run may have left temps, noted before the first temp is made there.

A small file in the state folder for each worker process, so that one can forget its notes while others go on. They are
not synced: after a power cut a temp may stay that no note speaks of, in a folder that left the source since; everywhere
else the next visit of the folder sweeps.
"""

import os
import re
from contextlib import suppress

from job.fs.large_dir import names_in
from job.fs.private import open_file
from job.fs.small_files import write_all

FILE_NAME = "leftovers"
_A_NAME = re.compile(FILE_NAME + r"(-[1-9][0-9]{0,3})?")
_END = b"\0"
_MOST_BYTES = 64 << 20


class Leftovers:
    """Notes of one mirror, by an open state folder. `slot` tells workers apart; 0 is the main process."""

    def __init__(self, state: int, slot: int = 0) -> None:
        self._state = state
        self._name = f"{FILE_NAME}-{slot}" if slot else FILE_NAME
        self._file: int | None = None

    def note(self, path: bytes) -> None:
        """Note a folder, by its path below the root. Raises `OSError`."""
        if self._file is None:
            self._file = open_file(self._name, self._state, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write_all(self._file, path + _END)

    def noted(self) -> list[bytes]:
        """Give the folders noted by whichever worker; none where nothing was left. Raises `OSError`."""
        found: list[bytes] = []
        room = _MOST_BYTES
        for name in self._all():
            with suppress(FileNotFoundError), open(open_file(name, self._state, os.O_RDONLY), "rb") as file:
                text = file.read(room)
                found += text.split(_END)[:-1]  # what follows the last end was cut off in mid-write
                room -= len(text)
        return found

    def clear(self) -> None:
        """Forget this worker's notes: no temp of its own is left. Raises `OSError`."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._state)

    def clear_all(self) -> None:
        """Forget the notes of all workers, none of which is at work. Raises `OSError`."""
        self.close()
        for name in self._all():
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._state)

    def close(self) -> None:
        """Close the file; the notes stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _all(self) -> list[str]:
        # Some file systems list a folder once only for each time it was opened.
        names = [os.fsdecode(name) for some in names_in(self._state) for name in some]
        return sorted(name for name in names if _A_NAME.fullmatch(name))
