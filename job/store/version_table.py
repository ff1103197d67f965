"""The rows of the index about versions: one for each folder and moment (`store/version_rows.py`), one for each moment.

A moment has an ordinal, as times alone do not tell the order of cycles if the clock was once wrong. Invalid rows are
skipped. Functions use the caller's transaction and raise `sqlite3.Error`; `VersionTable` has its own and raises
`OSError`.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import MAXYEAR, UTC, datetime
from typing import Any, NamedTuple, Protocol

from job.core.versions import Moment, VersionReason, VersionsDone
from job.store.index_tree import key_of
from job.store.version_rows import decode_versions, encode_versions

SECONDS_BETWEEN_CHECKS = 3600.0
"""Least seconds between two checks for versions that expire."""
COMPLETE_SINCE = "versions_complete_timestamp_seconds"
DUE, CLOCK, CHECKED_ALL, RULE = (
    "versions_due_timestamp_seconds",
    "versions_clock_timestamp_seconds",
    "versions_checked_timestamp_seconds",
    "versions_rule",
)
"""Facts: when the next check is due, the clock of the last one, when all were checked at, the rule then."""

_RAISE = "UPDATE fact SET value = max(value, ?) WHERE name = ?"
"""If the time is unknown, it stays so."""
_LAST_SECOND = int(datetime(MAXYEAR, 12, 31, tzinfo=UTC).timestamp())
_LAST_NUMBER = 10**9 - 1
_MOST = 1 << 62
_OF_FOLDER = "SELECT rows FROM version WHERE folder = ? AND seconds = ? AND number = ?"
_DROP = "DELETE FROM version WHERE folder = ? AND seconds = ? AND number = ?"
_NEW_MOMENT = """
INSERT OR IGNORE INTO version_folder
SELECT ?, ?, coalesce(max(ordinal), 0) + 1, 0, 0, 0 FROM version_folder
"""
_EARLIER_MOMENT = """
INSERT OR IGNORE INTO version_folder
SELECT ?, ?, coalesce(min(ordinal), 0) - 1, ?, ?, 0 FROM version_folder
"""
_ADD_BYTES = """
UPDATE version_folder SET files = max(0, min(files + ?, ?)), bytes = max(0, min(bytes + ?, ?)), settled = 0
WHERE seconds = ? AND number = ?
"""
_SOONER = """
UPDATE fact SET value = min(value, ? + coalesce((SELECT value FROM fact WHERE name = ?), 0)) WHERE name = ?
"""
_ORPHANED = """
DELETE FROM version WHERE seconds < ? AND NOT EXISTS (
  SELECT 1 FROM version_folder AS known WHERE known.seconds = version.seconds AND known.number = version.number
)
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
            connection.execute(_ADD_BYTES, (each.files, _MOST, each.bytes, _MOST, *each.moment))
    connection.execute(_SOONER, (SECONDS_BETWEEN_CHECKS, CLOCK, DUE))


def _joined(stored: object, more: str) -> str:
    """Join two texts; the later one counts for a name that is in both, and for all if the first is invalid."""
    before = {row.name: row for row in decode_versions(stored)} if isinstance(stored, str) else {}
    return encode_versions([*(before | {row.name: row for row in decode_versions(more)}).values()])


def moment_in(seconds: Any, number: Any) -> Moment | None:  # any values of SQLite
    """Return the moment of a row; None for one that no version folder can have."""
    if type(seconds) is int and type(number) is int and 0 <= seconds <= _LAST_SECOND and 1 <= number <= _LAST_NUMBER:
        return Moment(seconds, number)
    return None


class VersionsGone(NamedTuple):
    """Versions that were removed from one folder of a moment."""

    path: bytes
    """Of the folder below the root."""
    moment: Moment
    names: Collection[bytes]
    bytes: int
    is_emptied: bool
    """Whether the folder was removed, too."""


def drop_versions(connection: sqlite3.Connection, gone: Iterable[VersionsGone]) -> None:
    """Drop the rows of removed versions."""
    for each in gone:
        place = (key_of(each.path), *each.moment)
        left = "" if each.is_emptied else _without(connection.execute(_OF_FOLDER, place).fetchone(), each.names)
        if left:
            connection.execute("INSERT OR REPLACE INTO version VALUES (?, ?, ?, ?)", (*place, left))
        else:
            connection.execute(_DROP, place)
        if each.is_emptied and not each.path:
            connection.execute("DELETE FROM version_folder WHERE seconds = ? AND number = ?", each.moment)
        elif each.names:
            connection.execute(_ADD_BYTES, (-len(each.names), _MOST, -each.bytes, _MOST, *each.moment))


