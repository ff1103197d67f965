"""Check both roots during a run, before results are trusted, and claim the mirror (invariant 6).

After an unmount, or a mount over a root, the open descriptors still work, but copies come from, or go to, a folder that
no path leads to. The claim on a mirror is the lock in its `.truecopy`, because instances may have different state
folders; a mirror that may sleep is claimed before the first write. No file system may be mounted in it meanwhile.
"""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER
from job.core.mirror_identity import CycleMark
from job.core.outcome import reason_text
from job.engine.context import PairContext
from job.errors import JobError
from job.fs import mounts
from job.locking import lock
from job.store.pair_records import IDENTITY_FILE

if TYPE_CHECKING:
    from job.engine.preflight.identity import HeldIdentity
    from job.locking.lease import Lease

_SOURCE_HINT = "Look at its mount; nothing in the mirror was removed, and the next cycle looks at everything again."
_MIRROR_HINT = "Look at its mount; what was committed before stays valid, and the next cycle looks at everything again."

_CLAIM_HINT = "Leave these files there while an instance works; what was committed before stays valid."
_LEASE_HINT = "Look whether another machine backs up to the same mirror; what was committed before stays valid."


class RootLost(JobError):
    """A root changed, or its lock or lease is lost: the pair cannot go on."""


def recheck_roots(
    pair: Pair, source: int, mirror: int, lease: "Lease | None" = None, claim: "Claim | None" = None
) -> None:
    """Check that the paths of a pair still lead to its open roots, and that lock and lease hold. Raises `RootLost`."""
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
        raise RootLost(f"the claim on the mirror {pair.dest} is lost: {why}", hint=_CLAIM_HINT)
    if lease is not None and (why := lease.why_lost()):
        raise RootLost(f"the lease on the mirror {pair.dest} is lost: {why}", hint=_LEASE_HINT)


class ClaimedMirror(NamedTuple):
    """A claimed mirror."""

    mirror_state: int
    """The open `.truecopy` of the mirror."""
    lock: int
    """The locked file in it."""
    identity: "HeldIdentity"


class Claim:
    """The claim of this instance on an open mirror."""

    def __init__(self, mirror: int, mirror_id: str, take: Callable[[], ClaimedMirror]) -> None:
        """`take` takes the lock and keeps its descriptors open; it raises `MirrorSwapped`, `Refused` and `Busy`."""
        self._mirror = mirror
        self._take_lock = take
        self.mirror_id = mirror_id
        self.held: ClaimedMirror | None = None
        """None before the mirror is claimed."""

    def __call__(self) -> ClaimedMirror:
        """Claim the mirror, unless it is claimed. Raises as `take` does, with writes to `.truecopy` only."""
        if self.held is None:
            self.held = self._take_lock()
        return self.held

    @property
    def mark(self) -> CycleMark | None:
        """The mark that the mirror has now; None if it was not read or has none."""
        return None if self.held is None else self.held.identity.identity.cycle

    def begin_to_write(self) -> None:
        """Claim the mirror and give it the mark of a cycle that writes. Raises as `take` does."""
        self().identity.mark_once()

    def why_lost(self) -> str:
        """Say why the claim is lost; empty if it holds, or was not made yet."""
        if self.held is None:
            return ""
        if not lock.is_held(self.held.lock, self._mirror, b"/".join((STATE_FOLDER, lock.NAME))):
            return f"{STATE_FOLDER.decode('ascii')}/{lock.NAME.decode('ascii')} was removed or replaced in mid-run"
        if not self.held.identity.is_held(self._mirror):
            return f"{STATE_FOLDER.decode('ascii')}/{IDENTITY_FILE} was removed or replaced in mid-run"
        return ""


class DeviceCheck:
    """The device numbers of one mirror; any other was mounted during the cycle, or is a btrfs subvolume."""

    def __init__(self, context: PairContext) -> None:
        self._roots = [context.mirror_root, *(each.root for each in context.tools.mounted)]
        self._own = os.fstat(context.mirror_root).st_dev
        self._known: dict[tuple[int, int], bool] = {}

    def check(self, folder: int, device: int, volume: int) -> None:
        """Check that an open folder with this device number lies on file system number `volume`.

        Raises `OSError` if it does not: copies there would not be synced.
        """
        if device == self._own and not volume:
            return
        key = device, volume
        if key not in self._known:
            self._known[key] = self._is_expected(folder, volume)
        if not self._known[key]:
            why = "another file system than before is mounted there in the mirror; the next cycle takes it in"
            raise OSError(errno.ESTALE, why)

    def _is_expected(self, folder: int, volume: int) -> bool:
        found, meant = mounts.mount_of(folder), mounts.mount_of(self._roots[volume])
        # Without mount IDs there is no list of mounts either, and the mirror counts as one file system.
        return found is None or meant is None or found.device == meant.device
