"""Two small files beside the index: the temp journal of each worker, and the known mounts of the source.

The temp journal has the mirror folders that may contain temporary files, recorded before the first is created, so that
a killed run can be cleaned up. It is not synced: after a power cut, a temporary file may stay in a folder that left the
source since; all other folders are cleaned when they are synced.

Known mounts are not in the index, which may be lost: a disk that is no longer mounted must still be noticed.
"""

import json
import os
import re
from contextlib import suppress

from job.core.file_systems import NO_MOUNTS, KnownMounts, LeftOut, LeftOutReason
from job.core.stored_values import UNUSABLE
from job.fs.dircursor import closing_fd, open_name
from job.fs.large_dir import names_in
from job.fs.own_files import fsync_folder, open_own_file, replace_file, write_all

JOURNAL_FILE = "leftovers"
_A_NAME = JOURNAL_FILE + r"(-[1-9][0-9]{0,3})?"
_END = b"\0"


class TempJournal:
    """The journal of one mirror in an open state folder. `slot` is the worker's number; 0 is the main process."""

    def __init__(self, state: int, slot: int = 0) -> None:
        self._state = state
        self._name = f"{JOURNAL_FILE}-{slot}" if slot else JOURNAL_FILE
        self._file: int | None = None

    def note(self, path: bytes) -> None:
        """Record a folder by its path below the root. Raises `OSError`."""
        if self._file is None:
            self._file = open_own_file(self._name, self._state, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write_all(self._file, path + _END)

    def sync(self) -> None:
        """Have what was recorded survive a power cut. Raises `OSError`."""
        if self._file is not None:
            os.fsync(self._file)
            fsync_folder(self._state)

    def noted(self, most_bytes: int = 64 << 20) -> list[bytes]:
        """Return the folders recorded by all workers, from the first `most_bytes` of the journal. Raises `OSError`."""
        found: list[bytes] = []
        left = most_bytes
        for name in self._all():
            with suppress(FileNotFoundError), open(open_own_file(name, self._state, os.O_RDONLY), "rb") as file:
                text = file.read(left)
                found += text.split(_END)[:-1]  # the rest is an interrupted write
                left -= len(text)
        return found

    def clear(self) -> None:
        """Remove this worker's journal. Raises `OSError`."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._state)

    def clear_all(self) -> None:
        """Remove the journals of all workers, none of which may run. Raises `OSError`."""
        self.close()
        for name in self._all():
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._state)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _all(self) -> list[str]:
        # Some file systems list a folder once only for each time it was opened.
        names = [os.fsdecode(name) for some in names_in(self._state) for name in some]
        return sorted(name for name in names if name.startswith(JOURNAL_FILE) and re.fullmatch(_A_NAME, name))


MOUNTS_FILE = b"mounts.json"
"""In the state folder."""
_MOUNTS_FORMAT = 1
_MOST_MOUNTS_BYTES = 16 << 20


def load_known_mounts(state: int) -> KnownMounts:
    """Read the known mounts in an open state folder; none if the file is invalid."""
    try:
        with closing_fd(open_name(MOUNTS_FILE, state)) as descriptor, open(descriptor, "rb", closefd=False) as file:
            document = json.loads(file.read(_MOST_MOUNTS_BYTES))
        if document["format"] != _MOUNTS_FORMAT:
            return NO_MOUNTS
        mounted = {_bytes(path): _word(kind) for path, kind in document["mounted"].items()}
        left_out = [LeftOut(_bytes(path), LeftOutReason(why), _word(kind)) for path, why, kind in document["left_out"]]
        missing = [_bytes(path) for path in document["missing"]]
        former = [_bytes(path) for path in document.get("former", [])]
    except (OSError, *UNUSABLE):
        return NO_MOUNTS
    return KnownMounts(mounted, frozenset(left_out), frozenset(missing), frozenset(former))


def save_known_mounts(known: KnownMounts, state: int) -> None:
    """Write the known mounts durably. Raises `OSError`."""
    document = {
        "format": _MOUNTS_FORMAT,
        "mounted": {_text(path): kind for path, kind in sorted(known.mounted.items())},
        "missing": [_text(path) for path in sorted(known.missing)],
        "former": [_text(path) for path in sorted(known.former)],
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
