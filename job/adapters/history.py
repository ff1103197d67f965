"""History: what a pair did in all its cycles, in `history.sqlite3` beside its index.

It is only counts: a file that cannot be used is moved aside and counting begins anew, with a word about it. Nothing
here stops a cycle, and the state folder is never created here, so an unmounted mirror stays untouched (invariant 6).
"""

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from job.core.events import HistoryBegunAnew, Listener, PairFinished
from job.core.outcome import Result, reason_text
from job.core.totals import NO_REMARKS, Failing, PairHistory, Remarks, Trouble, counts_of, tally_of
from job.files import sqlite_file
from job.files.identity_file import Paths
from job.files.private import open_ours
from job.files.trusted_path import UntrustedPath, open_trusted_parent

FILE_NAME = "history.sqlite3"

Failed = Callable[[str, str], None]

_APPLICATION_ID, _FORMAT = 0x54436869, 1  # "TChi"
_BUSY_SECONDS = 5.0
_MOST_BROKEN = 9

_SCHEMA = """
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

_ADD = """INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT (name, label) DO UPDATE SET value = value + excluded.value"""

_SET_LAST = """
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


_DETAILS = "CREATE TABLE IF NOT EXISTS details (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
"""JSON by name: of which source this is the history, and what is remarked of the last cycle. Older files have none."""


class _Unusable(Exception):
    """The file is torn, foreign or from a newer version."""


class _OfAnotherSource(_Unusable):
    """The file is the history of another pair; the message names that one's source."""


class Spare(Protocol):
    """Gives the folder that is used while the state folder cannot be reached."""

    def __call__(self, *, make: bool) -> int:
        """Open the folder; raises `OSError`."""


