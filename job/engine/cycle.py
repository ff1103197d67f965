"""Back up all pairs of a cycle, one after the other.

Of each pair: preflight, scan of the source against the index and the mirror, sync of the changed folders with commits,
summary. Mounts that appeared or went missing in the source are reported once and remembered.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from typing import NamedTuple

from job.config.settings import Config, Pair
from job.core.counts import Tally
from job.core.entry import STATE_FOLDER, Kind, parent_of
from job.core.file_systems import LOCAL_TYPES, KnownMounts, LeftOut, LeftOutReason
from job.core.outcome import Failure, Refusal, Result, Skip, failure_of, reason_text, worst
from job.engine.context import PairContext, PairRun, Progress
from job.engine.dispatch.parallel_scan import scan_tree
from job.engine.dispatch.worker_supervisor import WorkerSupervisor
from job.engine.preflight import overlap, presence
from job.engine.preflight.open_pair import Roots, open_pair
from job.engine.preflight.root_check import Claim
from job.engine.scan import ScanDepth, ScanResult, scan_depths, with_ancestors
from job.errors import Busy, JobError, Refused, Stopped
from job.events.base import Event, Listener
from job.events.pair import (
    BatchCommitted,
    FileFailed,
    FoldersUnchanged,
    HistoryReset,
    LeaseTakenOver,
    MirrorCreated,
    MirrorNotRecorded,
    MountForgotten,
    MountMissing,
    MountSkipped,
    OwnFilesSkipped,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    PseudoFilesystemSkipped,
    StateFolderLost,
)
from job.events.service import CycleFinished, CycleStarted
from job.fs.dircursor import DirCursor
from job.fs.large_dir import is_temp_name, remove_staged, remove_temps
from job.fs.listing import MirrorUnmountedError, MountMissingError, Unlisted
from job.store.pair_records import PairRecords
from job.system.sandbox import Sandbox

_HINT = "mount it again; if it is gone for good, remove or exclude that folder, or put files of its own into it"


OpenContext = Callable[[PairRun, Roots, Progress], AbstractContextManager[PairContext]]
"""Opens the context of a pair that passed the preflight."""


def run_cycle(config: Config, cycle: "CycleContext") -> Result:
    """Back up every pair in turn; the failure of one does not affect the others."""
    pairs = config.effective_pairs
    started_ns = cycle.now_ns()
    cycle.emit(CycleStarted(cycle_id=cycle.cycle_id, pairs=tuple(pair.name for pair in pairs)))
    results, total = [], Tally()
    conflicts = overlap.mirror_conflicts((*pairs, *cycle.left_out))
    for pair in pairs:
        result, tally = back_up_pair(pair, config, cycle, conflicts.get(pair.name))
        results.append(result)
        total += tally
        if result is Result.STOPPED:
            break
    result = worst(results)
    seconds = max(0.0, (cycle.now_ns() - started_ns) / 1e9)
    cycle.emit(CycleFinished(cycle_id=cycle.cycle_id, result=result, tally=total, duration_seconds=seconds))
    return result


class CycleContext(NamedTuple):
    """The surroundings of a cycle."""

    cycle_id: str
    emit: Callable[[Event], None]
    stop: Callable[[], bool]
    now_ns: Callable[[], int]
    open_context: OpenContext
    verbose: bool = False
    sandbox: Sandbox | None = None
    cores: int = 1
    """The number of workers where the config sets none."""
    left_out: tuple[Pair, ...] = ()
    """Configured pairs that are not backed up in this cycle; a mirror shared with one of them is refused."""
    records: PairRecords | None = None
    """The records of pairs outside their mirrors."""


class _TallyListener:
    """Adds up the tallies of a pair's events, so that the summary agrees with the counters."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.emit = emit
        self.tally = Tally()

    def __call__(self, event: Event) -> None:
        if isinstance(event, BatchCommitted):
            self.tally += event.tally
        self.emit(event)


def back_up_pair(
    pair: Pair, config: Config, cycle: CycleContext, refusal: Refused | None = None
) -> tuple[Result, Tally]:
    """Back up one pair, unless it has a `refusal` already. Raises nothing."""
    started_ns = cycle.now_ns()
    listener = _TallyListener(cycle.emit)
    run = PairRun(
        cycle.cycle_id,
        pair,
        listener,
        cycle.stop,
        cycle.now_ns,
        verbose=cycle.verbose,
        # The rate limit belongs to one process; shared out, part of it would go unused.
        workers=1 if pair.rate_limit else config.workers or cycle.cores,
        workers_from=config.workers_from,
        stall_seconds=config.stall_timeout,
    )

    def work(emit: Listener) -> Result:
        return _run_guarded(run._replace(emit=emit), config.state_dir, cycle, refusal)

    result = work(listener) if cycle.sandbox is None else cycle.sandbox.run(work, listener)
    if result is Result.SUCCESS and listener.tally.failed:
        result = Result.PARTIAL
    now_ns = cycle.now_ns()
    run.emit(
        PairFinished(
            **run.about,
            result=result,
            tally=listener.tally,
            duration_seconds=max(0.0, (now_ns - started_ns) / 1e9),
            finished_timestamp_seconds=now_ns / 1e9,
        )
    )
    return result, listener.tally


