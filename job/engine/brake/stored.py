"""What the brake of a pair held in earlier cycles: its plan in the history, and the digests in the index.

The plan is in the history, so that an index that is lost releases nothing. The mark in the index is written before a
cycle holds anything, so that a kill releases nothing either. The digests that count are those of the plan's hash: an
approval of another plan approves none of them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from job.core.brake import plan_hash
from job.core.counts import HeldPlan
from job.core.outcome import BrakeReason
from job.store.held_plan import read_plan
from job.store.held_table import HeldRow, HeldTable, held_key
from job.store.index import Index

_NOTHING: frozenset[bytes] = frozenset()
_REASONS = tuple(BrakeReason)


class StoredHold(NamedTuple):
    """What is held, or was approved and is not done."""

    plan: HeldPlan | None = None
    rows: Mapping[bytes, HeldRow] = MappingProxyType({})
    mark: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything is held, or approved."""
        return bool(self.plan or self.mark)

    @property
    def is_approved(self) -> bool:
        """Whether a person approved exactly these rows."""
        return self.plan is not None and not self.plan.is_active and self.plan.plan == self.hash

    @property
    def is_held(self) -> bool:
        """Whether the pair stays held."""
        return self.is_any and not self.is_approved

    @property
    def hash(self) -> str:
        """The hash of the rows that wait for a person."""
        return plan_hash({key: row.waiting for key, row in self.rows.items()})

    @property
    def reason(self) -> BrakeReason:
        """Why the brake tripped."""
        if self.plan is not None:
            return BrakeReason(self.plan.reason)
        return _REASONS[min(self.mark, len(_REASONS)) - 1]

    def approved(self, path: bytes, part: int) -> frozenset[bytes]:
        """Return the approved digests of a folder."""
        row = self.rows.get(held_key(path, part)) if self.rows else None
        if row is None:
            return _NOTHING
        return row.all if self.is_approved else row.approved

    def known(self, path: bytes, part: int) -> frozenset[bytes]:
        """Return all digests of a folder."""
        row = self.rows.get(held_key(path, part)) if self.rows else None
        return _NOTHING if row is None else row.all


def mark_of(reason: BrakeReason) -> int:
    """Return the mark of a reason in the index."""
    return 1 + _REASONS.index(reason)


def stored_hold(index: Index, state: int | None) -> StoredHold:
    """Read what is held. Raises `OSError`."""
    mark = index.schedule().hold_mark
    plan = None if state is None else read_plan(state)
    return StoredHold(plan, HeldTable(index).rows() if plan or mark else {}, mark)
