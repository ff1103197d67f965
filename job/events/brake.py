"""Events of the brake of one pair."""

from job.core.outcome import BrakeReason
from job.events.base import PairEvent


class BrakeHeld(PairEvent, level="error"):
    """The cycle would replace too much: new files were copied, nothing of the mirror was replaced or retired."""

    reason: BrakeReason
    files: int
    """Contents that would be replaced or retired."""
    known: int
    """Files in the index."""
    exempt: int
    """Contents that were replaced all the same, as `brake.exclude` leaves them out."""
    examples: tuple[str, ...]
    """Paths of ten of them, in printable form."""
    plan: str
    """The hash of these changes, which an approval releases."""
    tripped: bool
    """Whether it is new: the cycle before was not held."""
    error: str
    hint: str


class BrakeReleased(PairEvent):
    """A hold of the brake ended: its plan was approved and is done, or nothing is left to hold."""

    reason: str
