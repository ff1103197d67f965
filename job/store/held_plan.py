"""The held plan of a pair in its history: read by a cycle that may be held, approved by a person."""

import json
import os
import sqlite3

from job.core.counts import HeldPlan, held_plan_of
from job.core.outcome import reason_text
from job.errors import JobError
from job.store.history_schema import FILE_NAME, UnusableHistoryError, details, has_format, opened

_HINT = "Look at that file and its disk, and try again."


def read_plan(state: int) -> HeldPlan | None:
    """Return the held or approved plan in an open state folder; None if there is none, or it cannot be read."""
    for mode in ("ro", "rw"):  # a killed writer left a journal, which only a writer can roll back
        try:
            os.stat(FILE_NAME, dir_fd=state, follow_symlinks=False)
            with opened(state, mode) as database:
                database.execute("BEGIN")
                return held_plan_of(details(database).get("hold")) if has_format(database) else None
        except sqlite3.OperationalError:
            continue
        except (OSError, UnusableHistoryError, sqlite3.Error):
            return None
    return None


def approve_plan(state: int, plan: str, now: float) -> bool:
    """Approve the held plan with this hash, in one transaction; False if it is another by now. Raises `JobError`."""
    try:
        with opened(state, "rw") as database:
            database.execute("BEGIN IMMEDIATE")
            held = held_plan_of(details(database).get("hold")) if has_format(database) else None
            if held is None or held.plan != plan or not held.is_active:
                return False
            approved = held._replace(approved_timestamp_seconds=now)
            database.execute("INSERT OR REPLACE INTO details VALUES ('hold', ?)", (json.dumps(approved),))
            database.execute("COMMIT")
    except (OSError, UnusableHistoryError, sqlite3.Error) as error:
        raise JobError(f"{FILE_NAME} cannot be written: {reason_text(error)}", hint=_HINT) from error
    return True
