"""Judge what a scan of one pair found, and begin to hold it if it is too much."""

from contextlib import closing
from typing import TYPE_CHECKING

from job.core.entry import Entry
from job.core.file_systems import ByMount
from job.engine.brake.judge import View, judge
from job.engine.context import PairContext, PairRun
from job.engine.scan import ScanResult
from job.engine.versions.absence import Absence
from job.engine.versions.due_orphans import DueOrphans, confirmed, due_orphans
from job.fs.dircursor import DirCursor

if TYPE_CHECKING:
    from job.engine.brake.hold import Hold


def judge_scan(
    context: PairContext, run: PairRun, found: ScanResult, known: tuple[int, int], state: int | None
) -> "Hold | None":
    """Judge what a scan found; None if nothing is, or might have to be, held. Raises `OSError`.

    `known` are the number of entries in the index, and the mark of an earlier hold. Without a mark the history is read
    only if the index is new: it may have lost the mark.
    """
    brake, (known_files, mark), before = run.pair.brake, known, None
    if mark or not known_files:
        from job.engine.brake.stored import stored_hold  # noqa: PLC0415  # rarely needed

        before = stored_hold(context.index, state)
    if brake is None:
        if mark:
            from job.store.held_table import HeldTable  # noqa: PLC0415  # rarely needed

            HeldTable(context.index).store(0, {})
        return None
    with closing(DirCursor(context.source_root)) as sources:

        def hash_of(path: bytes, entry: Entry, algorithm: str) -> str:
            checksum, _ = context.tools.copier.checksum(entry, sources.goto(path), algorithm)
            return checksum

        mirror = ByMount(context.mirror, {each.point: each.mirror for each in context.tools.mounted})
        mounts, due = context.known_mounts, list[DueOrphans]()
        if not found.unlisted:  # else nothing is retired
            by_index = due_orphans(context.index, run.pair, mounts.former, context.started_ns / 1e9)
            due = confirmed(by_index, Absence(context.source, context.source_root, mounts, mirror.at))
        view = View(context, run.pair, mirror, due, hash_of)
        verdict = judge(view, found, known_files, before)
    if verdict.reason is None and (before is None or not before.is_any):
        return None
    from job.engine.brake.hold import Hold  # noqa: PLC0415  # few cycles replace so much
    from job.engine.brake.stored import StoredHold  # noqa: PLC0415

    return Hold(context, run, before or StoredHold(), verdict, (known_files, len(found.unlisted)))
