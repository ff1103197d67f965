"""The rows of the index about changes that the brake holds: digests by folder, or by part of a huge one.

The digests that a person approved come first in a row. Invalid rows are skipped.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from job.core.brake import DIGEST_BYTES
from job.store.index_tree import key_of

HELD = "held_reason"
"""Fact that the brake has tripped; its value is the reason's number."""


class HeldRow(NamedTuple):
    """The held changes of one folder, or of one part of a huge folder."""

    approved: frozenset[bytes]
    waiting: frozenset[bytes]

    @property
    def all(self) -> frozenset[bytes]:
        """All digests."""
        return self.approved | self.waiting


def held_key(path: bytes, part: int) -> bytes:
    """Return the key of the row of a folder, or of a part of it."""
    return key_of(path) + (part.to_bytes(4, "big") if part else b"")


class _RowIndex(Protocol):
    def rows_of(self, query: str, *values: object) -> list[tuple[Any, ...]]: ...
    def transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...


class HeldTable:
    """What the brake holds. All methods raise `OSError`."""

    def __init__(self, index: _RowIndex) -> None:
        self._index = index

    def rows(self) -> dict[bytes, HeldRow]:
        """Return the valid rows by `held_key`."""
        rows: dict[bytes, HeldRow] = {}
        for key, digests, count in self._index.rows_of("SELECT folder, digest, approved FROM held"):
            if (type(key), type(digests), type(count)) == (bytes, bytes, int) and len(digests) % DIGEST_BYTES == 0:
                each = [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]
                if 0 <= count <= len(each):
                    rows[key] = HeldRow(frozenset(each[:count]), frozenset(each[count:]))
        return rows

    def store(self, mark: int, rows: Mapping[bytes, HeldRow] | None = None) -> None:
        """Store the mark of a hold, 0 for none, and replace all rows, unless `rows` is None."""
        with self._index.transaction() as database:
            database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (HELD, float(mark)))
            if rows is not None:
                database.execute("DELETE FROM held")
                database.executemany("INSERT INTO held VALUES (?, ?, ?)", map(_stored, rows.items()))


def _stored(item: tuple[bytes, HeldRow]) -> tuple[bytes, bytes, int]:
    key, (approved, waiting) = item
    return key, b"".join([*sorted(approved), *sorted(waiting - approved)]), len(approved)
