"""Rules: which entries of a source are out of scope, by gitignore patterns with git's own results. Pure.

As in git, the last pattern that matches an entry decides, and nothing in an excluded folder is looked at.
"""

import hashlib
import re
import stat
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from job.core.entry import join

if TYPE_CHECKING:
    from job.core.patterns import Pattern

_Row = TypeVar("_Row", bound=tuple[bytes, int, int, int, int, int, int, int])
_Matcher = re.Pattern[bytes] | None

ALWAYS_EXCLUDED = (".stfolder/", "/lost+found/")
"""Skipped by default, as the original did; a later pattern such as `!.stfolder/` takes them in again.

Of other `lost+found`, only those at the root of a file system are left out; see `fs/trees.py`.
"""

_FOLDERS_ANYWHERE = frozenset(each[:-1].encode("ascii") for each in ALWAYS_EXCLUDED if not each.startswith("/"))
_FOLDERS_AT_ROOT = frozenset(each[1:-1].encode("ascii") for each in ALWAYS_EXCLUDED if each.startswith("/"))


class _Step(NamedTuple):
    """Patterns in a row that say the same of what they match, one expression for each way in which they match."""

    excludes: bool
    name: _Matcher
    path: _Matcher
    folder_name: _Matcher
    """For a folder, which may match the patterns for folders as well as those for everything."""
    folder_path: _Matcher


class Rules:
    """The exclude patterns of a pair, compiled.

    Raises `ValueError` for a pattern that can never match, with the pattern and the reason in the message.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        effective = (*ALWAYS_EXCLUDED, *patterns)
        self._steps = _compiled(effective) if patterns else None
        self._by_path = any(step.path or step.folder_path for step in self._steps or ())
        self.digest = hashlib.sha256(repr(effective).encode("utf-8", "surrogateescape")).digest()
        """Changes whenever the patterns do, so that fingerprints taken under other patterns do not count."""

    def in_scope(self, folder: bytes, rows: list[_Row], folders: Sequence[bytes] | None = None) -> list[_Row]:
        """Give those of a folder's entries that are in scope; `folder` is its path below the root, and in scope.

        Entries come as such or as plain tuples of their fields: the scan makes no object for an entry. A caller that
        knows the names of the `folders` among them gets the same list back, mostly without a look at it.
        """
        if self._steps is None:
            out = _FOLDERS_ANYWHERE if folder else _FOLDERS_ANYWHERE | _FOLDERS_AT_ROOT
            if folders is not None and out.isdisjoint(folders):
                return rows
            return [row for row in rows if row[0] not in out or not stat.S_ISDIR(row[2])]
        above = folder + b"/" if folder and self._by_path else b""
        return [row for row in rows if not self._excludes(above + row[0], row[0], folder=stat.S_ISDIR(row[2]))]

    def excludes(self, path: bytes, *, folder: bool) -> bool:
        """Tell whether the entry at `path`, below the root, is out of scope, by itself or with a folder above it."""
        above = b""
        *parents, last = path.split(b"/")
        for name in parents:
            if self._excludes(join(above, name), name, folder=True):
                return True
            above = join(above, name)
        return self._excludes(path, last, folder=folder)

    def _excludes(self, path: bytes, name: bytes, *, folder: bool) -> bool:
        if self._steps is None:
            return folder and (name in _FOLDERS_ANYWHERE or path in _FOLDERS_AT_ROOT)
        return self._verdict(path, name, folder=folder) or False

    def _verdict(self, path: bytes, name: bytes, *, folder: bool) -> bool | None:
        """Give what the last pattern that matches says: True to exclude; None if no pattern matches."""
        for excludes, by_name, by_path, by_folder_name, by_folder_path in self._steps or ():
            if folder:
                by_name, by_path = by_folder_name, by_folder_path  # noqa: PLW2901  # the same question of a folder
            if (by_name and by_name.fullmatch(name)) or (by_path and by_path.fullmatch(path)):
                return excludes
        return None

    def takes_in(self, folder: bytes) -> bool:
        """Tell whether a pattern says that the folder at this path is in scope, whatever else would leave it out."""
        return self._verdict(folder, folder.rpartition(b"/")[2], folder=True) is False


def _compiled(lines: Sequence[str]) -> list[_Step]:
    """Give the steps in the order in which they are asked: what the last pattern says goes first."""
    from job.core.patterns import Pattern  # noqa: PLC0415  # most pairs have no patterns of their own

    patterns = [pattern for pattern in map(_parsed, lines) if isinstance(pattern, Pattern)]
    return [_step(excludes, list(alike)) for excludes, alike in groupby(reversed(patterns), lambda each: each.excludes)]


def _parsed(line: str) -> "Pattern | None":
    from job.core.patterns import parse  # noqa: PLC0415  # as above

    try:
        return parse(line)
    except UnicodeEncodeError:
        raise
    except ValueError as error:
        raise ValueError(f"the pattern {line!r} can never match: {error}") from error


def _step(excludes: bool, patterns: list["Pattern"]) -> _Step:  # noqa: FBT001  # a field of the step
    def matcher(*, path: bool, folder: bool) -> _Matcher:
        return _any_of([e.expression for e in patterns if e.whole_path is path and (folder or not e.folders_only)])

    return _Step(
        excludes,
        matcher(path=False, folder=False),
        matcher(path=True, folder=False),
        matcher(path=False, folder=True),
        matcher(path=True, folder=True),
    )


def _any_of(expressions: list[bytes]) -> _Matcher:
    return re.compile(b"|".join(b"(?:" + each + b")" for each in expressions), re.DOTALL) if expressions else None
