"""What is kept of pairs outside their mirrors: which mirrors existed, and cycles that cannot be noted in them.

One private folder a mirror, named by a hash of the mirror's path, in `state_dir/.pairs` or, without a `state_dir`, in
`$XDG_STATE_HOME/truecopy/pairs`. `known.json` in it says that the mirror existed: from then on a missing one is
refused, while an unknown one is made at first use.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from job.config.settings import Config
from job.core.stored import UNUSABLE, text_of
from job.fs.mounts import is_below, resolved
from job.fs.private import open_file, open_ours
from job.fs.private_folders import state_home
from job.fs.small_files import replace_file
from job.fs.trusted_path import make_folders, open_trusted_place

_IN_STATE_DIR = ".pairs"
"""No pair can have this name."""
_KNOWN = b"known.json"
_FORMAT = 1
_MOST_BYTES = 64 << 10
_UNAVAILABLE = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP}


class Known(NamedTuple):
    """A mirror that existed."""

    source: str
    """Of which source it was the mirror; empty if the record is damaged."""
    since: str
    """When it was recorded, RFC 3339 in UTC; empty if the record is damaged."""


@dataclass(slots=True)
class PairRecords:
    """The records of one process."""

    base: str | None = None
    """Where they are; None if there is no place for them."""
    why_none: str = "no place for it was given"
    """Why there is no place."""
    sources: Sequence[str] = ()
    mirrors: Sequence[str] = ()
    """All that are configured: see `make_folders`."""
    beside_state: bool = False
    """Whether they lie in `state_dir`, which must not lie in a source or mirror."""
    _told: bool = field(default=False, init=False)

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str]) -> "PairRecords":
        """Choose the place. Nothing is read or made."""
        sources = [pair.source for pair in config.effective_pairs]
        mirrors = [pair.dest for pair in config.effective_pairs]
        if config.state_dir is not None:
            return cls(os.path.join(config.state_dir, _IN_STATE_DIR), "", sources, mirrors, beside_state=True)
        home, why = state_home(environ)
        return cls(home and os.path.join(home, "truecopy", "pairs"), why, sources, mirrors)

    def moved_to(self, other: "PairRecords") -> "PairRecords":
        """Give the records of a new config; what was said once in this process is not said again."""
        if self.base == other.base:
            self.sources, self.mirrors, self.why_none = other.sources, other.mirrors, other.why_none
            return self
        return other

    def known(self, mirror: str) -> Known | None:
        """Tell whether a mirror existed; a damaged record says so, too. None also where no record can be had."""
        for key in _keys(mirror):
            try:
                with self._folder(key) as folder:
                    return _read(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                # A home folder of another user is like none at all; an I/O error is not.
                if error.errno not in _UNAVAILABLE:
                    return Known("", "")
        return None

    def remember(self, pair: str, source: str, mirror: str) -> None:
        """Record that a mirror exists; nothing is written where that is recorded. Raises `OSError`."""
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

    def why_not_remembered(self, pair: str, source: str, mirror: str) -> str:
        """Remember as `remember` does; if that fails, say why, once in a process, otherwise give an empty text."""
        try:
            self.remember(pair, source, mirror)
        except OSError as error:
            told, self._told = self._told, True
            return "" if told else error.strerror or str(error)
        return ""

    def open_history(self, mirror: str, *, make: bool) -> int:
        """Open the folder in which cycles of a pair are kept while its state folder cannot be reached or written.

        Raises `OSError`, `FileNotFoundError` where it does not exist and is not to be made.
        """
        with self._folder(_keys(mirror)[0], make=make) as folder:
            return os.dup(folder)

    @contextmanager
    def _folder(self, key: str, *, make: bool = False) -> Iterator[int]:
        if self.base is None:
            raise PermissionError(errno.EACCES, self.why_none)
        if make and self.beside_state and any(is_below(self.base, root) for root in (*self.sources, *self.mirrors)):
            raise PermissionError(errno.EACCES, "state_dir lies in a source or mirror")
        with ExitStack() as doors:
            above = make_folders(self.base, self.sources, self.mirrors) if make else open_trusted_place(self.base)
            doors.callback(os.close, above)
            name = key.encode("ascii")
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=above)
            folder = open_ours(name, above)
            doors.callback(os.close, folder)
            yield folder


def _keys(mirror: str) -> list[str]:
    """Name the folders of a mirror, by its path as it is written and with the links on the way to it resolved."""
    written = os.path.abspath(mirror)
    real = os.path.join(resolved(os.path.dirname(written)), os.path.basename(written))
    return [hashlib.sha256(os.fsencode(path)).hexdigest()[:32] for path in dict.fromkeys((written, real))]


def _read(folder: int) -> Known | None:
    """Read the record in an open folder; `FileNotFoundError` if there is none."""
    try:
        descriptor = open_file(_KNOWN, folder, os.O_RDONLY)
    except FileNotFoundError:
        raise
    except OSError:
        return Known("", "")
    try:
        found = json.loads(os.read(descriptor, _MOST_BYTES))
        return Known(text_of(found["source"]), text_of(found["since"]))
    except (OSError, *UNUSABLE):
        return Known("", "")
    finally:
        os.close(descriptor)
