"""What the mirror had at a path at a given time: its entry now, one of the versions, or nothing. Pure.

A content stood from when the mirror got it until it was replaced or removed. The index knows both times, and that the
next content has the end of the one before as its start. Without an index only the names of the version folders tell
when contents were replaced, and an answer says how sure it is.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from job.core.entry import Kind, kind_of
from job.core.versions import Moment, VersionReason, VersionRow

_FOREVER, _EVER = float("inf"), float("-inf")


class Kept(NamedTuple):
    """A content that can be restored."""

    moment: Moment | None
    """The version folder that has it; None for the mirror itself."""
    kind: Kind
    since: float | None = None
    """When the mirror got it, in seconds since the epoch; None if unknown."""
    is_since_exact: bool = True
    """Whether the mirror did not have it before `since`: the ctime of a copy is moved by a chmod."""
    until: float | None = None
    """When it was replaced or removed; None if only the version folder tells."""
    replaced_another: bool = False
    """Whether it took the place of another content."""

    @property
    def end(self) -> float:
        """When it was replaced or removed; infinity for the mirror's own."""
        if self.moment is None:
            return _FOREVER
        return float(self.moment.seconds) if self.until is None else self.until

    def stood(self, at: float) -> bool:
        """Return whether it is known to have stood at a time."""
        is_end_known = self.moment is None or self.until is not None
        return is_end_known and self.since is not None and self.since <= at < self.end


def kept_version(row: VersionRow, moment: Moment) -> Kept | None:
    """Return a version as the index has it; None for one that is not kept."""
    if row.why is VersionReason.EXCLUDED:
        return None
    since = row.since_ns / 1e9 if row.since_ns else None
    return Kept(moment, kind_of(row.mode), since, until=row.until_ns / 1e9, replaced_another=row.replaced_another)


class Sureness(StrEnum):
    """How sure an answer is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    """Nothing contradicts it, and a part of the records is missing."""
    NOT_KEPT = "not_kept"
    """Something stood there then, or may have, and is not kept any more."""
    ABSENT = "absent"
    """Nothing stood there then."""


class Answer(NamedTuple):
    """What the mirror had at a path."""

    kept: Kept | None
    """The content to restore; None if none is kept."""
    sureness: Sureness
    reason: str
    """In words."""


def content_at(kept: Iterable[Kept], at: float, complete_since: float) -> Answer:
    """Return what stood at a path at the time `at`, in seconds since the epoch.

    `kept` are all versions of the path, and the mirror's entry if there is one. No content that was replaced after
    `complete_since` has been given up.
    """
    in_order = sorted(kept, key=_order)
    # A folder in which versions lie has no times of its own, and only seems to have ended with its cycle.
    found = next((each for each in in_order if each.stood(at)), None)
    found = found or next((each for each in in_order if each.end > at), None)
    is_complete = at >= complete_since
    if found is None:
        return _nothing_later(in_order, is_complete=is_complete)
    if found.since is None:
        return _without_start(found, in_order, at, is_complete=is_complete)
    if found.since <= at:
        return Answer(found, Sureness.CERTAIN, "it stood there then")
    if not found.is_since_exact:
        return Answer(found, Sureness.LIKELY, "it may be newer: only its last change is known")
    if found.replaced_another:
        return Answer(None, Sureness.NOT_KEPT, "what stood there then is not kept any more")
    if is_complete:
        return Answer(None, Sureness.ABSENT, "it was new later")
    return Answer(None, Sureness.NOT_KEPT, "it was new later, and not all versions of that time are known")


def _order(each: Kept) -> tuple[float, Moment]:
    return each.end, each.moment or Moment(0)


def _nothing_later(in_order: Sequence[Kept], *, is_complete: bool) -> Answer:
    what = "it was removed before" if in_order else "nothing is known of it"
    if is_complete and in_order and in_order[-1].until is None:
        return Answer(None, Sureness.LIKELY, f"{what}, as far as the version folders tell")
    if is_complete:
        return Answer(None, Sureness.ABSENT, what)
    return Answer(None, Sureness.NOT_KEPT, f"{what}, and not all versions of that time are known")


def _without_start(found: Kept, in_order: Sequence[Kept], at: float, *, is_complete: bool) -> Answer:
    if is_complete and any(each.end <= at for each in in_order):
        return Answer(found, Sureness.LIKELY, "it is the first content that was replaced after that time")
    return Answer(found, Sureness.LIKELY, "it may be newer: the index does not know since when it stands")


def others(kept: Iterable[Kept], not_this: Kept, at: float) -> list[Kept]:
    """Return the other contents of a path, those nearest to a time first: offers in place of a rotten one."""

    def distance(each: Kept) -> tuple[float, float]:
        start = _EVER if each.since is None else each.since
        return max(start - at, at - each.end, 0.0), each.end

    return sorted((each for each in kept if each != not_this), key=distance)


def may_hold_entries(answer: Answer) -> bool:
    """Return whether entries below a path can be restored with it: it was a folder then, or nothing sure."""
    return answer.kept is None or answer.kept.kind is Kind.FOLDER or answer.sureness is not Sureness.CERTAIN
