"""Remember, beside the index, what was mounted in a source, and what was reported as left out of it.

A file of its own: the index may be lost at any time, and a disk that is not mounted must be missed all the same.
"""

import json
import os
from contextlib import suppress

from job.core.left_out import NO_MOUNTS, KnownMounts, LeftOut, Why
from job.core.stored import UNUSABLE
from job.fs.dircursor import open_name
from job.fs.small_files import replace_file
from job.fs.sync import fsync_folder

FILE_NAME = b"mounts.json"
"""In the state folder."""
_FORMAT = 1
_MOST_BYTES = 16 << 20


def load(state: int) -> KnownMounts:
    """Give what is remembered in an open state folder; nothing where that makes no sense."""
    try:
        descriptor = open_name(FILE_NAME, state)
    except OSError:
        return NO_MOUNTS
    try:
        with open(descriptor, "rb", closefd=False) as file:
            document = json.loads(file.read(_MOST_BYTES))
        if document["format"] != _FORMAT:
            return NO_MOUNTS
        taken = {_bytes(path): _word(kind) for path, kind in document["mounted"].items()}
        left_out = [LeftOut(_bytes(path), Why(why), _word(kind)) for path, why, kind in document["left_out"]]
        missing = [_bytes(path) for path in document["missing"]]
    except (OSError, *UNUSABLE):
        return NO_MOUNTS
    finally:
        os.close(descriptor)
    return KnownMounts(taken, frozenset(left_out), frozenset(missing))


def save(known: KnownMounts, state: int) -> None:
    """Remember it. Raises `OSError`."""
    document = {
        "format": _FORMAT,
        "mounted": {_text(path): kind for path, kind in sorted(known.taken.items())},
        "missing": [_text(path) for path in sorted(known.missing)],
        "left_out": [[_text(path), str(why), kind] for path, why, kind in sorted(known.left_out)],
    }
    if known == NO_MOUNTS:
        with suppress(FileNotFoundError):
            os.unlink(FILE_NAME, dir_fd=state)
    else:
        replace_file(state, FILE_NAME, json.dumps(document, indent=1).encode("ascii") + b"\n")
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