def _run_guarded(run: PairRun, state_dir: str | None, cycle: CycleContext, refusal: Refused | None) -> Result:
    try:
        _run_pair(run, state_dir, cycle, refusal)
    except Stopped:
        return Result.STOPPED
    except Refused as error:
        reason = Refusal(error.reason)
        run.emit(PairRefused(**run.about, reason=reason, error=error.message, hint=error.hint))
        return Result.REFUSED
    except Busy as error:
        run.emit(PairBusy(**run.about, error=error.message, hint=error.hint))
        return Result.BUSY
    except JobError as error:
        text, hint = error.message, error.hint
    except OSError as error:
        text = reason_text(error)
        hint = "Look at the disks of the source and the mirror; what was committed stays valid."
    except Exception as error:  # noqa: BLE001  # a bug met in one pair must not stop the others
        text = f"{type(error).__name__}: {error}"
        hint = f"This is a bug; please report it with what follows. {traceback.format_exc()}"
    else:
        return Result.SUCCESS
    run.emit(PairFailed(**run.about, error=text, hint=hint))
    return Result.FAILED


def _run_pair(run: PairRun, state_dir: str | None, cycle: CycleContext, refusal: Refused | None) -> None:
    if refusal is not None:
        raise refusal
    with open_pair(run.pair, state_dir, run.now_ns() / 1e9, run.stop, cycle.records or PairRecords()) as roots:
        _report_preflight(roots, run)
        if cycle.sandbox is not None:
            cycle.sandbox.restrict(roots.source, roots.mirror, roots.state)
        _sync_pair(run, roots, cycle.open_context)


def _report_preflight(roots: Roots, run: PairRun) -> None:
    about = run.about
    if roots.mirror_created:
        run.emit(MirrorCreated(**about, mirror=run.pair.dest))
    if roots.state_lost:
        run.emit(StateFolderLost(**about, error=roots.state_lost))
    if roots.state_reset:
        run.emit(HistoryReset(**about, reason=roots.state_reset))
    if roots.not_recorded:
        run.emit(MirrorNotRecorded(**about, mirror=run.pair.dest, error=roots.not_recorded))
    if roots.lease is not None and roots.lease.left_by:
        run.emit(LeaseTakenOver(**about, left_by=roots.lease.left_by))


def _sync_pair(run: PairRun, roots: Roots, open_context: OpenContext) -> None:
    progress = Progress(run)
    now_ns = run.now_ns()
    with open_context(run, roots, progress) as context:
        known = context.index.entry_count()
        seen = presence.check_source(context.source, known, run.pair, context.mirror_root)
        _sweep(context, roots.claim)
        depth, rescan_depth = scan_depths(run.pair, context.index.audited, now_ns / 1e9)
        audit = depth is ScanDepth.AUDIT
        run.emit(PairStarted(**run.about, source=run.pair.source, mirror=run.pair.dest, audit=audit))
        found = None if depth is rescan_depth else _scan_source_only(context, run, progress, depth)
        if found is None or found.changed:
            depth = rescan_depth
            if roots.claim is not None:
                roots.claim()  # before workers start, which write
        with _supervisor(context, run) as supervisor:
            if found is None or found.changed:
                found = scan_tree(context, run.pair, progress.scanned, depth, supervisor, known)
            _drop_rows_of_server(found, roots.source_type)
            if not found.unlisted:
                presence.check_still_there(seen, found.entries, found.folders, run.pair)
            _report_unchanged(found.tally, run)
            if found.unlisted:
                from job.engine.copy.permissions import close_unread  # noqa: PLC0415  # rare, and loads what copies

                _report_unlisted(found.unlisted, run)
                close_unread(context, found.unlisted)
            report_mounts(context, found, run)
            progress.start_sync(found)
            if found.changed:
                # A run without changes, as most are, does not load what copies: half of its time.
                from job.engine.dispatch.dispatcher import Dispatcher  # noqa: PLC0415

                Dispatcher(context, run, progress).run(found, supervisor)
        context.recheck_roots()  # no batch was committed if nothing had changed
        if depth is ScanDepth.AUDIT:
            context.index.set_audited(now_ns / 1e9)


def _sweep(context: PairContext, claim: Claim | None) -> None:
    """Remove what the temp journal has, under a claim on the mirror, so that none of it is in use.

    Errors are ignored: a folder that is still in the source is swept again when it is synced.
    """
    with suppress(OSError):
        noted = context.temp_journal.noted()
        if not noted:
            return
        if claim is not None:
            claim()
        from job.engine.versions.interrupted import fulfil, is_intent, sweep_versions  # noqa: PLC0415  # rare

        for intent in filter(is_intent, noted):  # before temps are removed
            with suppress(OSError, ValueError):
                fulfil(intent, context.mirror_root)
        with closing(DirCursor(context.mirror_root)) as cursor:
            for path in dict.fromkeys(each for each in noted if not is_intent(each)):
                with suppress(OSError, ValueError):  # the folder is gone, or the journal entry is foreign
                    above, _, last = path.rpartition(b"/")
                    if path.startswith(STATE_FOLDER + b"/"):
                        remove_temps(cursor.goto(path))
                        sweep_versions(path, context.mirror_root)
                    elif is_temp_name(name := above.rpartition(b"/")[2]):  # a staged folder and its inode number
                        remove_staged(name, cursor.goto(parent_of(above)), int(last, 16))
                    else:
                        remove_temps(cursor.goto(path))
        context.temp_journal.clear_all()


