"""Rules: which entries of a source are out of scope, by gitignore patterns. Pure."""

import hashlib
from collections.abc import Sequence

from pathspec import GitIgnoreSpec

ALWAYS_EXCLUDED = (".stfolder/",)
"""Skipped by default, as the original did; a later pattern `!.stfolder/` takes them in again."""


class Rules:
    """The exclude patterns of a pair, compiled.

    Raises `ValueError` for a pattern that cannot be read, with the pattern in the message.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        effective = (*ALWAYS_EXCLUDED, *patterns)
        self._spec = GitIgnoreSpec.from_lines(effective)
        self._only_defaults = not patterns
        self.digest = hashlib.sha256("\0".join(effective).encode("utf-8", "surrogateescape")).digest()
        """Changes whenever the patterns do, so that fingerprints taken under other patterns do not count."""

    def excludes(self, path: bytes, *, folder: bool) -> bool:
        """Tell whether the entry at `path`, below the root, is out of scope."""
        if self._only_defaults:
            return folder and path.rpartition(b"/")[2] == b".stfolder"
        text = path.decode("utf-8", "surrogateescape")
        return self._spec.match_file(text + "/" if folder else text)