class History:
    """The history of one pair, in its state folder.

    `failed` is called with "history" and a sentence when something could not be kept or read. Nothing is raised for
    what a disk or another program may do. Given its `source`, a history of another source in the same folder is moved
    aside, which `emit` is told. What happens while the state folder cannot be reached is kept in the `spare` folder,
    and both are added up when they are read.
    """

    def __init__(
        self,
        folder: str,
        *,
        failed: Failed,
        source: Paths | None = None,
        spare: Spare | None = None,
        emit: Listener | None = None,
    ) -> None:
        self._folder = folder
        self._path = os.path.join(folder, FILE_NAME)
        self._failed = failed
        self._source = source
        self._spare = spare
        self._emit = emit

    def add(self, finished: PairFinished, deltas: Mapping[tuple[str, str], int], remarks: Remarks = NO_REMARKS) -> bool:
        """Add to the counters and remember the cycle, in one transaction, so that no process loses another's counts.

        False: nothing was kept, because the state folder is missing or for a reason that was told.
        """
        try:
            folder = self._open()
        except OSError as error:
            if self._spare is None:
                if not isinstance(error, FileNotFoundError):
                    self._failed("history", f"{self._path}: {reason_text(error)}")
                return False
            try:
                folder = self._spare(make=True)
            except OSError:
                return False  # which is told of where records of pairs are needed
        try:
            return self._add_in(folder, finished, deltas, remarks)
        finally:
            os.close(folder)

    def _add_in(
        self, folder: int, finished: PairFinished, deltas: Mapping[tuple[str, str], int], remarks: Remarks
    ) -> bool:
        for attempt in (1, 2):
            try:
                sqlite_file.make(FILE_NAME, folder)
                self._write(folder, finished, deltas, remarks)
            except _Unusable as error:
                if attempt == 2:  # noqa: PLR2004
                    self._failed("history", f"{self._path}: {reason_text(error)}")
                    return False
                if not self._start_anew(folder, error, finished):
                    return False
            except FileNotFoundError:
                return False
            except (OSError, sqlite3.Error) as error:
                self._failed("history", f"{self._path}: {reason_text(error)}")
                return False
            else:
                return True
        raise AssertionError

    def count(self, deltas: Mapping[tuple[str, str], int]) -> bool:
        """Add to the counters of a history that exists, outside any cycle. False: nothing was kept."""
        try:
            folder = self._open()
        except OSError:
            return False
        try:
            os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
            with _opened(folder, "rw") as database:
                database.execute("BEGIN IMMEDIATE")
                if not _has_format(database):
                    return False
                database.executemany(_ADD, [(name, label, value) for (name, label), value in deltas.items()])
                database.execute("COMMIT")
        except FileNotFoundError:
            return False
        except (_Unusable, OSError, sqlite3.Error) as error:
            self._failed("history", f"{self._path}: {reason_text(error)}")
            return False
        finally:
            os.close(folder)
        return True

    def read(self) -> PairHistory:
        """Read everything; all zero when there is no history yet or it cannot be read, which is told."""
        elsewhere = self._read_spare()
        try:
            folder = self._open()
        except OSError as error:
            # The refusal itself names a link that is not followed.
            if not isinstance(error, UntrustedPath) and error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                self._failed("history", f"{self._path}: {error.strerror}")
            return elsewhere or PairHistory()
        try:
            here = self._read_in(folder)
        finally:
            os.close(folder)
        return here.joined(elsewhere) if elsewhere else here

    def _read_spare(self) -> PairHistory | None:
        if self._spare is None:
            return None
        try:
            folder = self._spare(make=False)
        except OSError:
            return None
        try:
            os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
            return self._read_in(folder)
        except OSError:
            return None
        finally:
            os.close(folder)

    def _read_in(self, folder: int) -> PairHistory:
        try:
            os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
            return self._read(folder)
        except _OfAnotherSource:
            return PairHistory()
        except (_Unusable, sqlite3.Error) as error:
            self._failed("history", f"{self._path}: {reason_text(error)}")
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                self._failed("history", f"{self._path}: {reason_text(error)}")
        return PairHistory()

    def _open(self) -> int:
        # The gate refuses a link, or somebody else's folder, in the place of the state folder, and links of others on
        # the way to it: nothing is read or written there for a refusal either.
        above, name = open_trusted_parent(self._folder)
        try:
            return open_ours(name, above)
        finally:
            os.close(above)

    def _write(
        self, folder: int, finished: PairFinished, deltas: Mapping[tuple[str, str], int], remarks: Remarks
    ) -> None:
        moment = finished.finished_timestamp_seconds
        last = {
            "result": str(finished.result),
            "folders": finished.tally.folders,
            "duration": finished.duration_seconds,
            "attempt": moment,
            "success": moment if finished.result is Result.SUCCESS else 0.0,
        }
        with _opened(folder, "rw") as database:
            database.execute("BEGIN IMMEDIATE")
            if not _has_format(database):
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {_FORMAT}")
            self._remark(database, finished, remarks)
            database.executemany(_ADD, [(name, label, value) for (name, label), value in deltas.items()])
            database.execute("DELETE FROM last_counts")
            rows = [(name, label, value) for (name, label), value in counts_of(finished.tally).items()]
            database.executemany("INSERT INTO last_counts VALUES (?, ?, ?)", rows)
            database.execute(_SET_LAST, last)
            database.execute("COMMIT")

    def _remark(self, database: sqlite3.Connection, finished: PairFinished, remarks: Remarks) -> None:
        """Keep what is not a count; to be called before the last cycle is replaced."""
        database.execute(_DETAILS)
        kept = _details(database)
        self._check_source(kept)
        before = database.execute("SELECT result FROM last_cycle").fetchone()
        goes_on = before is not None and before[0] == str(finished.result) and "since" in kept
        wanted = {
            "source": self._source or kept.get("source"),
            "trouble": remarks.trouble,
            "failing": [[os.fsdecode(each.path), each.reason, each.error] for each in remarks.failing],
            "since": kept["since"] if goes_on else finished.finished_timestamp_seconds,
        }
        changed = [(name, json.dumps(value)) for name, value in wanted.items()]
        changed = [(name, text) for name, text in changed if name not in kept or json.dumps(kept[name]) != text]
        database.executemany("INSERT OR REPLACE INTO details VALUES (?, ?)", changed)

    def _check_source(self, kept: Mapping[str, Any]) -> None:
        try:
            theirs = Paths(*map(str, kept.get("source") or ()))
        except TypeError:
            return
        if self._source is not None and not self._source.matches(theirs):
            raise _OfAnotherSource(theirs.written)

    def _read(self, folder: int) -> PairHistory:
        try:
            return self._read_as(folder, "ro")
        except sqlite3.OperationalError:
            # A writer that was killed leaves a journal, and only a writer may roll it back. Still creates nothing.
            return self._read_as(folder, "rw")

    def _read_as(self, folder: int, mode: str) -> PairHistory:
        with _opened(folder, mode) as database:
            database.execute("BEGIN")
            if not _has_format(database):
                return PairHistory()
            kept = _details(database)
            self._check_source(kept)
            counts = _counts(database, "SELECT name, label, value FROM totals")
            last_counts = _counts(database, "SELECT name, label, value FROM last_counts")
            row = database.execute(
                "SELECT result, folders, duration_seconds, last_attempt_timestamp_seconds,"
                " last_success_timestamp_seconds FROM last_cycle"
            ).fetchone()
        if row is None:
            return PairHistory(counts=counts)
        try:
            return PairHistory(
                counts=counts,
                result=Result(row[0]),
                tally=tally_of(last_counts, folders=int(row[1])),
                duration_seconds=float(row[2]),
                last_attempt_timestamp_seconds=float(row[3]),
                last_success_timestamp_seconds=float(row[4]),
                **_remarks_of(kept),
            )
        except (TypeError, ValueError) as error:
            raise _Unusable(reason_text(error)) from error

    def _start_anew(self, folder: int, why: _Unusable, finished: PairFinished) -> bool:
        other = isinstance(why, _OfAnotherSource)
        try:
            aside = _set_aside(folder, "earlier" if other else "broken")
        except OSError as error:
            self._failed("history", f"{self._path} cannot be used ({why}) nor moved aside: {reason_text(error)}")
            return False
        aside = os.path.join(os.path.dirname(self._path), aside)
        if other and self._emit is not None:
            reason = f"the history was that of the source {why}; it is now {aside}"
            self._emit(HistoryBegunAnew(cycle_id=finished.cycle_id, pair=finished.pair, reason=reason))
        elif not other:
            self._failed("history", f"{self._path} could not be used ({why}): it is now {aside}, counting begins anew")
        return True


