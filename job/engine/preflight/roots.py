"""Anchor: what was true of a pair's roots when they were opened, asked again before anything is believed (invariant 6).

Where a disk is unmounted in mid-run, or another one mounted over it, the open roots go on to work: but what is copied
comes from, or goes to, a place that nobody sees.

The claim on a mirror: the lock in its own `.truecopy`, where instances meet whatever their state folders are.

A mirror that may sleep is claimed before the first write to it and not before, so that nothing but its root is looked
at until then. Every other mirror is claimed at the gate.

Devices: see that a mirror folder lies on the file system on which it was found when the cycle began.
"""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER
from job.core.outcome import reason_text
from job.engine.context import PairContext
from job.errors import JobError
from job.fs import mounts
from job.locking import lock

if TYPE_CHECKING:
    from job.locking.lease import Lease

_SOURCE_HINT = "Look at its mount; nothing in the mirror was removed, and the next cycle looks at everything again."
_MIRROR_HINT = "Look at its mount; what was committed before stays valid, and the next cycle looks at everything again."

_CLAIM_HINT = "Leave it there while an instance works; what was committed before stays valid."
_LEASE_HINT = "Look whether another machine backs up to the same mirror; what was committed before stays valid."


class RootLost(JobError):
    """A root is not what it was, or not ours any more: nothing more can be done for the pair."""


def recheck_roots(
    pair: Pair, source: int, mirror: int, lease: "Lease | None" = None, claim: "Claim | None" = None
) -> None:
    """Insist that the paths of a pair still lead to its open roots, and that these are ours. Raises `RootLost`."""
    for noun, path, opened, hint in (
        ("source", pair.source, source, _SOURCE_HINT),
        ("mirror", pair.dest, mirror, _MIRROR_HINT),
    ):
        try:
            there = os.stat(path)
        except OSError as error:
            raise RootLost(f"the {noun} {path} went away in mid-run: {reason_text(error)}", hint=hint) from error
        if not os.path.samestat(there, os.fstat(opened)):
            message = f"the {noun} {path} is not the folder any more that it was: unmounted, mounted over or replaced"
            raise RootLost(message, hint=hint)
    if claim is not None and (why := claim.why_lost()):
        raise RootLost(f"the lock on the mirror {pair.dest} is lost: {why}", hint=_CLAIM_HINT)
    if lease is not None and (why := lease.why_lost()):
        raise RootLost(f"the lease on the mirror {pair.dest} is lost: {why}", hint=_LEASE_HINT)


class ClaimedMirror(NamedTuple):
    """What is open while a mirror is claimed."""

    home: int
    """Its `.truecopy`."""
    lock: int
    """The locked file in it."""


class Claim:
    """The claim of one instance on an open mirror."""

    def __init__(self, mirror: int, take: Callable[[], ClaimedMirror]) -> None:
        """`take` takes the lock and keeps everything open that it gives; it raises `Refused` and `Busy`."""
        self._mirror = mirror
        self._take = take
        self.held: ClaimedMirror | None = None
        """What is open; None before the mirror is claimed."""

    def __call__(self) -> ClaimedMirror:
        """Claim the mirror, if that is not done yet. Raises `Refused` and `Busy`, with nothing written but in ours."""
        if self.held is None:
            self.held = self._take()
        return self.held

    def why_lost(self) -> str:
        """Say why the mirror is not ours alone any more; empty if it is, or was not claimed yet."""
        if self.held is None or lock.is_held(self.held.lock, self._mirror, b"/".join((STATE_FOLDER, lock.NAME))):
            return ""
        return f"{STATE_FOLDER.decode('ascii')}/{lock.NAME.decode('ascii')} was removed or replaced in mid-run"


class DeviceCheck:
    """Knows the device numbers of one mirror. Any other one was mounted since, or is a subvolume of btrfs."""

    def __init__(self, context: PairContext) -> None:
        self._roots = [context.mirror_root, *(each.root for each in context.mounted)]
        self._own = os.fstat(context.mirror_root).st_dev
        self._known: dict[tuple[int, int], bool] = {}

    def check(self, folder: int, device: int, volume: int) -> None:
        """Insist that an open folder, with such a device number, lies on a file system, given by its number.

        Raises `OSError` if it does not: what is copied there would not be synced.
        """
        if device == self._own and not volume:
            return
        key = device, volume
        if key not in self._known:
            self._known[key] = self._is_meant(folder, volume)
        if not self._known[key]:
            why = "another file system than before is mounted there in the mirror; the next cycle takes it in"
            raise OSError(errno.ESTALE, why)

    def _is_meant(self, folder: int, volume: int) -> bool:
        found, meant = mounts.mount_of(folder), mounts.mount_of(self._roots[volume])
        # Where the kernel does not say there is no list of mounts either, and all of the mirror is taken for one.
        return found is None or meant is None or found.device == meant.device
