"""The history of a pair: counts of all its cycles, in `history.sqlite3` beside its index.

A file that cannot be used is set aside, counting starts again, and that is reported. No error here stops a cycle, and
the state folder is never created here, so an unmounted mirror stays untouched (invariant 6).
"""

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from job.core.counts import (
    NO_DETAILS,
    CountsByName,
    CycleDetails,
    PairHistory,
    counts_of,
    cycle_details_of,
    held_plan_of,
    hold_after,
    tally_of,
)
from job.core.outcome import Result, reason_text
from job.core.stored_values import number_of, seconds_of
from job.events.base import Listener
from job.events.pair import HistoryReset, PairFinished
from job.fs.dircursor import closing_fd
from job.fs.own_files import open_own_folder
from job.fs.trusted_path import UntrustedPath, open_trusted_parent
from job.store import sqlite
from job.store.history_schema import (
    ADD,
    APPLICATION_ID,
    DETAILS,
    FILE_NAME,
    FORMAT,
    KEPT,
    SCHEMA,
    SET_LAST,
    UnusableHistoryError,
    counts_in,
    details,
    has_format,
    opened,
)
from job.store.pair_records import ResolvedPath
from job.store.sqlite import Connection

_TOTALS = "SELECT name, label, value FROM totals"

Failed = Callable[[str, str], None]


class _OtherSourceError(UnusableHistoryError):
    """The file is the history of another pair; the message is its source."""


class OtherMirrors(NamedTuple):
    """Other mirrors of the pair, which take turns with this one: the pair is backed up when one of them is."""

    state_folders: Sequence[str]
    """Those that can be reached without their mirror."""
    last_success: Callable[[], float]
    """Returns the newest success on any mirror, in seconds since the epoch; 0 for never."""


