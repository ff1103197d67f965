"""Report mounts that appeared or went missing in the source, once, and remember them."""

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress

from job.core.counts import Tally
from job.core.file_systems import KnownMounts, LeftOut, LeftOutReason
from job.core.outcome import Skip
from job.engine.context import PairContext, PairRun
from job.engine.scan import ScanResult, with_ancestors
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    MountForgotten,
    MountMissing,
    MountSkipped,
    OwnFilesSkipped,
    PseudoFilesystemSkipped,
)
from job.fs.dircursor import DirCursor
from job.fs.large_dir import names_in
from job.fs.listing import MountMissingError

_HINT = "mount it again; if it is gone for good, remove or exclude that folder, or put files of its own into it"


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
    ended = known.mounted.keys() - now.mounted.keys() if known.mounted else ()
    former = known.former.union(ended) - now.mounted.keys()
    now = now._replace(missing=missing, former=frozenset(_still_empty(context.source_root, former)))
    context.known_mounts = now
    if now != known:
        # If the disk is full, the next cycle reports it again; copies meet the same error.
        with suppress(OSError):
            context.save_mounts(now)


def _still_empty(source: int, paths: Iterable[bytes]) -> Iterator[bytes]:
    """Yield those paths of the source at which there is no folder with an entry, or of which that is unknown."""
    with closing(DirCursor(source)) as cursor:
        for path in paths:
            try:
                is_empty = not any(names_in(cursor.goto(path)))
            except OSError:
                is_empty = True
            if is_empty:
                yield path


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
