"""Back up all pairs of a cycle, one after the other.

Of each pair: preflight, scan of the source against the index and the mirror, sync of the changed folders with commits,
summary. Mounts that appeared or went missing in the source are reported once and remembered.
"""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from job.config.settings import Config, Pair
from job.core.counts import Tally
from job.core.entry import STATE_FOLDER, Kind, parent_of
from job.core.file_systems import LOCAL_TYPES
from job.core.mirror_identity import MirrorVerdict
from job.core.outcome import Failure, Refusal, Result, failure_of, reason_text, worst
from job.engine.context import PairContext, PairRun, Progress
from job.engine.cycle_end import end_cycle
from job.engine.dispatch.parallel_scan import scan_tree
from job.engine.dispatch.worker_supervisor import WorkerSupervisor
from job.engine.preflight import overlap, presence
from job.engine.preflight.identity import MirrorSwapped
from job.engine.preflight.open_pair import Roots, open_pair
from job.engine.preflight.root_check import Claim
from job.engine.scan import ScanDepth, ScanResult, scan_depths
from job.engine.source_mounts import report_mounts
from job.errors import Busy, JobError, Refused, Stopped
from job.events.base import Event, Listener
from job.events.pair import (
    BatchCommitted,
    FileFailed,
    FoldersUnchanged,
    HistoryReset,
    LeaseTakenOver,
    MirrorAdopted,
    MirrorCreated,
    MirrorNotRecorded,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    StateFolderLost,
)
from job.events.service import CycleFinished, CycleStarted
from job.fs.dircursor import DirCursor
from job.fs.large_dir import is_temp_name, remove_staged, remove_temps
from job.fs.listing import MirrorUnmountedError, MountMissingError, Unlisted
from job.store.memory import Memory
from job.system.sandbox import Sandbox

if TYPE_CHECKING:
    from job.engine.brake.hold import Hold

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
    memory: Memory | None = None
    """What is remembered of pairs outside their mirrors."""


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
        interval_seconds=config.longest_interval,
        zone=config.timezone,
    )

    claims: list[Claim] = []

    def attempt(run: PairRun) -> Result | None:
        def work(emit: Listener) -> Result | None:
            return _run_guarded(run._replace(emit=emit), config.state_dir, cycle, refusal, claims)

        return work(listener) if cycle.sandbox is None else cycle.sandbox.run(work, listener)

    result = attempt(run)
    if result is None:
        # Opened anew and awake, it is judged before the sandbox, by what is remembered.
        result = attempt(run._replace(pair=pair._replace(mirror_check="awake"))) or Result.BUSY
    if result is Result.SUCCESS and listener.tally.failed:
        result = Result.PARTIAL
    now_ns = cycle.now_ns()
    if cycle.memory is not None:
        for claim in claims[-1:]:
            success = now_ns / 1e9 if result is Result.SUCCESS else None
            cycle.memory.end_cycle(claim.mirror_id, claim.mark, success)
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


def _run_guarded(
    run: PairRun, state_dir: str | None, cycle: CycleContext, refusal: Refused | None, claims: list[Claim]
) -> Result | None:
    """Back up one pair; `claims` gets its claim. Returns None if the mirror was swapped: it is to be opened anew."""
    try:
        is_held = _run_pair(run, state_dir, cycle, refusal, claims)
    except Stopped:
        return Result.STOPPED
    except Refused as error:
        reason = Refusal(error.reason)
        run.emit(PairRefused(**run.about, reason=reason, error=error.message, hint=error.hint))
        return Result.REFUSED
    except Busy as error:
        run.emit(PairBusy(**run.about, error=error.message, hint=error.hint))
        return Result.BUSY
    except MirrorSwapped:
        return None
    except Exception as error:  # noqa: BLE001  # a bug met in one pair must not stop the others
        text, hint = _failure_of_pair(error)
    else:
        return Result.HELD if is_held else Result.SUCCESS
    run.emit(PairFailed(**run.about, error=text, hint=hint))
    return Result.FAILED


def _failure_of_pair(error: Exception) -> tuple[str, str]:
    """Return the text and the hint for an error that aborted a pair."""
    if isinstance(error, JobError):
        return error.message, error.hint
    if isinstance(error, OSError):
        return reason_text(error), "Look at the disks of the source and the mirror; what was committed stays valid."
    trace = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error}", f"This is a bug; please report it with what follows. {trace}"


