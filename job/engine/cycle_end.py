"""The end of a pair's cycle: what left the source is retired, a hold is stored, versions expire or are counted."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from job.core.counts import Tally
from job.engine.context import PairContext, PairRun
from job.engine.preflight.root_check import Claim
from job.engine.scan import ScanResult
from job.events.pair import VersionsCounted
from job.store.index import Schedule

if TYPE_CHECKING:
    from job.engine.brake.hold import Hold


def end_cycle(
    context: PairContext,
    run: PairRun,
    done: "tuple[ScanResult, Tally, Hold | None]",
    before: tuple[Claim | None, Schedule],
) -> bool:
    """End a cycle with this scan, tally and hold; returns whether the brake holds anything. Raises as its parts do."""
    found, tally, hold = done
    is_held = hold is not None and hold.is_held
    if not is_held:
        _retire(context, run, found, tally, before)
    if hold is not None:
        hold.finish()
    _end_versions(context, run, tally, before, is_held=is_held)
    return is_held


def _retire(
    context: PairContext, run: PairRun, found: ScanResult, tally: Tally, before: tuple[Claim | None, Schedule]
) -> None:
    """Retire what left the source long enough ago, after a success with a complete scan; a sleeping disk sleeps on."""
    claim, schedule = before
    is_asleep = claim is not None and claim.held is None
    if run.pair.on_source_delete == "keep" or found.unlisted or tally.failed or is_asleep:
        return
    from job.engine.versions.due_orphans import retire_due  # noqa: PLC0415  # off by default

    retire_due(context, run, schedule.versions_clock, nullcontext if claim is None else claim.begin_to_write)


def _end_versions(
    context: PairContext, run: PairRun, tally: Tally, before: tuple[Claim | None, Schedule], *, is_held: bool
) -> None:
    """Let versions expire after a success that is not held, and count them if their number may have changed."""
    index, now, versions = context.index, context.started_ns / 1e9, run.pair.versions
    claim, schedule = before
    if index.has_new_versions:
        schedule = index.schedule()  # new ones may end the time of others
    is_due = now >= schedule.versions_due or now < schedule.versions_clock
    is_due |= schedule.versions_rule != (versions.rule if versions else "")
    is_asleep = claim is not None and claim.held is None
    if is_due and not (tally.failed or is_asleep or is_held):
        from job.engine.versions.expiry import expire  # noqa: PLC0415  # in most cycles nothing is due

        expire(context, run, schedule)
    elif index.has_new_versions:
        files, size = index.version_table.extent()
        run.emit(VersionsCounted(**run.about, files=files, bytes=size))
