"""The file of a pair's history: its schema; opening, reading and setting it aside."""

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

from job.core.outcome import RENAMED, reason_text
from job.core.stored_values import UNUSABLE
from job.store import sqlite
from job.store.sqlite import (
    DAMAGED,
    Connection,
    HostileFileError,
    check_objects,
    fetch_bounded,
    lift_limits,
    limit_steps,
    objects_in,
    schema_of,
)

FILE_NAME = "history.sqlite3"

APPLICATION_ID, FORMAT = 0x54436869, 1  # "TChi"
_BUSY_SECONDS = 5.0
KEPT = 9
"""Files that were set aside and are kept."""

SCHEMA = """
CREATE TABLE totals (name TEXT NOT NULL, label TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, label))
    WITHOUT ROWID;
CREATE TABLE last_counts (name TEXT NOT NULL, label TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, label))
    WITHOUT ROWID;
CREATE TABLE last_cycle (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    result TEXT NOT NULL,
    folders INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    last_attempt_timestamp_seconds REAL NOT NULL,
    last_success_timestamp_seconds REAL NOT NULL
);
"""

ADD = """INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT (name, label) DO UPDATE SET value = value + excluded.value"""

SET_LAST = """
INSERT INTO last_cycle VALUES (1, :result, :folders, :duration, :attempt, :success)
ON CONFLICT (id) DO UPDATE SET result = :result, folders = :folders, duration_seconds = :duration,
    last_attempt_timestamp_seconds = :attempt,
    last_success_timestamp_seconds = iif(:success > 0, :success, last_success_timestamp_seconds)
"""

# Error codes of wrong content; all others (busy, full, read-only) may be temporary.
_WRONG_CONTENT = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_FORMAT, *DAMAGED}
_MOST_VALUE = 4 << 20
"""Bytes of one value: details with the paths of a few files."""


DETAILS = "CREATE TABLE IF NOT EXISTS details (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
"""JSON by name: the source of this history, and details of the last cycle. Older files do not have it."""


class UnusableHistoryError(Exception):
    """The file is damaged, of another program or of a newer version."""


def details(database: Connection) -> dict[str, Any]:
    """Read the details; invalid ones are left out."""
    if not database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'details'").fetchone()[0]:
        return {}
    found = {}
    for name, value in fetch_bounded(database.execute("SELECT name, value FROM details"), 0):
        with contextlib.suppress(*UNUSABLE):
            found[str(name)] = json.loads(value)
    return found


@contextlib.contextmanager
def opened(folder: int, mode: str) -> Iterator[Connection]:
    """Open the file in an open folder. Raises `UnusableHistoryError`, `OSError` or `sqlite3.Error`.

    `has_format` must be called first.
    """
    with contextlib.ExitStack() as ending:
        try:
            database = sqlite.connect(FILE_NAME, folder, mode, timeout=_BUSY_SECONDS)
            ending.callback(database.close)  # rolls back an open transaction
            yield database
        except HostileFileError as error:
            raise UnusableHistoryError(reason_text(error)) from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _WRONG_CONTENT:
                raise UnusableHistoryError(reason_text(error)) from error
            raise


def has_format(database: Connection) -> bool:
    """Return whether the file has this format; False if it is empty. Raises `UnusableHistoryError` for other content.

    Afterwards the file can be read and written.
    """
    found = objects_in(database)
    if found:
        application, version = database.format_marks()
        if application != APPLICATION_ID:
            raise UnusableHistoryError("it is another program's database")
        if version != FORMAT:
            raise UnusableHistoryError(f"its format is {version}, this Truecopy knows {FORMAT}")
        check_objects(found, (schema_of(SCHEMA, DETAILS), schema_of(SCHEMA)))
    lift_limits(database, _MOST_VALUE)
    limit_steps(database, 0)
    return bool(found)


def last_attempt(folder: int) -> float | None:
    """Return the end of the last cycle in the history of an open state folder; None if it cannot be read."""
    with contextlib.suppress(UnusableHistoryError, OSError, sqlite3.Error), opened(folder, "ro") as database:
        if has_format(database):
            row = database.execute("SELECT last_attempt_timestamp_seconds FROM last_cycle").fetchone()
            return float(row[0]) if row and isinstance(row[0], int | float) and row[0] > 0 else None
    return None


def counts_in(database: Connection, query: str) -> dict[tuple[str, str], int]:
    """Return counts by metric name and label. Raises `UnusableHistoryError` for rows of other types."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, label, value in fetch_bounded(database.execute(query), 0):
        if not (isinstance(name, str) and isinstance(label, str) and isinstance(value, int)):
            raise UnusableHistoryError("a count is no number")
        counts[name, RENAMED.get(label, label)] += value
    return counts
