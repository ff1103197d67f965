"""Mounts: report once what is left out of a source and which file systems are missing in it, and remember it."""

from collections.abc import Iterator
from contextlib import suppress

from job.core.counts import Tally
from job.core.left_out import KnownMounts, LeftOut, Why
from job.core.outcome import Skip
from job.engine.context import Assignment, Bench
from job.engine.scan import Looked
from job.events.service import (
    BatchCommitted,
    Event,
    KernelFilesSkipped,
    MountForgotten,
    MountMissing,
    MountSkipped,
    OwnFilesSkipped,
)
from job.fs.listing import MountMissingError

_HINT = "mount it again; if it is gone for good, remove or exclude that folder, or put files of its own into it"


def settle_mounts(bench: Bench, found: Looked, work: Assignment) -> None:
    """Report what is new in what a look found, count what `cross_mounts` leaves out, and remember both.

    It is remembered before anything is copied: what is unmounted after a kill is missed, too.
    """
    known = bench.known_mounts
    left_out = frozenset(found.left_out)
    troubled = dict(found.unlisted)
    now = KnownMounts(found.mounts | _unsettled(known, found, troubled), left_out)
    for event in _news(known, now, troubled, work):
        work.emit(event)
    by_option = sum(1 for each in left_out if each.why is Why.MOUNT)
    if by_option:
        tally = Tally(skipped_by={Skip.MOUNT: by_option})
        work.emit(BatchCommitted(cycle_id=work.cycle_id, pair=work.pair.name, tally=tally))
    missing = frozenset(path for path, error in troubled.items() if isinstance(error, MountMissingError))
    now = now._replace(missing=missing)
    if now != known:
        # On a full disk, which the copies meet, too, the next cycle reports it once more.
        with suppress(OSError):
            bench.remember_mounts(now)


def _unsettled(known: KnownMounts, found: Looked, troubled: dict[bytes, OSError]) -> dict[bytes, str]:
    """Give the mounts of which this look says nothing: they, or a folder above them, could not be listed."""
    return {
        path: kind
        for path, kind in known.taken.items()
        if path not in found.mounts and any(above in troubled for above in _and_above(path))
    }


def _and_above(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield path


def _news(known: KnownMounts, now: KnownMounts, troubled: dict[bytes, OSError], work: Assignment) -> Iterator[Event]:
    cycle_id, pair = work.cycle_id, work.pair.name
    for each in sorted(now.left_out - known.left_out):
        yield _left_out(each, work)
    for path, kind in sorted(now.taken.items()):
        if isinstance(troubled.get(path), MountMissingError) and path not in known.missing:
            yield MountMissing(cycle_id=cycle_id, pair=pair, path=path, file_system=kind, hint=_HINT)
    out = {each.path for each in now.left_out}
    for path, kind in sorted(known.taken.items()):
        if path not in now.taken and out.isdisjoint(_and_above(path)):
            yield MountForgotten(cycle_id=cycle_id, pair=pair, path=path, file_system=kind)


def _left_out(each: LeftOut, work: Assignment) -> Event:
    cycle_id, pair, path = work.cycle_id, work.pair.name, each.path
    match each.why:
        case Why.MOUNT:
            return MountSkipped(cycle_id=cycle_id, pair=pair, path=path, file_system=each.kind)
        case Why.KERNEL:
            return KernelFilesSkipped(cycle_id=cycle_id, pair=pair, path=path, file_system=each.kind)
        case Why.OWN:
            return OwnFilesSkipped(cycle_id=cycle_id, pair=pair, path=path)
