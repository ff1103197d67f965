"""Narrowing: take rights away in the mirror's folders before anything is put into them (`fs/narrowing.py`).

Whoever visits a folder sees to those above it, too: with several processes, somebody else may be on the way there only.
"""

import os
from collections.abc import Iterable
from contextlib import closing, suppress

from job.core.acl import ACCESS_ACL, Rights
from job.engine.context import Bench, Volume
from job.engine.copy.batch import Batch
from job.engine.copy.finish import Work
from job.fs.dircursor import Trail
from job.fs.listing import Unlisted
from job.fs.narrowing import Narrowed, close_folder, narrow_as, narrow_folder, wanted_rights

_UNKNOWN = (b"/",)
"""No path: nothing was seen to yet."""


def close_unread(bench: Bench, unlisted: Iterable[Unlisted]) -> None:
    """Have rights follow folders of the source that may not be read: what the mirror has of them stays, and closes."""
    closed = [each.path for each in unlisted if each.path and isinstance(each.error, PermissionError)]
    if not closed:
        return
    with closing(Trail(bench.source_root)) as sources, closing(Trail(bench.mirror_root)) as mirrors:
        for path in closed:
            above, _, name = path.rpartition(b"/")
            with suppress(OSError):  # that it cannot be read is told
                close_folder(name, sources.goto(above), mirrors.goto(path))


class Narrower:
    """Narrows folders of one pair, in one process."""

    def __init__(self, sources: Trail, mirrors: Trail, batch: Batch) -> None:
        self._sources = sources
        self._mirrors = mirrors
        self._batch = batch
        self._seen_to: tuple[bytes, ...] = _UNKNOWN
        """The last way from the root down, of which each folder was narrowed."""

    def above(self, path: bytes, volume: Volume) -> None:
        """Narrow the folders above a path, unless that was the last thing done; what cannot be opened is passed over.

        Each costs four system calls, and is on the way to the path.
        """
        if not path or not volume.mirror.modes:
            return
        *names, last = path.split(b"/")
        known = self._seen_to
        common = 0
        for ours, theirs in zip(names, known, strict=False):
            if ours != theirs:
                break
            common += 1
        first = 0 if known is _UNKNOWN else common + 1
        self._seen_to = (*names, last)
        for depth in range(first, len(names) + 1):
            with suppress(OSError):
                self._narrow(b"/".join(names[:depth]), volume)

    def _narrow(self, path: bytes, volume: Volume) -> None:
        source, mirror = self._sources.goto(path), self._mirrors.goto(path)
        self._take_in(path, narrow_as(source, mirror), volume)

    def enter(self, work: Work, mirror: int, seen: os.stat_result) -> int:
        """Narrow an open mirror folder, and have its keeper know it; gives its st_mode then."""
        keeper, path = work.volume.keeper, work.listing.path
        self._seen_to = tuple(path.split(b"/")) if path else ()
        held = keeper.present(mirror)
        if not work.volume.mirror.modes:
            keeper.enter(held, seen.st_uid)
            return seen.st_mode
        found = Rights(seen.st_uid, seen.st_gid, seen.st_mode, held.get(ACCESS_ACL))
        narrowed = narrow_folder(mirror, found, wanted_rights(work.listing.folder, work.xattrs))
        self._take_in(path, narrowed, work.volume)
        keeper.enter(held, narrowed.owner)
        return narrowed.mode

    def _take_in(self, path: bytes, narrowed: Narrowed, volume: Volume) -> None:
        self._batch.dirty |= narrowed.changed
        if narrowed.error is not None:
            volume.keeper.refused("mode", narrowed.error)
            self._batch.tidings.note_refusals(path)
