"""The keys of folders in the index, of a fixed size, so that rows do not grow with the depth of a folder.

The row of a folder has the key of its parent's path and its own name; other tables use the key of its own path. Each
recorded folder and all its ancestors have a row, empty if nothing is recorded, so that all folders below any folder are
found. A path made from rows is used only if its key is the wanted one. Invalid rows are skipped, none is read twice.
"""

import sqlite3
from collections.abc import Collection, Iterable
from hashlib import blake2b
from itertools import islice
from typing import Any

ASIDE = ("records", "hard_link", "unheld", "orphan", "way")
"""Tables with the keys of the folders' own paths."""

_KEY_BYTES = 16
_EMPTY_ROW = "INSERT OR IGNORE INTO folder VALUES (?, ?, x'', x'', x'', 0, 0, 0, 0, 0)"
"""A row with 0 parts is empty."""
_STEP_UP = "SELECT parent, name FROM way WHERE folder = ?"
_MOST_KNOWN = 1 << 16
_MOST_PATHS = 64
"""Cached paths; the next ones are often below or beside them."""


def key_of(path: bytes) -> bytes:
    """Return the key of a folder by its path below the root.

    A collision would do no harm: inodes and times of the rows would match neither folder.
    """
    return blake2b(path, digest_size=_KEY_BYTES).digest()


ROOT = key_of(b"")


def place_of(path: bytes) -> tuple[bytes, bytes]:
    """Return the key of a folder's row: the key of its parent's path (the root is its own parent), and its name."""
    parent, _, name = path.rpartition(b"/")
    return blake2b(parent, digest_size=_KEY_BYTES).digest(), name  # as `key_of`, without a call for each folder


class Tree:
    """Maintains the rows of ancestors, in the caller's transaction. All methods raise `sqlite3.Error`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._known: set[bytes] = set()
        """Keys of some folders that have rows, as have their ancestors."""
        self._paths: dict[bytes, bytes] = {}
        """Paths by key; valid even if rows change."""

    def clear_cache(self) -> None:
        """Forget which folders have rows, as after a rollback."""
        self._known.clear()

    def make_findable(self, path: bytes, finished: Collection[bytes]) -> None:
        """Add missing rows of a folder and its ancestors, up to a `finished` one, which the caller adds."""
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

    def store_way(self, path: bytes) -> None:
        """Store the names of the path of a folder for `paths_of`."""
        while path:
            self._cursor.execute("INSERT OR IGNORE INTO way VALUES (?, ?, ?)", (key_of(path), *place_of(path)))
            if not self._cursor.rowcount:
                break
            path = path.rpartition(b"/")[0]

    def paths_of(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the paths of folders with a stored way; invalid ones are left out."""
        paths = self._paths.copy()
        wanted = {key: path for key in keys if (path := self._path_of(key, paths)) is not None}
        self._paths = dict(islice(reversed(wanted.items()), _MOST_PATHS))
        return wanted

    def _path_of(self, key: bytes, paths: dict[bytes, bytes]) -> bytes | None:
        """Walk up to a folder whose path is in `paths`, and add the result to it."""
        names: list[bytes] = []
        at, met = key, {ROOT}
        while at not in paths and at not in met:  # also ends a cycle of rows
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
        """Remove the rows of a folder and all below it."""
        self._known.clear()
        if not path:
            for table in ("folder", *ASIDE):
                self._cursor.execute(f"DELETE FROM {table} WHERE true")  # noqa: S608  # constant names
            return
        aside = [table for table in ASIDE if self._row(f"SELECT 1 FROM {table} LIMIT 1")]  # noqa: S608
        self._drop(*place_of(path))
        at = path
        # Each step removes a row or goes up, so it ends even with invalid rows.
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