def _details(database: sqlite3.Connection) -> dict[str, Any]:
    """Read what is kept besides counts; what cannot be read of it is left out."""
    if not database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'details'").fetchone()[0]:
        return {}
    found = {}
    for name, value in database.execute("SELECT name, value FROM details"):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            found[str(name)] = json.loads(value)
    return found


def _remarks_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Make the fields of a `PairHistory` of what is kept; what is not as it was written is left out."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(TypeError, ValueError):
        fields["result_since_timestamp_seconds"] = float(kept.get("since", 0.0))
    with contextlib.suppress(TypeError):
        fields["trouble"] = Trouble(*map(str, kept["trouble"])) if kept.get("trouble") else None
    with contextlib.suppress(TypeError, ValueError):
        fields["failing"] = tuple(
            Failing(os.fsencode(path), str(reason), str(error)) for path, reason, error in kept.get("failing", ())
        )
    return fields


@contextlib.contextmanager
def _opened(folder: int, mode: str) -> Iterator[sqlite3.Connection]:
    try:
        database = sqlite_file.connect(FILE_NAME, folder, mode, timeout=_BUSY_SECONDS)
    except sqlite_file.HostileJournalError as error:
        raise _Unusable(reason_text(error)) from error
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        yield database
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _WRONG_CONTENT:
            raise _Unusable(reason_text(error)) from error
        raise
    finally:
        # Closing rolls back what was not committed.
        database.close()


def _set_aside(folder: int, ending: str) -> str:
    """Give the file in an open folder another name, and tell which. Raises `OSError`."""
    taken = set(os.listdir(folder))
    names = [f"{FILE_NAME}.{ending}-{number}" for number in range(1, _MOST_BROKEN + 1)]
    aside = next((name for name in names if name not in taken), names[-1])
    # The journal first: left behind, it would be played into the new file.
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{FILE_NAME}-journal", f"{aside}-journal", src_dir_fd=folder, dst_dir_fd=folder)
    os.rename(FILE_NAME, aside, src_dir_fd=folder, dst_dir_fd=folder)
    return aside


def _has_format(database: sqlite3.Connection) -> bool:
    """Tell whether the file holds our format; False when it is empty, `_Unusable` when it holds something else."""
    if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        message = "it is another program's database"
        raise _Unusable(message)
    if version != _FORMAT:
        message = f"its format is {version}, this Truecopy knows {_FORMAT}"
        raise _Unusable(message)
    return True


def _counts(database: sqlite3.Connection, query: str) -> dict[tuple[str, str], int]:
    counts = {}
    for name, label, value in database.execute(query):
        if not (isinstance(name, str) and isinstance(label, str) and isinstance(value, int)):
            message = "a count is no number"
            raise _Unusable(message)
        counts[name, label] = value
    return counts
