"""Counts of a batch, a cycle (`Tally`) and all cycles of a pair (`PairHistory`, stored by `store/history.py`). Pure."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from job.core.outcome import RENAMED, BrakeReason, Drift, Failure, Result, Skip
from job.core.stored_values import UNUSABLE, number_of, seconds_of, text_of

NO_COUNTS: Mapping[Any, int] = {}


class Counts:
    """A mutable tally."""

    def __init__(self) -> None:
        self.copied = self.updated = self.bytes_copied = self.folders = self.attributes_unread = 0
        self.skipped: Counter[Skip] = Counter()
        self.failed: Counter[Failure] = Counter()
        self.drift: Counter[Drift] = Counter()

    def tally(self) -> "Tally":
        """Return the counts as a value."""
        return Tally(
            copied=self.copied,
            updated=self.updated,
            bytes_copied=self.bytes_copied,
            folders=self.folders,
            attributes_unread=self.attributes_unread,
            skipped_by=dict(self.skipped),
            failed_by=dict(self.failed),
            drift_by=dict(self.drift),
        )


class Tally(NamedTuple):
    """Entries by outcome. Folders are counted apart and are in none of the other counts.

    `copied + updated + skipped + failed == entries`; an unreadable folder is one failed entry.
    """

    copied: int = 0
    updated: int = 0
    bytes_copied: int = 0
    folders: int = 0
    skipped_by: Mapping[Skip, int] = NO_COUNTS
    failed_by: Mapping[Failure, int] = NO_COUNTS
    drift_by: Mapping[Drift, int] = NO_COUNTS
    attributes_unread: int = 0
    """Source entries whose attributes could not be read; the entry has an outcome besides."""

    @property
    def skipped(self) -> int:
        """Entries that were not copied and did not fail."""
        return sum(self.skipped_by.values())

    @property
    def failed(self) -> int:
        """Entries that could not be mirrored."""
        return sum(self.failed_by.values())

    @property
    def entries(self) -> int:
        """Entries that are not folders, and unreadable folders."""
        return self.copied + self.updated + self.skipped + self.failed

    def __add__(self, other: "Tally") -> "Tally":  # type: ignore[override]  # not a longer tuple
        """Sum two tallies."""
        return Tally(
            copied=self.copied + other.copied,
            updated=self.updated + other.updated,
            bytes_copied=self.bytes_copied + other.bytes_copied,
            folders=self.folders + other.folders,
            skipped_by=dict(Counter(self.skipped_by) + Counter(other.skipped_by)),
            failed_by=dict(Counter(self.failed_by) + Counter(other.failed_by)),
            drift_by=dict(Counter(self.drift_by) + Counter(other.drift_by)),
            attributes_unread=self.attributes_unread + other.attributes_unread,
        )


CountsByName = Mapping[tuple[str, str], int]
"""Counts by metric name (without prefix) and the value of its second label, empty if it has none."""


class PairProblem(NamedTuple):
    """Why a cycle of a pair was refused, held, busy or failed."""

    event: str
    """`pair_refused`, `brake_held`, `pair_busy` or `pair_failed`."""
    reason: str
    """A value of `core.outcome.Refusal` for a refused pair, of `BrakeReason` for a held one, otherwise empty."""
    error: str
    """The logged message."""
    hint: str
    """The next step."""


class FailedEntry(NamedTuple):
    """An entry that failed."""

    path: bytes
    """Relative to the source."""
    reason: str
    """A value of `core.outcome.Failure`."""
    error: str


class HeldPlan(NamedTuple):
    """What the brake of a pair holds back until a person approves it."""

    reason: str
    """A value of `core.outcome.BrakeReason`."""
    files: int
    """Contents that would be replaced or retired."""
    plan: str
    """The hash of these changes."""
    examples: tuple[str, ...]
    """Some of their paths, in printable form."""
    since_timestamp_seconds: float
    """End of the first cycle that was held."""
    approved_timestamp_seconds: float = 0.0
    """When a person approved this plan; 0 for not yet. The next cycle carries it out."""

    @property
    def is_active(self) -> bool:
        """Whether it waits for a person."""
        return not self.approved_timestamp_seconds


MOST_FAILING = 5
"""Failed entries of a cycle that are stored by name."""


class CycleDetails(NamedTuple):
    """The stored facts of a cycle besides its counts."""

    trouble: PairProblem | None = None
    failing: tuple[FailedEntry, ...] = ()
    versions: tuple[int, int] | None = None
    """Files and bytes of the mirror's versions; None if they were not counted."""
    orphans: tuple[int, int] | None = None
    """Files in the mirror that left the source, and their bytes; None if they are as before."""
    hold: HeldPlan | None = None
    """Set if the cycle was held."""
    has_no_hold: bool = False
    """Whether an earlier hold ended: nothing is left of it, or the brake is off."""


