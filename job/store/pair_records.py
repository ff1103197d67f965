"""Records of pairs outside the index: existing mirrors, identities of folders, and the state folder of a pair.

Pair records are outside the mirrors: one private folder a mirror, named by a hash of its path, in `state_dir/.pairs` or
in `$XDG_STATE_HOME/truecopy/pairs`. `known.json` in it records that the mirror existed: a missing mirror is then
refused. Cycles that cannot be recorded in the mirror are there too. `identity.json` says to which source and mirror a
`.truecopy` folder, or a folder below `state_dir`, belongs; names of pairs may change.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, NamedTuple

from job.config.settings import Config, Pair
from job.core.stored_values import UNUSABLE, number_of, text_of
from job.fs.dircursor import closing_fd
from job.fs.mounts import is_below, resolve_path
from job.fs.own_files import NOT_A_FILE, REMOVE_IT, describe_entry, open_own_file, open_own_folder, replace_file
from job.fs.private_folders import state_home
from job.fs.trusted_path import make_folders, open_trusted_folder, open_trusted_place

_IN_STATE_DIR = ".pairs"
"""No pair can have this name."""
_KNOWN = b"known.json"
_FORMAT = 1
_MOST_BYTES = 64 << 10
_UNAVAILABLE = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP}


class MirrorRecord(NamedTuple):
    """The record of a mirror that existed."""

    source: str
    """Its source; empty if the record is damaged."""
    since: str
    """When it was recorded, RFC 3339 in UTC; empty if the record is damaged."""


class PairRecords:
    """The records of one process."""

    def __init__(
        self,
        base: str | None = None,
        why_none: str = "no place for it was given",
        sources: Sequence[str] = (),
        mirrors: Sequence[str] = (),
        *,
        beside_state: bool = False,
    ) -> None:
        """Hold records in the folder `base`; `why_none` says why there is none.

        `sources` and `mirrors` are all configured ones, for `make_folders`. `beside_state` tells that the folder is in
        `state_dir`, which must not be in a source or mirror.
        """
        self.base, self.why_none = base, why_none
        self.sources, self.mirrors = sources, mirrors
        self.beside_state = beside_state
        self._reported = False

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str]) -> "PairRecords":
        """Choose the folder. Nothing is read or created."""
        sources = [pair.source for pair in config.effective_pairs]
        mirrors = [pair.dest for pair in config.effective_pairs]
        if config.state_dir is not None:
            return cls(os.path.join(config.state_dir, _IN_STATE_DIR), "", sources, mirrors, beside_state=True)
        base, why = state_home(environ)
        return cls(base and os.path.join(base, "truecopy", "pairs"), why, sources, mirrors)

    def updated_to(self, other: "PairRecords") -> "PairRecords":
        """Return the records for a new config; a reported problem is not reported again for the same folder."""
        if self.base == other.base:
            self.sources, self.mirrors, self.why_none = other.sources, other.mirrors, other.why_none
            return self
        return other

    def mirror_record(self, mirror: str) -> MirrorRecord | None:
        """Return the record of a mirror, also a damaged one; None if it does not exist or cannot be reached."""
        for key in _keys(mirror):
            try:
                with self._folder(key) as folder:
                    return _read(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                # An inaccessible home folder counts as none; an I/O error does not.
                if error.errno not in _UNAVAILABLE:
                    return MirrorRecord("", "")
        return None

    def record_mirror(self, pair: str, source: str, mirror: str) -> None:
        """Record that a mirror exists, unless it is recorded. Raises `OSError`."""
        content = {
            "format": _FORMAT,
            "mirror": os.path.abspath(mirror),
            "source": os.path.abspath(source),
            "pair": pair,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        for key in _keys(mirror):
            with self._folder(key, make=True) as folder:
                try:
                    os.stat(_KNOWN, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    replace_file(folder, _KNOWN, json.dumps(content, indent=2).encode("ascii") + b"\n", synced=True)

    def try_record_mirror(self, pair: str, source: str, mirror: str) -> str:
        """Call `record_mirror`; return the error at its first failure in this process, otherwise an empty text."""
        try:
            self.record_mirror(pair, source, mirror)
        except OSError as error:
            reported, self._reported = self._reported, True
            return "" if reported else error.strerror or str(error)
        return ""

    def open_history(self, mirror: str, *, make: bool) -> int:
        """Open the folder for the history of a pair whose state folder cannot be reached or written.

        Raises `OSError`; `FileNotFoundError` if it does not exist and `make` is False.
        """
        with self._folder(_keys(mirror)[0], make=make) as folder:
            return os.dup(folder)

    @contextmanager
    def _folder(self, key: str, *, make: bool = False) -> Iterator[int]:
        if self.base is None:
            raise PermissionError(errno.EACCES, self.why_none)
        if make and self.beside_state and any(is_below(self.base, root) for root in (*self.sources, *self.mirrors)):
            raise PermissionError(errno.EACCES, "state_dir lies in a source or mirror")
        base = make_folders(self.base, self.sources, self.mirrors) if make else open_trusted_place(self.base)
        with closing_fd(base):
            name = key.encode("ascii")
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=base)
            with closing_fd(open_own_folder(name, base)) as folder:
                yield folder


def _keys(mirror: str) -> list[str]:
    """Return the folder names of a mirror: for its path as written, and with the links in its parents resolved."""
    written = os.path.abspath(mirror)
    real = os.path.join(resolve_path(os.path.dirname(written)), os.path.basename(written))
    return [hashlib.sha256(os.fsencode(path)).hexdigest()[:32] for path in dict.fromkeys((written, real))]


def _read(folder: int) -> MirrorRecord | None:
    """Read the record in an open folder. Raises `FileNotFoundError`."""
    try:
        with closing_fd(open_own_file(_KNOWN, folder, os.O_RDONLY)) as descriptor:
            found = json.loads(os.read(descriptor, _MOST_BYTES))
        return MirrorRecord(text_of(found["source"]), text_of(found["since"]))
    except FileNotFoundError:
        raise
    except (OSError, *UNUSABLE):
        return MirrorRecord("", "")


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
    mirror: ResolvedPath
    made: str
    """RFC 3339, UTC."""
    mirror_root: tuple[int, int] = (0, 0)
    """Device and inode of the mirror's root at its last check; only below a `state_dir`."""

    def is_of(self, source: ResolvedPath, mirror: ResolvedPath) -> bool:
        """Return whether it is the identity of the pair of these folders."""
        return self.source.matches(source) and self.mirror.matches(mirror)


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
    if number_of(found["format"]) != _FORMAT:
        raise DamagedIdentityError(f"its format is {found['format']}, this Truecopy knows {_FORMAT}")
    source, mirror = (
        ResolvedPath(text_of(found[side]), text_of(found[f"{side}_resolved"])) for side in ("source", "mirror")
    )
    device, inode = map(number_of, found.get("mirror_root", (0, 0)))
    mirror_id, pair, made = (text_of(found[key]) for key in ("mirror_id", "pair", "made"))
    return PairIdentity(mirror_id, pair, source, mirror, made, (device, inode))


