"""Leftovers: the mirror folders in which a killed run may have left temps, noted before the first temp is made there.

A small file in the state folder for each worker process, so that one can forget its notes while others go on. They are
not synced: after a power cut a temp may stay that no note speaks of, in a folder that left the source since; everywhere
else the next visit of the folder sweeps.

Remember, beside the index, what was mounted in a source, and what was reported as left out of it.

A file of its own: the index may be lost at any time, and a disk that is not mounted must be missed all the same.
"""

import json
import os
import re
from contextlib import suppress

from job.core.mounts import NO_MOUNTS, KnownMounts, LeftOut, LeftOutReason
from job.core.stored import UNUSABLE
from job.fs.dircursor import open_name
from job.fs.large_dir import names_in
from job.fs.small_files import fsync_folder, open_file, replace_file, write_all

JOURNAL_FILE = "leftovers"
_A_NAME = re.compile(JOURNAL_FILE + r"(-[1-9][0-9]{0,3})?")
_END = b"\0"
_MOST_BYTES = 64 << 20


class TempJournal:
    """Notes of one mirror, by an open state folder. `slot` tells workers apart; 0 is the main process."""

    def __init__(self, state: int, slot: int = 0) -> None:
        self._state = state
        self._name = f"{JOURNAL_FILE}-{slot}" if slot else JOURNAL_FILE
        self._file: int | None = None

    def note(self, path: bytes) -> None:
        """Note a folder, by its path below the root. Raises `OSError`."""
        if self._file is None:
            self._file = open_file(self._name, self._state, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write_all(self._file, path + _END)

    def noted(self) -> list[bytes]:
        """Return the folders noted by whichever worker; none where nothing was left. Raises `OSError`."""
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


MOUNTS_FILE = b"mounts.json"
"""In the state folder."""
_MOUNTS_FORMAT = 1
_MOST_MOUNTS_BYTES = 16 << 20


def load_known_mounts(state: int) -> KnownMounts:
    """Return what is remembered in an open state folder; nothing where that makes no sense."""
    try:
        descriptor = open_name(MOUNTS_FILE, state)
    except OSError:
        return NO_MOUNTS
    try:
        with open(descriptor, "rb", closefd=False) as file:
            document = json.loads(file.read(_MOST_MOUNTS_BYTES))
        if document["format"] != _MOUNTS_FORMAT:
            return NO_MOUNTS
        taken = {_bytes(path): _word(kind) for path, kind in document["mounted"].items()}
        left_out = [LeftOut(_bytes(path), LeftOutReason(why), _word(kind)) for path, why, kind in document["left_out"]]
        missing = [_bytes(path) for path in document["missing"]]
    except (OSError, *UNUSABLE):
        return NO_MOUNTS
    finally:
        os.close(descriptor)
    return KnownMounts(taken, frozenset(left_out), frozenset(missing))


def save_known_mounts(known: KnownMounts, state: int) -> None:
    """Remember it. Raises `OSError`."""
    document = {
        "format": _MOUNTS_FORMAT,
        "mounted": {_text(path): kind for path, kind in sorted(known.mounted.items())},
        "missing": [_text(path) for path in sorted(known.missing)],
        "left_out": [[_text(path), str(why), kind] for path, why, kind in sorted(known.left_out)],
    }
    if known == NO_MOUNTS:
        with suppress(FileNotFoundError):
            os.unlink(MOUNTS_FILE, dir_fd=state)
    else:
        replace_file(state, MOUNTS_FILE, json.dumps(document, indent=1).encode("ascii") + b"\n")
    fsync_folder(state)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _bytes(path: object) -> bytes:
    if not isinstance(path, str) or not path:
        raise ValueError
    return path.encode("utf-8", "surrogateescape")


def _word(kind: object) -> str:
    if not isinstance(kind, str) or not kind.isprintable():
        raise ValueError
    return kind
