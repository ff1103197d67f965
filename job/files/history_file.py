"""The file of a pair's history: its schema, and how it is opened, read and moved aside."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from job.core.outcome import reason_text
from job.files import sqlite_file

FILE_NAME = "history.sqlite3"

APPLICATION_ID, FORMAT = 0x54436869, 1  # "TChi"
_BUSY_SECONDS = 5.0
_MOST_BROKEN = 9

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

# What SQLite says of a file whose content is wrong; everything else (busy, full, read-only) may pass by itself.
_WRONG_CONTENT = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_NOTADB,
}


DETAILS = "CREATE TABLE IF NOT EXISTS details (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
"""JSON by name: of which source this is the history, and what is remarked of the last cycle. Older files have none."""


class UnusableHistoryError(Exception):
    """The file is torn, foreign or from a newer version."""


def details(database: sqlite3.Connection) -> dict[str, Any]:
    """Read what is kept besides counts; what cannot be read of it is left out."""
    if not database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'details'").fetchone()[0]:
        return {}
    found = {}
    for name, value in database.execute("SELECT name, value FROM details"):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            found[str(name)] = json.loads(value)
    return found


@contextlib.contextmanager
def opened(folder: int, mode: str) -> Iterator[sqlite3.Connection]:
    """Open the file in an open folder. Raises `UnusableHistoryError`, `OSError` or `sqlite3.Error`."""
    try:
        database = sqlite_file.connect(FILE_NAME, folder, mode, timeout=_BUSY_SECONDS)
    except sqlite_file.HostileJournalError as error:
        raise UnusableHistoryError(reason_text(error)) from error
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        yield database
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _WRONG_CONTENT:
            raise UnusableHistoryError(reason_text(error)) from error
        raise
    finally:
        # Closing rolls back what was not committed.
        database.close()


def set_aside(folder: int, ending: str) -> str:
    """Give the file in an open folder another name, and tell which. Raises `OSError`."""
    taken = set(os.listdir(folder))
    names = [f"{FILE_NAME}.{ending}-{number}" for number in range(1, _MOST_BROKEN + 1)]
    aside = next((name for name in names if name not in taken), names[-1])
    # The journal first: left behind, it would be played into the new file.
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{FILE_NAME}-journal", f"{aside}-journal", src_dir_fd=folder, dst_dir_fd=folder)
    os.rename(FILE_NAME, aside, src_dir_fd=folder, dst_dir_fd=folder)
    return aside


def has_format(database: sqlite3.Connection) -> bool:
    """Tell whether the file holds our format; False if it is empty. Raises `UnusableHistoryError` for anything else."""
    if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        message = "it is another program's database"
        raise UnusableHistoryError(message)
    if version != FORMAT:
        message = f"its format is {version}, this Truecopy knows {FORMAT}"
        raise UnusableHistoryError(message)
    return True


def counts_in(database: sqlite3.Connection, query: str) -> dict[tuple[str, str], int]:
    """Give counts by metric name and label. Raises `UnusableHistoryError` for rows of other types."""
    counts = {}
    for name, label, value in database.execute(query):
        if not (isinstance(name, str) and isinstance(label, str) and isinstance(value, int)):
            message = "a count is no number"
            raise UnusableHistoryError(message)
        counts[name, label] = value
    return counts