def _run_pair(
    run: PairRun, state_dir: str | None, cycle: CycleContext, refusal: Refused | None, claims: list[Claim]
) -> bool:
    if refusal is not None:
        raise refusal
    with open_pair(run.pair, state_dir, run.now_ns() / 1e9, run.stop, cycle.memory or Memory()) as roots:
        if roots.claim is not None:
            claims.append(roots.claim)
        _report_preflight(roots, run)
        if cycle.sandbox is not None:
            cycle.sandbox.restrict(roots.source, roots.mirror, roots.state)
        return _sync_pair(run, roots, cycle.open_context)


def _report_preflight(roots: Roots, run: PairRun) -> None:
    about, admitted = run.about, roots.admitted
    if admitted is not None and admitted.verdict is MirrorVerdict.MAKE:
        run.emit(MirrorCreated(**about, mirror=run.pair.dest))
    if admitted is not None and admitted.verdict is not MirrorVerdict.GO_ON:
        compared = admitted.verdict is MirrorVerdict.COMPARE
        run.emit(MirrorAdopted(**about, mirror=run.pair.dest, mirror_id=admitted.mirror_id, compared=compared))
    if admitted is not None and admitted.lost:
        run.emit(StateFolderLost(**about, error=admitted.lost))
    if roots.state_reset:
        run.emit(HistoryReset(**about, reason=roots.state_reset))
    if roots.not_recorded:
        run.emit(MirrorNotRecorded(**about, mirror=run.pair.dest, error=roots.not_recorded))
    if roots.lease is not None and roots.lease.left_by:
        run.emit(LeaseTakenOver(**about, left_by=roots.lease.left_by))


def _sync_pair(run: PairRun, roots: Roots, open_context: OpenContext) -> bool:
    """Scan and sync; returns whether the brake holds anything."""
    progress = Progress(run)
    now_ns = run.now_ns()
    listener = _TallyListener(run.emit)
    run = run._replace(emit=listener)
    with open_context(run, roots, progress) as context:
        known, schedule = context.index.entry_count(), context.index.schedule()
        seen = presence.check_source(context.source, known, run.pair, context.mirror_root)
        _sweep(context, roots.claim)
        depth, rescan_depth = scan_depths(run.pair, schedule.audited, now_ns / 1e9)
        audit = depth is ScanDepth.AUDIT
        brake = run.pair.brake is not None
        run.emit(PairStarted(**run.about, source=run.pair.source, mirror=run.pair.dest, audit=audit, brake=brake))
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
                _close_unlisted(context, found.unlisted, run)
            report_mounts(context, found, run)
            progress.start_sync(found)
            hold = _judged(context, run, found, (known, schedule.hold_mark), roots.state)
            if found.changed:
                hold = _carry_out(context, run, roots, (progress, hold), found, supervisor)
        context.recheck_roots()  # no batch was committed if nothing had changed
        if depth is ScanDepth.AUDIT:
            context.index.set_audited(now_ns / 1e9)
        return end_cycle(context, run, (found, listener.tally, hold), (roots.claim, schedule))


def _carry_out(
    context: PairContext,
    run: PairRun,
    roots: Roots,
    progress_and_hold: tuple[Progress, "Hold | None"],
    found: ScanResult,
    supervisor: WorkerSupervisor | None,
) -> "Hold | None":
    """Sync the changed folders, in a mirror that has the mark of this cycle; returns what the brake holds."""
    if roots.claim is not None:
        roots.claim.begin_to_write()
    # A run without changes, as most are, does not load what copies: half of its time.
    from job.engine.dispatch.dispatcher import Dispatcher  # noqa: PLC0415

    progress, hold = progress_and_hold
    return Dispatcher(context, run, progress).run(found, supervisor, hold)


def _judged(context: PairContext, run: PairRun, found: ScanResult, known: tuple[int, int], state: int) -> "Hold | None":
    """Return what the brake holds in this cycle; None for nothing, as in nearly all. `known` are entries and a mark."""
    pair, (entries, mark), retired = run.pair, known, 0
    if pair.on_source_delete == "retire":
        from job.engine.versions.due_orphans import due_extent  # noqa: PLC0415  # off by default

        retired, _ = due_extent(context.index, pair, context.known_mounts.former, context.started_ns / 1e9)
    can_trip = pair.brake is not None and (
        not entries or pair.brake.canary or found.may_trip(pair.brake.files, pair.brake.share, entries, retired)
    )
    if not mark and not (can_trip and (found.changed or retired)):
        return None
    from job.engine.brake.after_scan import judge_scan  # noqa: PLC0415  # few cycles change so much

    return judge_scan(context, run, found, known, state)


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


def _close_unlisted(context: PairContext, folders: list[Unlisted], run: PairRun) -> None:
    from job.engine.copy.permissions import close_unread  # noqa: PLC0415  # rare, and loads what copies

    _report_unlisted(folders, run)
    close_unread(context, folders)


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
