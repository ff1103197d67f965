"""Anchor: what was true of a pair's roots when they were opened, asked again before anything is believed (invariant 6).

Where a disk is unmounted in mid-run, or another one mounted over it, the open roots go on to work: but what is copied
comes from, or goes to, a place that nobody sees.
"""

import os
from typing import TYPE_CHECKING

from job.config.settings import Pair
from job.core.outcome import reason_text
from job.errors import JobError

if TYPE_CHECKING:
    from job.engine.preflight.claim import Claim
    from job.locking.lease import Lease

_SOURCE_HINT = "Look at its mount; nothing in the mirror was removed, and the next cycle looks at everything again."
_MIRROR_HINT = "Look at its mount; what was committed before stays valid, and the next cycle looks at everything again."

_CLAIM_HINT = "Leave it there while an instance works; what was committed before stays valid."
_LEASE_HINT = "Look whether another machine backs up to the same mirror; what was committed before stays valid."


class PlaceLost(JobError):
    """A root is not what it was, or not ours any more: nothing more can be done for the pair."""


def check_place(
    pair: Pair, source: int, mirror: int, lease: "Lease | None" = None, claim: "Claim | None" = None
) -> None:
    """Insist that the paths of a pair still lead to its open roots, and that these are ours. Raises `PlaceLost`."""
    for noun, path, opened, hint in (
        ("source", pair.source, source, _SOURCE_HINT),
        ("mirror", pair.dest, mirror, _MIRROR_HINT),
    ):
        try:
            there = os.stat(path)
        except OSError as error:
            raise PlaceLost(f"the {noun} {path} went away in mid-run: {reason_text(error)}", hint=hint) from error
        if not os.path.samestat(there, os.fstat(opened)):
            message = f"the {noun} {path} is not the folder any more that it was: unmounted, mounted over or replaced"
            raise PlaceLost(message, hint=hint)
    if claim is not None and (why := claim.why_lost()):
        raise PlaceLost(f"the lock on the mirror {pair.dest} is lost: {why}", hint=_CLAIM_HINT)
    if lease is not None and (why := lease.why_lost()):
        raise PlaceLost(f"the lease on the mirror {pair.dest} is lost: {why}", hint=_LEASE_HINT)
