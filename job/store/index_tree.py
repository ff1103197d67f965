"""How the index names folders: by keys of a fixed size, so that a deep nest takes no more room than its folders.

A folder has its row under the key of its parent's path and its own name; what else is known of it is kept under the key
of its own path. So no row grows with the depth. Every folder that anything is known of has a row, and so have all
folders above it, with nothing in them where nothing is known: from the root, or from any folder, everything below is
found. Paths are never put together from what the rows say alone: a key is computed from the path that was walked, and
a path that was put together is believed only if it has the key that was asked for. Rows that make no sense are passed
over and never walked twice.
"""

import sqlite3
from collections.abc import Collection, Iterable
from hashlib import blake2b
from itertools import islice
from typing import Any

ASIDE = ("records", "hard_link", "unheld", "way")
"""Tables that keep what is known of folders by the keys of their own paths."""

_KEY_BYTES = 16
_EMPTY_ROW = "INSERT OR IGNORE INTO folder VALUES (?, ?, x'', x'', x'', 0, 0, 0, 0, 0)"
"""A row in 0 parts says nothing."""
_STEP_UP = "SELECT parent, name FROM way WHERE folder = ?"
_MOST_KNOWN = 1 << 16
_MOST_PATHS = 64
"""Paths that are kept for the next ones, which are often below them or beside them."""


def key_of(path: bytes) -> bytes:
    """Return the key of a folder by its path below the root.

    Nobody finds two paths with one key. If there were two, the rows of both would fit neither: inodes and times tell.
    """
    return blake2b(path, digest_size=_KEY_BYTES).digest()


ROOT = key_of(b"")


def place_of(path: bytes) -> tuple[bytes, bytes]:
    """Tell where a folder has its row: the key of its parent's path, which is the root's for the root, and its name."""
    parent, _, name = path.rpartition(b"/")
    return key_of(parent), name


class Tree:
    """Keeps folders findable in an open index, in the transaction of whoever calls. All raises `sqlite3.Error`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._known: set[bytes] = set()
        """Keys of some folders that have rows, and so have all above them."""
        self._paths: dict[bytes, bytes] = {}
        """Of some keys; they are true whatever becomes of the rows."""

    def doubt(self) -> None:
        """Forget which folders have rows, as after a transaction that came to nothing."""
        self._known.clear()

    def make_findable(self, path: bytes, finished: Collection[bytes]) -> None:
        """See that a folder and all above it have rows, up to one that is `finished`: the caller sees to that one."""
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        new: list[bytes] = []
        while path not in finished:
            key = key_of(path)
            if key in self._known:
                break
            new.append(key)
            self._cursor.execute(_EMPTY_ROW, place_of(path))
            if not self._cursor.rowcount or not path:
                break
            path = path.rpartition(b"/")[0]
        self._known.update(new)

    def note_way(self, path: bytes) -> None:
        """Note how the path of a folder is put together, so that `paths_of` finds it."""
        while path:
            self._cursor.execute("INSERT OR IGNORE INTO way VALUES (?, ?, ?)", (key_of(path), *place_of(path)))
            if not self._cursor.rowcount:
                break
            path = path.rpartition(b"/")[0]

    def paths_of(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the paths of folders whose way was noted, without those for which that makes no sense."""
        paths = self._paths.copy()
        wanted = {key: path for key in keys if (path := self._path_of(key, paths)) is not None}
        self._paths = dict(islice(reversed(wanted.items()), _MOST_PATHS))
        return wanted

    def _path_of(self, key: bytes, paths: dict[bytes, bytes]) -> bytes | None:
        """Go up as far as to a folder whose path is known already; what is found is added to those."""
        names: list[bytes] = []
        at, met = key, {ROOT}
        while at not in paths and at not in met:  # rows that lead round in a circle end here, too
            met.add(at)
            row = self._row(_STEP_UP, at)
            if row is None or (*map(type, row),) != (bytes, bytes):
                return None
            at, name = row
            names.append(name)
        path = b"/".join([*filter(None, [paths.get(at)]), *reversed(names)])
        if key_of(path) != key:
            return None
        paths[key] = path
        return path

    def forget(self, path: bytes) -> None:
        """Forget a folder and all below it."""
        self._known.clear()
        if not path:
            for table in ("folder", *ASIDE):
                self._cursor.execute(f"DELETE FROM {table} WHERE true")  # noqa: S608  # names of ours
            return
        aside = [table for table in ASIDE if self._row(f"SELECT 1 FROM {table} LIMIT 1")]  # noqa: S608
        self._drop(*place_of(path))
        at = path
        # Each step takes a row away or goes up, so that it ends whatever the rows say; only one path is held.
        while True:
            key = key_of(at)
            row = self._row("SELECT name FROM folder WHERE parent = ? LIMIT 1", key)
            if row is not None:
                self._drop(key, row[0])
                if isinstance(row[0], bytes) and row[0] and b"/" not in row[0]:
                    at += b"/" + row[0]
                continue
            for table in aside:
                self._cursor.execute(f"DELETE FROM {table} WHERE folder = ?", (key,))  # noqa: S608
            if at == path:
                return
            at = at.rpartition(b"/")[0]

    def _drop(self, parent: bytes, name: Any) -> None:
        self._cursor.execute("DELETE FROM folder WHERE parent = ? AND name = ?", (parent, name))

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._cursor.execute(query, values).fetchone()
        return row
