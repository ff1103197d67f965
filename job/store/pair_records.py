"""The identity of a mirror or state folder (`identity.json`), and the state folder of a mirror below `state_dir`.

In the `.truecopy` of a mirror the file has the mirror's random id, its source and the last cycle that wrote; no path of
the mirror, host or user, since a disk may be mounted anywhere. In a state folder below `state_dir` it says to which
mirror the folder belongs. Names of pairs may change.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from job.config.settings import Pair
from job.core.mirror_identity import CycleMark
from job.core.stored_values import UNUSABLE, number_of, text_of
from job.fs.dircursor import closing_fd
from job.fs.mounts import resolve_path
from job.fs.own_files import NOT_A_FILE, REMOVE_IT, describe_entry, open_own_file, open_own_folder, replace_file
from job.fs.trusted_path import open_trusted_folder

_FORMAT = 2
_MOST_BYTES = 64 << 10
_ID = re.compile("[0-9a-f]{32}")

IDENTITY_FILE = "identity.json"


class DamagedIdentityError(ValueError):
    """The file is damaged or of a newer format; the message says which."""


class ResolvedPath(NamedTuple):
    """A path as in the config, and with all links resolved; either identifies it.

    The resolved one may differ while a disk is not mounted, the written one after an edit of the config.
    """

    written: str
    resolved: str

    @classmethod
    def of(cls, path: str) -> "ResolvedPath":
        """Resolve a path, as far as it exists."""
        return cls(os.path.abspath(path), resolve_path(path))

    def matches(self, other: "ResolvedPath") -> bool:
        """Return whether both are the same path."""
        return self.written == other.written or self.resolved == other.resolved


class PairIdentity(NamedTuple):
    """The content of `identity.json`."""

    mirror_id: str
    """Random, 32 hexadecimal digits."""
    pair: str
    """The pair's name at that time."""
    source: ResolvedPath
    made: str
    """RFC 3339, UTC."""
    cycle: CycleMark | None = None
    """The last cycle that wrote; None in a state folder, and in a mirror of format 1."""
    mirror: ResolvedPath | None = None
    """Its path when it was used last; in a state folder only."""

    def is_of(self, source: ResolvedPath, mirror: ResolvedPath) -> bool:
        """Return whether it is the identity of a state folder that these folders used last."""
        return self.source.matches(source) and self.mirror is not None and self.mirror.matches(mirror)


def read_identity(folder: int) -> PairIdentity | None:
    """Read the identity of an open folder; None if it has none. Raises `DamagedIdentityError` and `OSError`."""
    try:
        descriptor = open_own_file(IDENTITY_FILE, folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in NOT_A_FILE:
            raise
        found = describe_entry(IDENTITY_FILE.encode("ascii"), folder)
        raise OSError(error.errno, f"{found} has the name of {IDENTITY_FILE}{REMOVE_IT}") from None
    with closing_fd(descriptor):
        content = os.read(descriptor, _MOST_BYTES)
    try:
        return _identity_of(json.loads(content))
    except DamagedIdentityError:
        raise
    except UNUSABLE as error:
        raise DamagedIdentityError("it is damaged") from error


def _identity_of(found: dict[str, Any]) -> PairIdentity:
    if number_of(found["format"]) not in {1, _FORMAT}:
        raise DamagedIdentityError(f"its format is {found['format']}, this Truecopy knows {_FORMAT}")
    mirror_id, pair, made = (text_of(found[key]) for key in ("mirror_id", "pair", "made"))
    checked_id(mirror_id)
    source = ResolvedPath(text_of(found["source"]), text_of(found["source_resolved"]))
    mirror = ResolvedPath(text_of(found["mirror"]), text_of(found["mirror_resolved"])) if "mirror" in found else None
    cycle = None
    if "cycle" in found:
        cycle = CycleMark(number_of(found["cycle"]["number"]), text_of(found["cycle"]["mark"]))
    return PairIdentity(mirror_id, pair, source, made, cycle, mirror)


def checked_id(mirror_id: str) -> str:
    """Return an id that can be the name of a file. Raises `ValueError` for anything else."""
    if _ID.fullmatch(mirror_id) is None:
        raise ValueError("not an id")
    return mirror_id


def write_identity(folder: int, identity: PairIdentity) -> None:
    """Write an identity durably. Raises `OSError`."""
    content: dict[str, object] = {
        "format": _FORMAT,
        "mirror_id": identity.mirror_id,
        "pair": identity.pair,
        "source": identity.source.written,
        "source_resolved": identity.source.resolved,
        "made": identity.made,
    }
    if identity.cycle is not None:
        content["cycle"] = {"number": identity.cycle.number, "mark": identity.cycle.mark}
    if identity.mirror is not None:
        content |= {"mirror": identity.mirror.written, "mirror_resolved": identity.mirror.resolved}
    text = json.dumps(content, indent=2).encode("ascii") + b"\n"
    replace_file(folder, IDENTITY_FILE.encode("ascii"), text, synced=True)


class StateFolder(NamedTuple):
    """The folder of a mirror's state."""

    name: str
    """Below `state_dir`; it need not exist."""
    used_by: PairIdentity | None = None
    """The other mirror that owns the folder with the pair's name, if any."""


def find_state_folder(state_dir: str, pair: Pair, mirror_id: str | None) -> StateFolder:
    """Find the state folder of a mirror of a pair; without an id, of any mirror at its path.

    Raises `OSError`, and `DamagedIdentityError` for the folder of the pair's name.
    """
    try:
        folder = open_trusted_folder(state_dir)
    except FileNotFoundError:
        return StateFolder(pair.name)
    with closing_fd(folder):
        return _choose_folder(folder, pair, mirror_id)


def _choose_folder(folder: int, pair: Pair, mirror_id: str | None) -> StateFolder:
    paths = ResolvedPath.of(pair.source), ResolvedPath.of(pair.dest)

    def is_ours(found: PairIdentity) -> bool:
        return found.is_of(*paths) if mirror_id is None else found.mirror_id == mirror_id

    exists, found = _identity_in(folder, pair.name)
    if exists and found is not None and is_ours(found):
        return StateFolder(pair.name)
    for name, other in _other_states(folder):
        if is_ours(other):
            return StateFolder(name, found)
    if not exists or found is None:
        return StateFolder(pair.name)
    taken = {name.casefold() for name in os.listdir(folder)}
    names = (f"{pair.name}-{mirror_id[:8]}",) if mirror_id else ()
    wanted = (*names, *(f"{pair.name}-{number}" for number in range(2, len(taken) + 3)))
    return StateFolder(next(name for name in wanted if name.casefold() not in taken), found)


def _other_states(folder: int) -> Iterator[tuple[str, PairIdentity]]:
    for name in sorted(os.listdir(folder)):
        if name.startswith("."):
            continue
        try:
            _, found = _identity_in(folder, name)
        except (OSError, DamagedIdentityError):
            continue
        if found is not None:
            yield name, found


def _identity_in(folder: int, name: str) -> tuple[bool, PairIdentity | None]:
    """Return whether a folder of this name exists, and its identity."""
    try:
        inner = open_own_folder(os.fsencode(name), folder)
    except FileNotFoundError:
        return False, None
    with closing_fd(inner):
        return True, read_identity(inner)
