"""Which orphans are due to be retired, by the index alone: they are confirmed in the source before they are moved.

An orphan is due once it has been missing for `retire_after`, and in two complete scans, of which the present one is the
last. What was a mount point of the source, or has one below it, is never due: an unplugged disk is no deletion.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from job.config import fields
from job.config.settings import Pair
from job.core.entry import Kind, join
from job.core.outcome import reason_text
from job.core.retention import ClockDoubt, doubt_clock, may_retire
from job.core.versions import OrphanRow
from job.engine.context import PairContext, PairRun
from job.engine.versions.absence import Absence
from job.events.pair import FileNotRetired, OrphansCounted
from job.store.index import Index


class DueOrphans(NamedTuple):
    """The orphans of one mirror folder that are due."""

    folder: bytes
    rows: dict[bytes, OrphanRow]
    """By name."""


def due_orphans(index: Index, pair: Pair, former: Collection[bytes], now: float) -> Iterator[DueOrphans]:
    """Yield what is due at the end of a complete scan at the time `now`, in seconds since the epoch.

    `former` are the former mount points of the source. Raises `OSError`.
    """
    if pair.on_source_delete != "retire":
        return
    table, after = index.orphans, fields.waiting_time(pair.retire_after)
    scan = table.scans + 1
    for folder in table.folders(int((now - after) * 1e9)):
        rows = {
            name: row
            for name, row in table.named(folder).items()
            if may_retire(row, now, scan, after) and not was_mount(join(folder, name), former)
        }
        if rows:
            yield DueOrphans(folder, rows)


def confirmed(due: Iterable[DueOrphans], absence: Absence) -> list[DueOrphans]:
    """Return what the source really does not have now, of what is due by the index."""
    found = [(each.folder, each.rows, absence.of(each.folder, each.rows)) for each in due]
    return [DueOrphans(folder, {name: rows[name] for name in absent}) for folder, rows, absent in found if absent]


def due_extent(index: Index, pair: Pair, former: Collection[bytes], now: float) -> tuple[int, int]:
    """Return how many files, and bytes, the end of a cycle would retire at most, before it does. Raises `OSError`.

    Nothing but the index is read: a few queries, and the rows of what is due.
    """
    files = size = 0
    for due in due_orphans(index, pair, former, now):
        files += sum(row.files for row in due.rows.values())
        size += sum(row.size for row in due.rows.values())
    return files, size


def retire_due(context: PairContext, run: PairRun, clock: float, begin_to_write: Callable[[], object]) -> None:
    """Retire what is due at the end of a complete cycle; count its scan if an orphan waits for that.

    `clock` is a time that the clock showed before, 0 for none. Raises `RootLost` and `Stopped`.
    """
    orphans, now = context.index.orphans, context.started_ns / 1e9
    try:
        due = due_orphans(context.index, run.pair, context.known_mounts.former, now)
        is_waiting, first, doubt = orphans.waits_since(orphans.scans), next(due, None), None
        if first is not None:
            last = context.read_last_cycle() or max(clock, orphans.scan_time) or None
            doubt = doubt_clock(now, last, run.interval_seconds, None)
        if first is not None and doubt is None:
            begin_to_write()
            from job.engine.versions.retire import Retirement  # noqa: PLC0415  # mostly nothing is due

            with closing(Retirement(context, run)) as retirement:
                retirement.go(*first)
                for each in due:
                    retirement.go(*each)
            context.temp_journal.clear()
            files, size = orphans.extent()
            run.emit(OrphansCounted(**run.about, files=files, bytes=size))
        if is_waiting or doubt is ClockDoubt.AHEAD:  # then the clock is believed in the next cycle
            orphans.count_scan(now)
    except OSError as error:  # a damaged or locked index, or a full disk: the next cycle tries again
        run.emit(FileNotRetired(**run.about, path=b"", kind=Kind.FOLDER, error=reason_text(error)))


def was_mount(path: bytes, former: Collection[bytes]) -> bool:
    """Return whether a path was a mount point of the source, or is above or below one."""
    return any(path == each or path.startswith(each + b"/") or each.startswith(path + b"/") for each in former)
