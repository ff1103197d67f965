"""The events of a restore, made of its outcomes."""

from job.core.entry import printable
from job.engine.restore.tree import Outcome, Totals, What
from job.events.base import Event
from job.events.restore import FileNotRestored, FileRestored, FileRotten, RestoreStarted


def started(restore_id: str, pair: str, target: str, at: float, totals: Totals) -> RestoreStarted:
    """Return the event of a restore that begins."""
    return RestoreStarted(
        cycle_id=restore_id,
        pair=pair,
        target=target,
        at_timestamp_seconds=at,
        entries=totals.entries,
        bytes=totals.size,
    )


def event_of(restore_id: str, pair: str, outcome: Outcome) -> Event | None:
    """Return the event of one entry; None for one that the target has already."""
    path, version = outcome.path, "" if outcome.moment is None else outcome.moment.name.decode("ascii")
    match outcome.what:
        case What.EQUAL:
            return None
        case What.RESTORED | What.LIKELY:
            return FileRestored(
                cycle_id=restore_id,
                pair=pair,
                path=path,
                kind=outcome.kind,
                bytes=outcome.size,
                checksum=outcome.checksum,
                checked=outcome.is_checked,
                version=version,
                reason=outcome.reason,
                renamed=printable(outcome.beside),
            )
        case What.ROTTEN:
            return FileRotten(cycle_id=restore_id, pair=pair, path=path, version=version, error=outcome.reason)
        case _:
            return FileNotRestored(
                cycle_id=restore_id,
                pair=pair,
                path=path,
                kind=outcome.kind,
                reason=str(outcome.what),
                error=outcome.reason,
            )
