"""Version folders of a rig that are made older, with their rows in the index, so that they have expired."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from job.core.versions import Moment, moment_of
from tests.faults.rig import Rig

DAY = 86400


def moments(rig: Rig) -> list[tuple[Moment, Path]]:
    """Give the version folders in the order of time."""
    found = [(moment_of(path.name.encode()), path) for path in (rig.state / "versions").glob("*")]
    return sorted((moment, path) for moment, path in found if moment is not None)


def age(rig: Rig, days: int, count: int = 1) -> None:
    """Let the oldest `count` version folders be of cycles so many days ago and more."""
    with closing(sqlite3.connect(rig.state / "index.sqlite3", isolation_level=None)) as index:
        for number, (moment, path) in enumerate(moments(rig)[:count]):
            older = Moment(int(time.time()) - (days + count - number) * DAY)
            path.rename(path.with_name(older.name.decode()))
            for table in ("version", "version_folder"):
                index.execute(
                    f"UPDATE {table} SET seconds = ?, number = ? WHERE seconds = ? AND number = ?",
                    (*older, *moment),
                )
        make_due(index)


def make_due(index: sqlite3.Connection) -> None:
    """Let the next cycle check which versions have expired."""
    index.execute("UPDATE fact SET value = 0 WHERE name = 'versions_due_timestamp_seconds'")