def write_identity(folder: int, identity: PairIdentity) -> None:
    """Write an identity durably. Raises `OSError`."""
    content: dict[str, object] = {
        "format": _FORMAT,
        "mirror_id": identity.mirror_id,
        "pair": identity.pair,
        "source": identity.source.written,
        "source_resolved": identity.source.resolved,
        "mirror": identity.mirror.written,
        "mirror_resolved": identity.mirror.resolved,
        "made": identity.made,
    }
    if identity.mirror_root != (0, 0):
        content["mirror_root"] = identity.mirror_root
    replace_file(
        folder, IDENTITY_FILE.encode("ascii"), json.dumps(content, indent=2).encode("ascii") + b"\n", synced=True
    )


class StateFolder(NamedTuple):
    """The folder of a pair's state."""

    name: str
    """Below `state_dir`; it need not exist."""
    used_by: PairIdentity | None = None
    """The other pair that owns the folder with this pair's name, if any."""


def find_state_folder(state_dir: str, pair: Pair) -> StateFolder:
    """Find the state folder of a pair. Raises `OSError`, and `DamagedIdentityError` for the folder of its name."""
    try:
        folder = open_trusted_folder(state_dir)
    except FileNotFoundError:
        return StateFolder(pair.name)
    with closing_fd(folder):
        return _choose_folder(folder, pair)


def _choose_folder(folder: int, pair: Pair) -> StateFolder:
    paths = ResolvedPath.of(pair.source), ResolvedPath.of(pair.dest)
    exists, found = _identity_in(folder, pair.name)
    if exists and (found is None or found.is_of(*paths)):
        return StateFolder(pair.name)
    for name, other in _other_states(folder):
        if other.is_of(*paths):
            return StateFolder(name, found)
    if not exists:
        return StateFolder(pair.name)
    taken = {name.casefold() for name in os.listdir(folder)}
    free = next(name for name in (f"{pair.name}-{number}" for number in count(2)) if name.casefold() not in taken)
    return StateFolder(free, found)


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
