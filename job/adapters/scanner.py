"""List folders by descriptor and fingerprint the listings: what did not move is passed over at the cost of a stat."""

import hashlib
import os
import stat
from collections.abc import Iterator

from job.core.entry import is_reserved, join
from job.core.record import Stamp
from job.core.rules import Rules
from job.files.listing import (
    Glance,
    Listing,
    Unlisted,
    fingerprint_of,
    glance,
    list_entries,
    mirror_fingerprint_of,
    stamp_of,
)
from job.files.trail import Trail


class Scanner:
    """Lists the folders below one root that are in scope."""

    def __init__(self, root: int, rules: Rules, policy: bytes = b"") -> None:
        """Take an open root. `policy` is mixed into fingerprints: other options, other fingerprints."""
        self._trail = Trail(root)
        self._rules = rules
        self._policy = hashlib.sha256(policy + rules.digest).digest()

    def close(self) -> None:
        """Close what the walk opened; the root stays open."""
        self._trail.close()

    def walk(self, start: bytes = b"") -> Iterator[Listing | Unlisted]:
        """List every folder from `start` on, parents before children, each as it is at that moment."""
        waiting = [start]
        while waiting:
            path = waiting.pop()
            try:
                listing = self.list(path)
            except OSError as error:
                yield Unlisted(path, error)
                continue
            yield listing
            waiting.extend(join(path, name) for name in reversed(listing.folders))

    def glance(self, path: bytes, share: int = 0) -> Glance:
        """Look at one folder, or at one share of a huge one. Raises `OSError` if it cannot be opened or read."""
        folder = self._trail.goto(path)
        salt = self._policy + stamp_of(os.fstat(folder))
        found = glance(folder, salt, lambda rows: self._rules.in_scope(path, rows), share)
        return found._replace(folders=_visited(path, found.folders))

    def list(self, path: bytes) -> Listing:
        """List one folder. Raises `OSError` if it cannot be opened or read."""
        folder = self._trail.goto(path)
        before = os.fstat(folder)
        entries, unreadable = list_entries(folder, lambda rows: self._rules.in_scope(path, rows))
        folders = _visited(path, [entry.name for entry in entries if stat.S_ISDIR(entry.mode)])
        return Listing(
            path, entries, folders, before, fingerprint_of(entries, self._policy + stamp_of(before)), unreadable
        )


def _visited(path: bytes, folders: list[bytes]) -> list[bytes]:
    # A reserved folder is reported as failed by its parent; what is in it must not reach the mirror's own state.
    return [name for name in folders if not is_reserved(join(path, name))]


class MirrorWatch:
    """Looks at the mirror without changing it: folder stamps in every cycle, whole listings in an audit."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._trail = Trail(root)

    def close(self) -> None:
        """Close what was opened; the root stays open."""
        self._trail.close()

    def stamp(self, path: bytes) -> Stamp | None:
        """Give a mirror folder's stamp; None if it is missing or no folder of ours."""
        try:
            if not path:
                return stamp_of(os.fstat(self._root))
            parent, _, name = path.rpartition(b"/")
            seen = os.stat(name, dir_fd=self._trail.goto(parent), follow_symlinks=False)
        except OSError:
            return None
        return stamp_of(seen) if stat.S_ISDIR(seen.st_mode) else None

    def fingerprint(self, path: bytes) -> bytes | None:
        """Give the fingerprint of everything in a mirror folder; None if it cannot be read."""
        try:
            return mirror_fingerprint_of(self._trail.goto(path))
        except OSError:
            return None