def _without(row: tuple[Any, ...] | None, names: Collection[bytes]) -> str:
    rows = decode_versions(row[0]) if row and isinstance(row[0], str) else []
    return encode_versions([each for each in rows if each.name not in names and each.why is not VersionReason.EXCLUDED])


class MomentRow(NamedTuple):
    """What the index has about one version folder."""

    ordinal: int
    """Its place in the order of cycles."""
    files: int
    bytes: int
    settled: int
    """`Retention.standing` when all that may expire by it had expired; 0 if it has to be checked at."""


class _Index(Protocol):
    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Commit what the block writes, or nothing. Raises `OSError`."""

    def rows_of(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Return all rows of a query; none if the index is damaged. Raises `OSError`."""


class VersionTable:
    """The rows about versions, for retention. All methods raise `OSError`."""

    def __init__(self, index: _Index, connection: sqlite3.Connection) -> None:
        self._index, self._db = index, connection

    def moments(self) -> dict[Moment, MomentRow]:
        """Return what is known of all version folders."""
        query = "SELECT seconds, number, ordinal, files, bytes, settled FROM version_folder"
        found: dict[Moment, MomentRow] = {}
        for seconds, number, *rest in self._index.rows_of(query):
            moment = moment_in(seconds, number)
            if moment is not None and {*map(type, rest)} == {int}:
                found[moment] = MomentRow(*rest)
        return found

    def extent(self) -> tuple[int, int]:
        """Return the files and bytes of all versions."""
        rows = self.moments().values()
        return sum(row.files for row in rows), sum(row.bytes for row in rows)

    def moments_of(self, path: bytes) -> list[Moment]:
        """Return the moments with rows about entries of a folder."""
        rows = self._index.rows_of("SELECT seconds, number FROM version WHERE folder = ?", key_of(path))
        return [moment for row in rows if (moment := moment_in(*row)) is not None]

    def drop(self, gone: Iterable[VersionsGone]) -> None:
        """Drop the rows of removed versions."""
        with self._index.transaction():
            drop_versions(self._db, gone)

    def forget(self, moments: Iterable[Moment], until: float) -> None:
        """Drop all rows of version folders that do not exist; contents replaced until then are not all kept."""
        gone = list(moments)
        with self._index.transaction():
            for table in ("version_folder", "version"):
                self._db.executemany(f"DELETE FROM {table} WHERE seconds = ? AND number = ?", gone)  # noqa: S608  # ours
            self._db.execute(_RAISE, (until, COMPLETE_SINCE))

    def forget_unkept(self, before: float) -> None:
        """Drop older rows of moments without a version folder: their contents were never kept."""
        with self._index.transaction():
            self._db.execute(_ORPHANED, (before,))

    def adopt(self, found: Mapping[Moment, tuple[int, int]]) -> None:
        """Add version folders without rows, with their files and bytes: they are taken for older than the others."""
        with self._index.transaction():
            for moment in sorted(found, reverse=True):
                self._db.execute(_EARLIER_MOMENT, (*moment, *found[moment]))

    def settle(self, settled: Mapping[Moment, int]) -> None:
        """Store that all that may expire has expired."""
        with self._index.transaction():
            rows = [(standing, *moment) for moment, standing in settled.items()]
            self._db.executemany("UPDATE version_folder SET settled = ? WHERE seconds = ? AND number = ?", rows)

    def note(self, facts: Mapping[str, float | str]) -> None:
        """Store facts."""
        with self._index.transaction():
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", list(facts.items()))

    def begin_to_drop(self, until: float) -> None:
        """Store that contents that were replaced until then are not all kept any more."""
        with self._index.transaction():
            self._db.execute(_RAISE, (until, COMPLETE_SINCE))

    def checked_all(self) -> float:
        """Return when all version folders were checked at; 0 for never."""
        rows = self._index.rows_of("SELECT value FROM fact WHERE name = ?", CHECKED_ALL)
        return rows[0][0] if rows and isinstance(rows[0][0], float) else 0.0