class History:
    """The history of one pair, in its state folder.

    `failed` is called with "history" and a sentence if the history cannot be read or written; errors of the disk are
    not raised. If `source` is given, a history of another source in the same folder is moved aside, and `emit` gets an
    event. While the state folder cannot be reached or written, cycles are recorded in the folder that `fallback` opens
    (`make`: whether to create it); `read` adds up both, and those of `others`.
    """

    def __init__(
        self,
        folder: str,
        *,
        failed: Failed,
        source: ResolvedPath | None = None,
        fallback: Callable[..., int] | None = None,
        others: OtherMirrors | None = None,
        emit: Listener | None = None,
    ) -> None:
        self._folder = folder
        self._path = os.path.join(folder, FILE_NAME)
        self._failed = failed
        self._source = source
        self._fallback = fallback
        self._others = others
        self._emit = emit

    def add(self, finished: PairFinished, deltas: CountsByName, cycle_details: CycleDetails = NO_DETAILS) -> bool:
        """Add to the counters and store the cycle, in one transaction, so that no process loses another's counts.

        If the state folder cannot be used, the fallback folder is: `status` must not show an earlier, better cycle.
        Returns False if nothing was stored: the state folder is missing, or the reason was reported.
        """
        try:
            folder = self._open()
        except OSError as error:
            if self._fallback is None and not isinstance(error, FileNotFoundError):
                self._failed("history", f"{self._path}: {reason_text(error)}")
            return self._add_to_fallback(finished, deltas, cycle_details)
        # A refused pair does not own the mirror, so the history of its owner stays.
        yields = finished.result is Result.REFUSED and self._fallback is not None
        with closing_fd(folder), suppress(_OtherSourceError):
            if self._add_in(folder, finished, deltas, cycle_details, yields=yields):
                return True
        return self._add_to_fallback(finished, deltas, cycle_details)

    def _add_to_fallback(self, finished: PairFinished, deltas: CountsByName, cycle_details: CycleDetails) -> bool:
        if self._fallback is None:
            return False
        try:
            folder = self._fallback(make=True)
        except OSError:
            return False  # reported when the pair records are used
        with closing_fd(folder):
            return self._add_in(folder, finished, deltas, cycle_details)

    def _add_in(
        self,
        folder: int,
        finished: PairFinished,
        deltas: CountsByName,
        cycle_details: CycleDetails,
        *,
        yields: bool = False,
    ) -> bool:
        """Add to the history in an open folder. Raises `_OtherSourceError` only if `yields`."""
        for attempt in (1, 2):
            try:
                sqlite.make(FILE_NAME, folder)
                self._write(folder, finished, deltas, cycle_details)
            except UnusableHistoryError as error:
                if yields and isinstance(error, _OtherSourceError):
                    raise
                if not self._replace_file(folder, error, finished, again=attempt > 1):
                    return False
            except (OSError, sqlite3.Error) as error:
                if not isinstance(error, FileNotFoundError):
                    self._failed("history", f"{self._path}: {reason_text(error)}")
                return False
            else:
                return True
        raise AssertionError

    def count(self, deltas: CountsByName) -> bool:
        """Add to the counters of an existing history, outside any cycle. Returns False if nothing was stored."""
        try:
            folder = self._open()
        except OSError:
            return False
        try:
            with closing_fd(folder):
                os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
                with opened(folder, "rw") as database:
                    database.execute("BEGIN IMMEDIATE")
                    if not has_format(database):
                        return False
                    database.executemany(ADD, [(name, label, value) for (name, label), value in deltas.items()])
                    database.execute("COMMIT")
        except FileNotFoundError:
            return False
        except (UnusableHistoryError, OSError, sqlite3.Error) as error:
            self._failed("history", f"{self._path}: {reason_text(error)}")
            return False
        return True

    def read(self) -> PairHistory:
        """Read the history; all zero if there is none or it cannot be read, which is reported."""
        found = self._read_here()
        if self._others is None:
            return found
        for folder in self._others.state_folders:
            found = found.joined(History(folder, failed=self._failed, source=self._source).read())
        newest = max(found.last_success_timestamp_seconds, self._others.last_success())
        return found._replace(last_success_timestamp_seconds=newest)

    def _read_here(self) -> PairHistory:
        elsewhere = self._read_fallback()
        try:
            folder = self._open()
        except OSError as error:
            # An untrusted link is named by the refusal.
            if not isinstance(error, UntrustedPath) and error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                self._failed("history", f"{self._path}: {error.strerror}")
            return elsewhere or PairHistory()
        with closing_fd(folder):
            here = self._read_in(folder)
        return here.joined(elsewhere) if elsewhere else here

    def _read_fallback(self) -> PairHistory | None:
        if self._fallback is None:
            return None
        try:
            with closing_fd(self._fallback(make=False)) as folder:
                os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
                return self._read_in(folder)
        except OSError:
            return None

    def _read_in(self, folder: int) -> PairHistory:
        try:
            os.stat(FILE_NAME, dir_fd=folder, follow_symlinks=False)
            return self._read(folder)
        except _OtherSourceError:
            return PairHistory()
        except (UnusableHistoryError, sqlite3.Error) as error:
            self._failed("history", f"{self._path}: {reason_text(error)}")
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                self._failed("history", f"{self._path}: {reason_text(error)}")
        return PairHistory()

    def _open(self) -> int:
        # The preflight refuses a link or another user's folder as state folder, and links of others in its path;
        # the history of such a refusal must not be read or written there either.
        above, name = open_trusted_parent(self._folder)
        with closing_fd(above):
            return open_own_folder(name, above)

    def _write(self, folder: int, finished: PairFinished, deltas: CountsByName, cycle_details: CycleDetails) -> None:
        moment = finished.finished_timestamp_seconds
        last = {
            "result": str(finished.result),
            "folders": finished.tally.folders,
            "duration": finished.duration_seconds,
            "attempt": moment,
            "success": moment if finished.result is Result.SUCCESS else 0.0,
        }
        with opened(folder, "rw") as database:
            database.execute("BEGIN IMMEDIATE")
            if not has_format(database):
                for statement in SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {FORMAT}")
            counts_in(database, _TOTALS)  # invalid counts are not added to: they would stay invalid
            self._write_details(database, finished, cycle_details)
            database.executemany(ADD, [(name, label, value) for (name, label), value in deltas.items()])
            database.execute("DELETE FROM last_counts")
            rows = [(name, label, value) for (name, label), value in counts_of(finished.tally).items()]
            database.executemany("INSERT INTO last_counts VALUES (?, ?, ?)", rows)
            database.execute(SET_LAST, last)
            database.execute("COMMIT")

    def _write_details(self, database: Connection, finished: PairFinished, cycle_details: CycleDetails) -> None:
        """Store the details of a cycle; called before the last cycle is replaced."""
        database.execute(DETAILS)
        kept = details(database)
        self._check_source(kept)
        before = database.execute("SELECT result FROM last_cycle").fetchone()
        goes_on = before is not None and before[0] == str(finished.result) and "since" in kept
        wanted = {
            "source": self._source or kept.get("source"),
            "trouble": cycle_details.trouble,
            "failing": [[os.fsdecode(each.path), each.reason, each.error] for each in cycle_details.failing],
            "versions": cycle_details.versions or kept.get("versions", (0, 0)),
            "since": kept["since"] if goes_on else finished.finished_timestamp_seconds,
        }
        if cycle_details.orphans is not None:
            wanted["orphans"] = cycle_details.orphans
        hold = hold_after(held_plan_of(kept.get("hold")), finished.result, cycle_details)
        wanted |= {"hold": hold} if hold or "hold" in kept else {}
        changed = [(name, json.dumps(value)) for name, value in wanted.items()]
        changed = [(name, text) for name, text in changed if name not in kept or json.dumps(kept[name]) != text]
        database.executemany("INSERT OR REPLACE INTO details VALUES (?, ?)", changed)

    def _check_source(self, kept: Mapping[str, Any]) -> None:
        try:
            other = ResolvedPath(*map(str, kept.get("source") or ()))
        except TypeError:
            return
        if self._source is not None and not self._source.matches(other):
            raise _OtherSourceError(other.written)

    def _read(self, folder: int) -> PairHistory:
        try:
            return self._read_as(folder, "ro")
        except sqlite3.OperationalError:
            # A killed writer left a journal, which only a writer can roll back. This still creates no file.
            return self._read_as(folder, "rw")

    def _read_as(self, folder: int, mode: str) -> PairHistory:
        with opened(folder, mode) as database:
            database.execute("BEGIN")
            if not has_format(database):
                return PairHistory()
            kept = details(database)
            self._check_source(kept)
            counts = counts_in(database, _TOTALS)
            last_counts = counts_in(database, "SELECT name, label, value FROM last_counts")
            row = database.execute(
                "SELECT result, folders, duration_seconds, last_attempt_timestamp_seconds,"
                " last_success_timestamp_seconds FROM last_cycle"
            ).fetchone()
        if row is None:
            return PairHistory(counts=counts)
        result, folders, *times = row
        if result not in set(Result):
            raise UnusableHistoryError("how its last cycle ended is not known to this Truecopy")
        try:
            duration, attempt, success = map(seconds_of, times)
            tally = tally_of(last_counts, folders=number_of(folders))
        except ValueError as error:
            raise UnusableHistoryError(f"its last cycle has {reason_text(error)}") from error
        return PairHistory(
            counts=counts,
            result=Result(result),
            tally=tally,
            duration_seconds=duration,
            last_attempt_timestamp_seconds=attempt,
            last_success_timestamp_seconds=success,
            **cycle_details_of(kept),
        )

    def _replace_file(self, folder: int, why: UnusableHistoryError, finished: PairFinished, *, again: bool) -> bool:
        if again:
            self._failed("history", f"{self._path}: {reason_text(why)}")
            return False
        other = isinstance(why, _OtherSourceError)
        try:
            aside = sqlite.set_aside(FILE_NAME, folder, "earlier" if other else "broken", kept=KEPT)
        except OSError as error:
            self._failed("history", f"{self._path} cannot be used ({why}) nor moved aside: {reason_text(error)}")
            return False
        aside = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), aside)
        if other and self._emit is not None and finished.result is not Result.REFUSED:
            reason = f"the history was that of the source {why}; it is now {aside}"
            self._emit(HistoryReset(cycle_id=finished.cycle_id, pair=finished.pair, reason=reason))
        elif not other:
            self._failed("history", f"{self._path} could not be used ({why}): it is now {aside}, counting begins anew")
        return True
