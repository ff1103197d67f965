"""The rows of the index about versions: one for each folder and moment (`store/version_rows.py`), one for each moment.

A moment has an ordinal, as times alone do not tell the order of cycles if the clock was once wrong. Invalid rows are
skipped. All functions use the caller's transaction and raise `sqlite3.Error`.
"""

import sqlite3
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, datetime
from typing import Any

from job.core.versions import Moment, VersionsDone
from job.store.index_tree import key_of
from job.store.version_rows import decode_versions, encode_versions

_LAST_SECOND = int(datetime(MAXYEAR, 12, 31, tzinfo=UTC).timestamp())
_LAST_NUMBER = 10**9 - 1
_OF_FOLDER = "SELECT rows FROM version WHERE folder = ? AND seconds = ? AND number = ?"
_NEW_MOMENT = """
INSERT OR IGNORE INTO version_folder
SELECT ?, ?, coalesce(max(ordinal), 0) + 1, 0, 0 FROM version_folder
"""
_ADD_BYTES = """
UPDATE version_folder SET bytes = min(bytes + ?, 1 << 62), settled = 0 WHERE seconds = ? AND number = ?
"""


def store_versions(connection: sqlite3.Connection, done: Iterable[VersionsDone]) -> None:
    """Add versions to the rows of their folders and moments."""
    for each in done:
        place = (key_of(each.path), *each.moment)
        row = connection.execute(_OF_FOLDER, place).fetchone()
        rows = _joined(row[0], each.rows) if row else each.rows
        connection.execute("INSERT OR REPLACE INTO version VALUES (?, ?, ?, ?)", (*place, rows))
        if each.files:
            connection.execute(_NEW_MOMENT, each.moment)
            connection.execute(_ADD_BYTES, (each.bytes, *each.moment))


def _joined(stored: object, more: str) -> str:
    """Join two texts; the later one counts for a name that is in both, and for all if the first is invalid."""
    before = {row.name: row for row in decode_versions(stored)} if isinstance(stored, str) else {}
    return encode_versions([*(before | {row.name: row for row in decode_versions(more)}).values()])


def moment_in(seconds: Any, number: Any) -> Moment | None:  # any values of SQLite
    """Return the moment of a row; None for one that no version folder can have."""
    if type(seconds) is int and type(number) is int and 0 <= seconds <= _LAST_SECOND and 1 <= number <= _LAST_NUMBER:
        return Moment(seconds, number)
    return None