def _drop_rows_of_server(found: ScanResult, source_type: str) -> None:
    """Let the folders of a server be listed again: servers have returned short listings without an error."""
    if source_type not in LOCAL_TYPES:
        found.packed.clear()


def _scan_source_only(context: PairContext, run: PairRun, progress: Progress, depth: ScanDepth) -> ScanResult:
    """Scan the source, and of the mirror its root only, without claiming the mirror: a sleeping disk stays asleep."""
    with _supervisor(context, run) as supervisor:
        return scan_tree(context, run.pair, progress.scanned, depth, supervisor, context.index.entry_count())


def _supervisor(context: PairContext, run: PairRun) -> AbstractContextManager[WorkerSupervisor | None]:
    if context.create_worker_pool is None or run.workers == 1:
        return nullcontext()
    return closing(WorkerSupervisor(context.create_worker_pool, run))


def _report_unchanged(tally: Tally, run: PairRun) -> None:
    entries = tally.entries
    if not entries and not tally.folders:
        return
    run.emit(FoldersUnchanged(**run.about, folders=tally.folders, entries=entries))
    run.emit(BatchCommitted(**run.about, tally=tally))


def _report_unlisted(folders: list[Unlisted], run: PairRun) -> None:
    """Report unreadable folders; their mirrors are left alone, since the content below them is unknown."""
    failed: dict[Failure, int] = {}
    for path, error in folders:
        if isinstance(error, FileNotFoundError):
            continue  # it vanished after its parent was listed; the next cycle decides
        reason = failure_of(error)
        failed[reason] = failed.get(reason, 0) + 1
        own = isinstance(error, (MirrorUnmountedError, MountMissingError))
        text = f"{'' if own else 'the folder cannot be read: '}{reason_text(error)}"
        run.emit(FileFailed(**run.about, path=path, kind=Kind.FOLDER, reason=reason, error=text))
    if failed:
        run.emit(BatchCommitted(**run.about, tally=Tally(failed_by=failed)))


def report_mounts(context: PairContext, found: ScanResult, run: PairRun) -> None:
    """Report new mounts and other left-out folders, count those left out by `cross_mounts`, and save all of them.

    They are saved before the first copy, so that a mount lost after a kill is missed, too.
    """
    known = context.known_mounts
    left_out = frozenset(found.left_out)
    troubled = dict(found.unlisted)
    now = KnownMounts(found.mounts | _unlisted_mounts(known, found, troubled), left_out)
    for event in _mount_events(known, now, troubled, run):
        run.emit(event)
    by_option = sum(1 for each in left_out if each.why is LeftOutReason.MOUNT)
    if by_option:
        run.emit(BatchCommitted(**run.about, tally=Tally(skipped_by={Skip.MOUNT: by_option})))
    missing = frozenset(path for path, error in troubled.items() if isinstance(error, MountMissingError))
    now = now._replace(missing=missing)
    if now != known:
        # If the disk is full, the next cycle reports it again; copies meet the same error.
        with suppress(OSError):
            context.save_mounts(now)


def _unlisted_mounts(known: KnownMounts, found: ScanResult, troubled: dict[bytes, OSError]) -> dict[bytes, str]:
    """Return the known mounts that this scan could not see: they, or a folder above them, could not be listed."""
    return {
        path: kind
        for path, kind in known.mounted.items()
        if path not in found.mounts and any(above in troubled for above in with_ancestors(path))
    }


def _mount_events(
    known: KnownMounts, now: KnownMounts, troubled: dict[bytes, OSError], run: PairRun
) -> Iterator[Event]:
    for each in sorted(now.left_out - known.left_out):
        yield _left_out_event(each, run)
    for path, kind in sorted(now.mounted.items()):
        if isinstance(troubled.get(path), MountMissingError) and path not in known.missing:
            yield MountMissing(**run.about, path=path, file_system=kind, hint=_HINT)
    out = {each.path for each in now.left_out}
    for path, kind in sorted(known.mounted.items()):
        if path not in now.mounted and out.isdisjoint(with_ancestors(path)):
            yield MountForgotten(**run.about, path=path, file_system=kind)


def _left_out_event(each: LeftOut, run: PairRun) -> Event:
    match each.why:
        case LeftOutReason.MOUNT:
            return MountSkipped(**run.about, path=each.path, file_system=each.kind)
        case LeftOutReason.KERNEL:
            return PseudoFilesystemSkipped(**run.about, path=each.path, file_system=each.kind)
        case LeftOutReason.OWN:
            return OwnFilesSkipped(**run.about, path=each.path)
