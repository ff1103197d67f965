"""Totals: what a pair has done since its first cycle. Kept by `adapters/history`, shown as metrics. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from job.core.outcome import Drift, Failure, Result, Skip
from job.core.tally import Tally

Counts = Mapping[tuple[str, str], int]
"""Counts by metric name (without its prefix) and the value of its second label, empty where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairHistory:
    """Everything kept of a pair's past cycles; all zero before the first."""

    counts: Counts = field(default_factory=dict)
    """Sums over all cycles, over restarts and one-shot runs too."""
    result: Result | None = None
    """How the last cycle ended; None before the first."""
    tally: Tally = field(default_factory=Tally)
    """What the last cycle did."""
    duration_seconds: float = 0.0
    """How long the last cycle took."""
    last_attempt_timestamp_seconds: float = 0.0
    """When the last cycle ended, in whatever way, in seconds since the epoch; 0 for never."""
    last_success_timestamp_seconds: float = 0.0
    """When a cycle last ended with everything copied and checked; 0 for never."""


def counts_of(tally: Tally) -> dict[tuple[str, str], int]:
    """Give a tally's part of the counters, without zeros."""
    counts = {
        ("files_copied_total", ""): tally.copied,
        ("files_updated_total", ""): tally.updated,
        ("bytes_copied_total", ""): tally.bytes_copied,
        ("attributes_unread_total", ""): tally.attributes_unread,
        **{("files_skipped_total", str(reason)): count for reason, count in tally.skipped_by.items()},
        **{("files_failed_total", str(reason)): count for reason, count in tally.failed_by.items()},
        **{("drift_found_total", str(kind)): count for kind, count in tally.drift_by.items()},
    }
    return {key: count for key, count in counts.items() if count}


def tally_of(counts: Counts, *, folders: int = 0) -> Tally:
    """Build the tally back from its counters; `folders` is the one count that is no counter."""
    return Tally(
        copied=counts.get(("files_copied_total", ""), 0),
        updated=counts.get(("files_updated_total", ""), 0),
        bytes_copied=counts.get(("bytes_copied_total", ""), 0),
        folders=folders,
        attributes_unread=counts.get(("attributes_unread_total", ""), 0),
        skipped_by={kind: counts[key] for kind in Skip if (key := ("files_skipped_total", str(kind))) in counts},
        failed_by={kind: counts[key] for kind in Failure if (key := ("files_failed_total", str(kind))) in counts},
        drift_by={kind: counts[key] for kind in Drift if (key := ("drift_found_total", str(kind))) in counts},
    )
