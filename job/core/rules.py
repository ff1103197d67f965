"""Rules: which entries of a source are out of scope, by gitignore patterns. Pure."""

import hashlib
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from job.core.entry import LOST_FOUND, join

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_Row = TypeVar("_Row", bound=tuple[bytes, int, int, int, int, int, int, int])

_MARKER_NAME = b".stfolder"
_OUT = frozenset({_MARKER_NAME})
_OUT_AT_ROOT = frozenset({_MARKER_NAME, LOST_FOUND})
ALWAYS_EXCLUDED = (".stfolder/", "/lost+found/")
"""Skipped by default, as the original did; a later pattern such as `!.stfolder/` takes them in again.

Of other `lost+found`, only those at the root of a file system are left out; see `adapters/scanner.py`.
"""


class Rules:
    """The exclude patterns of a pair, compiled.

    Raises `ValueError` for a pattern that cannot be read, with the pattern in the message.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        effective = (*ALWAYS_EXCLUDED, *patterns)
        self._spec = _compiled(effective) if patterns else None
        self.digest = hashlib.sha256(repr(effective).encode("utf-8", "surrogateescape")).digest()
        """Changes whenever the patterns do, so that fingerprints taken under other patterns do not count."""

    def in_scope(self, folder: bytes, rows: list[_Row], folders: Sequence[bytes] | None = None) -> list[_Row]:
        """Give those of a folder's entries that are in scope; `folder` is its path below the root.

        Entries come as such or as plain tuples of their fields: the look makes no object for an entry. Who knows the
        names of the `folders` among them gets the same list back, mostly without a look at it.
        """
        if self._spec is None:
            out = _OUT if folder else _OUT_AT_ROOT
            if folders is not None and out.isdisjoint(folders):
                return rows
            return [row for row in rows if row[0] not in out or not stat.S_ISDIR(row[2])]
        return [row for row in rows if not self.excludes(join(folder, row[0]), folder=stat.S_ISDIR(row[2]))]

    def excludes(self, path: bytes, *, folder: bool) -> bool:
        """Tell whether the entry at `path`, below the root, is out of scope."""
        if self._spec is None:
            *above, name = path.split(b"/")
            folders = [*above, name] if folder else above
            return _MARKER_NAME in folders or folders[:1] == [LOST_FOUND]
        text = _one_line(path.decode("utf-8", "surrogateescape"))
        return bool(self._spec.match_file(text + "/" if folder else text))

    def takes_in(self, folder: bytes) -> bool:
        """Tell whether a pattern says that the folder at this path is in scope, whatever else would leave it out."""
        if self._spec is None:
            return False
        return self._spec.check_file(_one_line(folder.decode("utf-8", "surrogateescape")) + "/").include is False


def _compiled(patterns: Sequence[str]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  # slow, and most pairs have no patterns of their own

    return GitIgnoreSpec.from_lines([_one_line(pattern) for pattern in patterns])


def _one_line(text: str) -> str:
    """Replace line ends by what no path can hold: Python's `$` and `.` would take them for more than a character."""
    return text.replace("\n", "\0")
