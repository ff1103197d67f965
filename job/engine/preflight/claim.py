"""The claim on a mirror: the lock in its own `.truecopy`, where instances meet whatever their state folders are.

A mirror that may sleep is claimed before the first write to it and not before, so that nothing but its root is looked
at until then. Every other mirror is claimed at the gate.
"""

from collections.abc import Callable
from typing import NamedTuple

from job.core.entry import STATE_FOLDER
from job.locking import lock


class Held(NamedTuple):
    """What is open while a mirror is claimed."""

    home: int
    """Its `.truecopy`."""
    lock: int
    """The locked file in it."""


class Claim:
    """The claim of one instance on an open mirror."""

    def __init__(self, mirror: int, take: Callable[[], Held]) -> None:
        """`take` takes the lock and keeps everything open that it gives; it raises `Refused` and `Busy`."""
        self._mirror = mirror
        self._take = take
        self.held: Held | None = None
        """What is open; None before the mirror is claimed."""

    def __call__(self) -> Held:
        """Claim the mirror, if that is not done yet. Raises `Refused` and `Busy`, with nothing written but in ours."""
        if self.held is None:
            self.held = self._take()
        return self.held

    def why_lost(self) -> str:
        """Say why the mirror is not ours alone any more; empty if it is, or was not claimed yet."""
        if self.held is None or lock.is_held(self.held.lock, self._mirror, b"/".join((STATE_FOLDER, lock.NAME))):
            return ""
        return f"{STATE_FOLDER.decode('ascii')}/{lock.NAME.decode('ascii')} was removed or replaced in mid-run"