NO_DETAILS = CycleDetails()


class PairHistory(NamedTuple):
    """The past cycles of a pair; all zero before the first."""

    counts: CountsByName = NO_COUNTS
    """Sums over all cycles, including restarts and one-shot runs."""
    result: Result | None = None
    """How the last cycle ended; None before the first."""
    tally: Tally = Tally()
    """Counts of the last cycle."""
    duration_seconds: float = 0.0
    """Duration of the last cycle."""
    last_attempt_timestamp_seconds: float = 0.0
    """End of the last cycle, with any result, in seconds since the epoch; 0 for never."""
    last_success_timestamp_seconds: float = 0.0
    """End of the last cycle that copied and checked everything; 0 for never."""
    trouble: PairProblem | None = None
    """Set if the last cycle was refused, held, busy or failed."""
    failing: tuple[FailedEntry, ...] = ()
    """The first failed entries of the last cycle, at most `MOST_FAILING`."""
    hold: HeldPlan | None = None
    """What is held back, or was approved and is not done yet."""
    result_since_timestamp_seconds: float = 0.0
    """End of the first of the latest consecutive cycles with this `result`, in seconds since the epoch; 0 for never."""
    versions_files: int = 0
    """Number of the mirror's versions when they were last counted."""
    versions_bytes: int = 0
    orphans_files: int = 0
    """Files in the mirror that left the source, as far as cycles noticed."""
    orphans_bytes: int = 0

    def joined(self, other: "PairHistory") -> "PairHistory":
        """Add a second history of the same pair; the later of both last cycles is the last."""
        first, last = sorted((self, other), key=lambda each: each.last_attempt_timestamp_seconds)
        counts = Counter(first.counts)
        counts.update(last.counts)
        same = first.result is last.result and first.result_since_timestamp_seconds
        return last._replace(
            counts=dict(counts),
            last_success_timestamp_seconds=max(each.last_success_timestamp_seconds for each in (first, last)),
            hold=last.hold or first.hold,
            result_since_timestamp_seconds=(first if same else last).result_since_timestamp_seconds,
            versions_files=last.versions_files or first.versions_files,
            versions_bytes=last.versions_bytes or first.versions_bytes,
        )


NO_HISTORY = PairHistory()


def counts_of(tally: Tally) -> dict[tuple[str, str], int]:
    """Return the counters of a tally, without zeros."""
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


def tally_of(counts: CountsByName, *, folders: int = 0) -> Tally:
    """Rebuild a tally from its counters; `folders` has no counter."""
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


def cycle_details_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored details as fields of a `PairHistory`; invalid ones are left out."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(*UNUSABLE):
        fields["result_since_timestamp_seconds"] = seconds_of(kept.get("since", 0.0))
    with contextlib.suppress(*UNUSABLE):
        trouble = PairProblem(*map(text_of, kept["trouble"])) if kept.get("trouble") else None
        fields["trouble"] = trouble and trouble._replace(reason=RENAMED.get(trouble.reason, trouble.reason))
    with contextlib.suppress(*UNUSABLE):
        fields["failing"] = tuple(
            FailedEntry(path.encode("utf-8", "surrogateescape"), text_of(reason), text_of(error))
            for path, reason, error in kept.get("failing", ())
        )
    for name in ("versions", "orphans"):
        with contextlib.suppress(*UNUSABLE):
            files, size = map(number_of, kept.get(name, (0, 0)))
            fields |= {f"{name}_files": files, f"{name}_bytes": size}
    fields["hold"] = held_plan_of(kept.get("hold"))
    return fields


def held_plan_of(kept: Any) -> HeldPlan | None:
    """Return a stored plan; None if there is none, or it is invalid."""
    with contextlib.suppress(*UNUSABLE):
        reason, files, plan, examples, since, approved = kept
        return HeldPlan(
            str(BrakeReason(reason)),
            number_of(files),
            text_of(plan),
            tuple(map(text_of, examples)),
            seconds_of(since),
            seconds_of(approved),
        )
    return None


def hold_after(before: HeldPlan | None, result: Result, cycle_details: CycleDetails) -> HeldPlan | None:
    """Return the plan of a pair after a cycle. Only a cycle that judged everything ends a hold."""
    if cycle_details.has_no_hold or result is Result.SUCCESS:
        return None
    if cycle_details.hold is None:
        return before
    if before is None:
        return cycle_details.hold
    # An approval that came while the same changes were held once more stays.
    approved = before.approved_timestamp_seconds if before.plan == cycle_details.hold.plan else 0.0
    since = before.since_timestamp_seconds if before.is_active else cycle_details.hold.since_timestamp_seconds
    return cycle_details.hold._replace(since_timestamp_seconds=since, approved_timestamp_seconds=approved)
