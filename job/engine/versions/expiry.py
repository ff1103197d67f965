"""Let versions expire after a successful cycle: by `versions.keep`, then the oldest above `versions.most`.

Versions are unlinked first and their rows dropped after, so that this works on a full disk; a row without a version
counts for nothing, and the next check drops it. Before, the index gets the time since when not all contents are kept.
Nothing expires by a clock that is in doubt (`core/retention.doubt_clock`), nor in the first cycle after the rule
changed, which reports what would go.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing, suppress
from itertools import islice, pairwise
from math import inf
from zoneinfo import ZoneInfo

from job.config import fields
from job.config.settings import VersionsSettings
from job.core.entry import printable
from job.core.outcome import reason_text
from job.core.retention import ClockDoubt, KeepFor, Retention, doubt_clock, next_due, rule_text
from job.core.versions import Moment
from job.engine.context import PairContext, PairRun
from job.engine.versions.give_up import reclaim_for_index
from job.engine.versions.judge import Going, Judge, moments_of, what_goes
from job.events.pair import (
    ExpiryPostponed,
    Progressed,
    RetentionChanged,
    VersionsCounted,
    VersionsExpired,
    VersionsFromFuture,
    VersionsOverLimit,
)
from job.fs.version_tree import VersionTree, open_versions
from job.store.index import Schedule
from job.store.version_table import (
    CHECKED_ALL,
    CLOCK,
    DUE,
    RULE,
    SECONDS_BETWEEN_CHECKS,
    MomentRow,
    VersionsGone,
    VersionTable,
)

_DAY = 86400.0
_BETWEEN_STOPS = 1000
"""Versions that are removed before the run is asked again whether it has to stop."""
_REPORT_EVERY_NS = 200_000_000
_OFF = ""
"""The rule if no versions are kept."""


def rule_of(settings: VersionsSettings | None) -> str:
    """Return the rule of a pair."""
    return settings.rule if settings else _OFF


def expire(context: PairContext, run: PairRun, schedule: Schedule) -> None:
    """Let versions of a pair expire, after a success. Raises `RootLost`."""
    table, now = context.index.version_table, context.started_ns / 1e9
    facts: dict[str, float | str] = {CLOCK: now, DUE: now + SECONDS_BETWEEN_CHECKS}
    try:
        tree = open_versions(context.mirror_root, context.mirror_state)
        if tree is None:
            facts |= {DUE: inf, RULE: rule_of(run.pair.versions)}
            if gone := table.moments():
                table.forget(gone, now)
        else:
            with closing(tree):
                facts |= _Expiry(context, run, tree, table, now).go(schedule)
                files, size = table.extent()
                run.emit(VersionsCounted(**run.about, files=files, bytes=size))
    except OSError as error:
        # A damaged or locked index, or a disk that fails: the next check tries again.
        run.emit(ExpiryPostponed(**run.about, reason="failed", error=reason_text(error)))
    _note(context, run, table, facts)


def _note(context: PairContext, run: PairRun, table: VersionTable, facts: Mapping[str, float | str]) -> None:
    """Store facts; where a full disk has no room for them, versions are given up: else none would ever expire."""
    try:
        table.note(facts)
    except OSError:
        if reclaim_for_index(context, run):
            with suppress(OSError):  # the next cycle checks again
                table.note(facts)


def retention_of(settings: VersionsSettings, rows: Mapping[Moment, MomentRow], now: float, zone: str) -> Retention:
    """Return the rule of a mirror whose version folders have these rows."""
    return Retention(fields.keep(settings.keep), sorted(rows, key=lambda each: rows[each].ordinal), now, ZoneInfo(zone))


def limit_of(settings: VersionsSettings, folder: int) -> int:
    """Return the bytes that all versions may take on the disk of an open folder; 0 if its size is unknown."""
    found = os.fstatvfs(folder)
    return fields.most_versions(settings.most).in_bytes(found.f_blocks * found.f_frsize)


def words_of(rule: str) -> str:
    """Return a stored rule in words."""
    keep, _, most = rule.partition("\n")
    if not most:
        return "off"
    with suppress(ValueError):
        keep = rule_text(fields.keep(keep))
    return f"{keep}, at most {most}"


class _Expiry:
    """One check of the versions of a mirror."""

    def __init__(self, context: PairContext, run: PairRun, tree: VersionTree, table: VersionTable, now: float) -> None:
        self._context, self._run, self._tree, self._table, self._now = context, run, tree, table, now
        self._rows: dict[Moment, MomentRow] = {}
        self._expired: Counter[str] = Counter()
        self._bytes = 0
        self._error: OSError | None = None
        self._is_stopped = False
        self._reported_ns = 0
        self._ends = {moment: float(later.seconds) for moment, later in pairwise(tree.moments)}
        """Until when contents of a moment were replaced."""

    def go(self, schedule: Schedule) -> dict[str, float | str]:
        """Let versions expire; returns the facts to store."""
        settings = self._run.pair.versions
        if schedule.versions_rule != rule_of(settings):
            return self._note_rule(schedule.versions_rule, settings)
        if settings is None:
            return self._sweep_empty()
        last = self._context.read_last_cycle() or schedule.versions_clock or None
        interval = self._run.interval_seconds
        if doubt := doubt_clock(self._now, last, interval, self._context.read_disk_clock(self._tree)):
            self._run.emit(ExpiryPostponed(**self._run.about, reason=str(doubt), error=""))
            # A clock that was set is believed in the next cycle; two that differ are not.
            return {} if doubt is ClockDoubt.DISK else {DUE: self._now}
        self._refresh_rows()
        retention = retention_of(settings, self._rows, self._now, self._run.zone)
        checked = self._table.checked_all()
        at_all = not 0 <= self._now - checked < _DAY
        judge = Judge(self._tree, self._context.mirror_root, retention, moments_of(self._table, self._rows))
        with closing(judge):
            settled = self._expire(judge, retention, at_all=at_all)
            self._keep_to_limit(judge, settings, warns=at_all)
        if at_all and self._tree.moments:
            keep, oldest = fields.keep(settings.keep), float(self._tree.moments[0].seconds)
            with suppress(OSError):
                self._table.forget_unkept(self._now - keep.seconds if isinstance(keep, KeepFor) else oldest)
        self._report(retention, warns=at_all)
        facts: dict[str, float | str] = {CHECKED_ALL: self._now} if at_all else {}
        return facts | {DUE: self._next_due(settings, checked=self._now if at_all else checked, again=settled)}

    def _next_due(self, settings: VersionsSettings, *, checked: float, again: bool) -> float:
        if self._is_stopped:
            return self._now
        due = next_due(fields.keep(settings.keep), self._rows, self._now)
        due = min(due, checked + _DAY) if again else due
        if self._error is not None:
            due = self._now
        return max(due, self._now + SECONDS_BETWEEN_CHECKS)

    def _note_rule(self, before: str | None, settings: VersionsSettings | None) -> dict[str, float | str]:
        rule = rule_of(settings)
        if before is not None and words_of(before) != words_of(rule):
            self._refresh_rows()
            files = size = 0
            if settings is not None:
                for moment, folder, names in self._would_go(settings):
                    files += len(names)
                    size += self._tree.sizes(moment, folder, names)[0]
            about = {"before": words_of(before), "rule": words_of(rule)}
            self._run.emit(RetentionChanged(**self._run.about, **about, files=files, bytes=size))
        return {DUE: self._now, RULE: rule, CHECKED_ALL: 0.0}

    def _would_go(self, settings: VersionsSettings) -> Iterable[tuple[Moment, bytes, Collection[bytes]]]:
        retention = retention_of(settings, self._rows, self._now, self._run.zone)
        limit = limit_of(settings, self._tree.root)
        plan = what_goes(self._tree, self._context.mirror_root, self._table, self._rows, (retention, limit))
        return ((each.moment, each.folder, each.names) for each in plan)

    # Rows of version folders that do not exist, or have none ---------------------------------------------------------

    def _refresh_rows(self) -> None:
        existing, self._rows = frozenset(self._tree.moments), self._table.moments()
        if gone := self._rows.keys() - existing:
            with suppress(OSError):  # on a full disk the rows stay until the next check
                self._table.forget(gone, max(map(self._end, gone)))
        if new := existing - self._rows.keys():
            with suppress(OSError):
                self._table.adopt({moment: self._tree.extent(moment) for moment in new})
        if gone or new:
            self._rows = self._table.moments()
        unknown = {moment: MomentRow(0, 0, 0, 0) for moment in sorted(existing - self._rows.keys())}
        self._rows = unknown | {moment: row for moment, row in self._rows.items() if moment in existing}

    def _end(self, moment: Moment) -> float:
        return self._ends.get(moment, self._now)

    # Removal ---------------------------------------------------------------------------------------------------------

    def _expire(self, judge: Judge, retention: Retention, *, at_all: bool) -> bool:
        """Remove what expired; True if some of what was checked at stays."""
        standing = {moment: retention.standing(moment) for moment in self._tree.moments}
        candidates = {
            moment: number
            for moment, number in standing.items()
            if number is not None and (at_all or self._rows[moment].settled != number)
        }
        chunks = 0
        for found in judge.chunks(candidates):
            chunks += 1
            self._remove([*judge.going(found, lambda fate: fate.expires)])
            if self._is_stopped:
                return True
        if chunks > 1:  # a folder's names may have been in several
            for moment in candidates:
                self._prune_all(moment)
        left = {moment: number for moment, number in candidates.items() if moment in self._rows}
        if left and self._error is None:
            with suppress(OSError):
                self._table.settle(left)
        return any(number is not None and moment in self._rows for moment, number in standing.items())

    def _keep_to_limit(self, judge: Judge, settings: VersionsSettings, *, warns: bool) -> None:
        limit = limit_of(settings, self._tree.root)
        total = self._total()
        if not limit or total <= limit or self._is_stopped:
            return
        going: list[Going] = []
        for each in judge.above_limit(self._rows, total - limit):
            going.append(each)
            if not each.folder:  # the last one of its moment
                self._remove(going)
                going.clear()
        self._remove(going)
        if warns and self._total() > limit:
            self._run.emit(VersionsOverLimit(**self._run.about, bytes=self._total(), limit=limit))

    def _total(self) -> int:
        return sum(row.bytes for row in self._table.moments().values())

    def _remove(self, going: list[Going]) -> None:
        """Unlink versions and empty folders, and drop the rows."""
        if doomed := {each.moment for each in going if each.names}:
            self._context.recheck_roots()
            with suppress(OSError):  # a full disk: the rows are dropped when there is space again
                self._table.begin_to_drop(max(map(self._end, doomed)))
        gone: list[VersionsGone] = []
        for each in going:
            names, size = self._unlink(each)
            if self._is_stopped and not names:
                break
            is_emptied = self._tree.prune(each.moment, each.folder)
            if names or is_emptied:
                gone.append(VersionsGone(each.folder, each.moment, names, size, is_emptied))
            if is_emptied and not each.folder:
                self._rows.pop(each.moment, None)
        if gone:
            with suppress(OSError):
                self._table.drop(gone)

    def _unlink(self, going: Going) -> tuple[list[bytes], int]:
        """Unlink versions until the run is to stop; returns their names, and the sum of their sizes."""
        names: list[bytes] = []
        size, waiting = 0, iter(going.names)
        while True:
            self._is_stopped |= self._run.stop()
            some = [] if self._is_stopped else [*islice(waiting, _BETWEEN_STOPS)]
            if not some:
                break
            removed = self._tree.remove(going.moment, going.folder, some)
            self._error = self._error or removed.error
            names += removed.names
            size += removed.bytes
            self._expired.update(str(going.names[name]) for name in removed.names)
            self._report_progress()
        self._bytes += size
        return names, size

    def _report_progress(self) -> None:
        now_ns = self._run.now_ns()
        if abs(now_ns - self._reported_ns) >= _REPORT_EVERY_NS:
            self._reported_ns = now_ns
            cycle_id, pair = self._run.cycle_id, self._run.pair.name
            done = sum(self._expired.values())
            self._run.emit(Progressed(cycle_id=cycle_id, pair=pair, phase="expire", entries=done))

    def _prune_all(self, moment: Moment) -> None:
        """Remove the empty folders of a moment that several chunks had."""
        if moment in self._rows:
            folders = [folder for folder, names in self._tree.walk(moment) if not names]
            emptied = [folder for folder in sorted(folders, reverse=True) if self._tree.prune(moment, folder)]
            if emptied:
                with suppress(OSError):
                    self._table.drop([VersionsGone(folder, moment, (), 0, True) for folder in emptied])
            if b"" in emptied:
                self._rows.pop(moment, None)

    def _sweep_empty(self) -> dict[str, float | str]:
        """Remove empty folders where no versions are kept any more: those that are there stay."""
        self._refresh_rows()
        for moment in self._tree.moments:
            self._prune_all(moment)
        return {DUE: self._now + _DAY if self._rows else inf}

    def _report(self, retention: Retention, *, warns: bool) -> None:
        about = self._run.about
        if files := sum(self._expired.values()):
            self._run.emit(VersionsExpired(**about, files=files, bytes=self._bytes, by=dict(self._expired)))
        if self._error is not None:
            self._run.emit(ExpiryPostponed(**about, reason="failed", error=reason_text(self._error)))
        if warns and retention.future:
            folder = printable(retention.future[0].name)
            self._run.emit(VersionsFromFuture(**about, folders=len(retention.future), folder=folder))
