"""Devices: see that a mirror folder lies on the file system on which it was found when the cycle began."""

import errno
import os

from job.engine.context import Bench
from job.fs import mounts


class Devices:
    """Knows the device numbers of one mirror. Any other one was mounted since, or is a subvolume of btrfs."""

    def __init__(self, bench: Bench) -> None:
        self._roots = [bench.mirror_root, *(each.root for each in bench.mounted)]
        self._own = os.fstat(bench.mirror_root).st_dev
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
