"""Forecast: what the next cycle would set aside in a mirror. Nothing is changed."""

import os
from collections.abc import Iterator
from contextlib import suppress

from job.config.settings import Pair
from job.core.acl import ACCESS_ACL
from job.core.adoption import Left, why_foreign, why_open
from job.core.capabilities import Capabilities
from job.core.entry import Kind, join
from job.core.mounts import ByMount
from job.engine.context import Source
from job.engine.copy.adoption import standing_of
from job.engine.copy.surplus import Surplus
from job.engine.copy.widening import Opening, why_left_over
from job.engine.scan import Changed
from job.fs.dircursor import Trail
from job.fs.large_dir import names_in
from job.fs.xattrs import read_attributes

Aside = tuple[bytes, Kind, str]
"""Path, kind and reason."""


class Forecast:
    """Goes along with a plan, parents before children. Use it with `contextlib.closing`."""

    def __init__(self, source: Source, roots: tuple[int, int], pair: Pair, mirror: ByMount[Capabilities]) -> None:
        """`roots` are the open ones of source and mirror."""
        self._sources, self._mirrors = map(Trail, roots)
        self._mirror = mirror
        self._surplus = Surplus(source, roots, pair, mirror.at)
        self._anew: set[bytes] = set()
        self._opened: set[bytes] = set()

    def close(self) -> None:
        """Close what was opened."""
        for each in (self._sources, self._mirrors, self._surplus):
            each.close()

    def is_made_anew(self, path: bytes) -> bool:
        """Tell whether a mirror folder, or one above it, is going to be replaced by a new one."""
        return _is_in(path, self._anew)

    def replaced(self, change: Changed) -> Iterator[Aside]:
        """Give the mirror's folder if it must not be used for the one of the source."""
        path = change.path
        if not change.left or self.is_made_anew(path):
            return
        with suppress(OSError):  # its line tells
            source, mirror = (os.fstat(trail.goto(path)) for trail in (self._sources, self._mirrors))
            why = why_foreign(Left(change.left), mirror, source, standing_of(self._mirror.at(path)))
            if why:
                self._anew.add(path)
                if self._holds_anything(path):
                    yield path, Kind.FOLDER, why

    def left_over(self, path: bytes) -> Iterator[Aside]:
        """Give what has to leave a mirror folder before it lets in more users. Raises `OSError`."""
        if self.is_made_anew(path) or _is_in(path, self._opened):
            return
        why = self._why_open(path)
        if not why or not self._holds_anything(path):
            return
        self._opened.add(path)
        for at, _, entries, left in self._surplus.below(path):
            for name, kind in entries:
                yield join(at, name), kind, why_left_over(left, path, why)

    def _why_open(self, path: bytes) -> str:
        try:
            source, mirror = self._sources.goto(path), self._mirrors.goto(path)
            able = self._mirror.at(path)
            ours, theirs = (read_attributes(each, security=False).get(ACCESS_ACL) for each in (mirror, source))
            standing, differs = standing_of(able), able.acls and ours != theirs
            return why_open(os.fstat(mirror), os.fstat(source), standing, acl_differs=differs)
        except OSError:
            return ""  # it does not exist yet, or its line tells

    def _holds_anything(self, path: bytes) -> bool:
        names = (name for some in names_in(self._mirrors.goto(path)) for name in some)
        return Opening.holds_anything(path, names)


def _is_in(path: bytes, folders: set[bytes]) -> bool:
    if not folders:
        return False
    while path not in folders:
        if not path:
            return False
        path = path.rpartition(b"/")[0]
    return True
