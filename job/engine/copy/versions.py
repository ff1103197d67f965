"""Versions: keep what leaves a mirror's tree where nobody else gets at it (invariant 4)."""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from job.core.entry import STATE_FOLDER
from job.engine.context import Assignment, Bench
from job.fs.large_dir import has_name
from job.fs.versions import Home, remove_empty

_MOUNT_IN_THE_WAY = "a file system is mounted in the mirror under this name, or below it; unmount it"
_VERSIONS_ELSEWHERE = (
    "the mirror has a folder here, on another file system than the versions in .truecopy; move that folder away"
)


class Versions:
    """Moves what is in folders of one mirror to its versions."""

    def __init__(self, bench: Bench, work: Assignment) -> None:
        self._roots = bench.source_root, bench.mirror_root
        self._home = Home(bench.mirror_root, bench.home)
        self._now_ns = work.now_ns

    def take(self, path: bytes, folder: int) -> bytes:
        """Move what has the last name of a path in an open folder; gives where it is now. Raises `OSError`."""
        above, _, name = path.rpartition(b"/")
        places, error = self.take_all([name], folder, above)
        if error is not None:
            raise error
        return places[name]

    def take_all(self, names: Sequence[bytes], folder: int, above: bytes) -> tuple[dict[bytes, bytes], OSError | None]:
        """Move names of an open folder, whose path is `above`; gives where each is now, and what the first one met.

        Raises `OSError` if nothing can be kept.
        """
        moment = datetime.fromtimestamp(self._now_ns() // 10**9, UTC).strftime("%Y%m%dT%H%M%SZ")
        source, mirror = self._roots
        is_new = not has_name(mirror, STATE_FOLDER)  # the state is elsewhere, and nothing was retired here before
        places, error = self._home.retire(names, folder, above, moment.encode("ascii"))
        if error is not None and error.errno in {errno.EXDEV, errno.EBUSY}:
            error = OSError(error.errno, _VERSIONS_ELSEWHERE if error.errno == errno.EXDEV else _MOUNT_IN_THE_WAY)
        if is_new:
            # That moved the root's times, and the root may be finished already.
            seen = os.fstat(source)
            with suppress(OSError):
                os.utime(mirror, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        return places, error

    @staticmethod
    def removed(name: bytes, folder: int) -> bool:
        """Remove a folder, if there is nothing in it; False if there is. Raises `OSError`."""
        try:
            return remove_empty(name, folder)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise OSError(errno.EBUSY, _MOUNT_IN_THE_WAY) from None
            raise
