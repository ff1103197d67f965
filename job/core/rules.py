"""Rules: which entries of a source are out of scope, by gitignore patterns. Pure."""

import hashlib
from collections.abc import Sequence

from pathspec import GitIgnoreSpec

from job.core.entry import Entry, Kind, join

ALWAYS_EXCLUDED = (".stfolder/",)
"""Skipped by default, as the original did; a later pattern `!.stfolder/` takes them in again."""


class Rules:
    """The exclude patterns of a pair, compiled.

    Raises `ValueError` for a pattern that cannot be read, with the pattern in the message.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        effective = (*ALWAYS_EXCLUDED, *patterns)
        self._spec = GitIgnoreSpec.from_lines([_one_line(pattern) for pattern in effective])
        self._only_defaults = not patterns
        self.digest = hashlib.sha256(repr(effective).encode("utf-8", "surrogateescape")).digest()
        """Changes whenever the patterns do, so that fingerprints taken under other patterns do not count."""

    def in_scope(self, folder: bytes, entries: list[Entry]) -> list[Entry]:
        """Give those of a folder's entries that are in scope; `folder` is its path below the root."""
        if self._only_defaults:
            return [entry for entry in entries if entry.name != b".stfolder" or entry.kind is not Kind.FOLDER]
        return [e for e in entries if not self.excludes(join(folder, e.name), folder=e.kind is Kind.FOLDER)]

    def excludes(self, path: bytes, *, folder: bool) -> bool:
        """Tell whether the entry at `path`, below the root, is out of scope."""
        text = _one_line(path.decode("utf-8", "surrogateescape"))
        return bool(self._spec.match_file(text + "/" if folder else text))


def _one_line(text: str) -> str:
    """Replace line ends by what no path can hold: Python's `$` and `.` would take them for more than a character."""
    return text.replace("\n", "\0")
