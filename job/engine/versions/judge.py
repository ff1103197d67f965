"""Which versions go: those that expired by the rule, then the oldest above the limit of space. Nothing is removed here.

The version folders alone decide. The index tells which of them have a folder, so that not all have to be searched; a
row without a version counts for nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import NamedTuple

from job.core.retention import Retention, VersionFate, folders_to_give_up
from job.core.versions import Moment
from job.fs.dircursor import DirCursor
from job.fs.version_tree import VersionTree
from job.store.version_table import MomentRow, VersionTable

_AT_ONCE = 50_000
"""Names that are held in memory."""

Found = dict[bytes, dict[Moment, Sequence[bytes]]]
"""Names of versions by folder and moment."""
Goes = Callable[[VersionFate], bool]
Fates = dict[tuple[Moment, bytes], VersionFate]
"""By moment and name."""


class Going(NamedTuple):
    """Versions of one folder and moment that go."""

    folder: bytes
    moment: Moment
    names: dict[bytes, VersionFate]


def is_given_up(fate: VersionFate) -> bool:
    """Return whether a version that has not expired may go for want of space."""
    return not fate.is_guarded and not fate.expires


class Judge:
    """Judges the versions of one mirror. Use it with `contextlib.closing`."""

    def __init__(
        self,
        tree: VersionTree,
        mirror: int,
        retention: Retention,
        moments_of: Callable[[bytes], Iterable[Moment]],
    ) -> None:
        """`moments_of` returns all moments that may have versions of entries of a folder."""
        self._tree, self._retention, self._moments_of = tree, retention, moments_of
        self._existing = frozenset(tree.moments)
        self._mirrors = DirCursor(mirror)

    def close(self) -> None:
        """Close what was opened."""
        self._mirrors.close()

    def chunks(self, moments: Iterable[Moment]) -> Iterator[Found]:
        """Yield what version folders hold, in chunks; a large folder may be in several."""
        found: Found = {}
        held = 0
        for moment in moments:
            for folder, names in self._tree.walk(moment):
                found.setdefault(folder, {})[moment] = names
                held += 1 + len(names)
                if held >= _AT_ONCE:
                    yield found
                    found, held = {}, 0
        if found:
            yield found

    def going(self, found: Found, goes: Goes) -> Iterator[Going]:
        """Yield what goes of each folder, and the folder of each moment at last; the deepest folders come first."""
        for folder in sorted(found, reverse=True):
            by_moment = found[folder]
            fates = self._fates(folder, by_moment)
            for moment, names in by_moment.items():
                yield Going(folder, moment, {n: fates[moment, n] for n in names if goes(fates[moment, n])})

    def _fates(self, folder: bytes, by_moment: dict[Moment, Sequence[bytes]]) -> Fates:
        names = {name for some in by_moment.values() for name in some}
        held = self.held(folder, names)
        fates: Fates = {}
        if self._retention.is_for_time:
            for moment, some in by_moment.items():
                [fate] = self._retention.fates([moment], held=True).values()
                fates |= {(moment, name): fate for name in some if name in held}
            names -= held
        if names:
            everywhere = {moment: frozenset(some) for moment, some in by_moment.items()}
            for moment in self._existing.intersection(self._moments_of(folder)).difference(everywhere):
                everywhere[moment] = self._tree.names(moment, folder)
            for name in names:
                of_path = [moment for moment, some in everywhere.items() if name in some]
                judged = self._retention.fates(of_path, held=name in held)
                fates |= {(moment, name): fate for moment, fate in judged.items()}
        return fates

    def held(self, folder: bytes, names: Iterable[bytes]) -> set[bytes]:
        """Return which names of a folder the mirror has; one that cannot be examined counts as missing."""
        held: set[bytes] = set()
        with suppress(OSError):
            place = self._mirrors.goto(folder)
            for name in names:
                with suppress(OSError):
                    os.stat(name, dir_fd=place, follow_symlinks=False)
                    held.add(name)
        return held

    def above_limit(self, rows: dict[Moment, MomentRow], excess: int) -> Iterator[Going]:
        """Yield the oldest versions that are not guarded, until they have the bytes of the `excess`."""
        for moment in folders_to_give_up(self._tree.moments, self._retention):
            if excess <= 0:
                return
            if moment in rows and not rows[moment].bytes:
                continue
            for found in self.chunks([moment]):
                for each in self.going(found, is_given_up):
                    if excess > 0:
                        excess -= self._tree.sizes(moment, each.folder, each.names)[0]
                        yield each._replace(names=dict.fromkeys(each.names, VersionFate.MOST))


def moments_of(table: VersionTable, rows: dict[Moment, MomentRow]) -> Callable[[bytes], Iterable[Moment]]:
    """Return a function that finds the moments with versions of a folder.

    Version folders that the index knows nothing about may have any.
    """
    unknown = [moment for moment, row in rows.items() if row.ordinal <= 0]
    return lambda folder: [*table.moments_of(folder), *unknown]


def what_goes(
    tree: VersionTree,
    mirror: int,
    table: VersionTable,
    rows: dict[Moment, MomentRow],
    by: tuple[Retention, int],
) -> Iterable[Going]:
    """Yield what would go by a rule, and by a limit in bytes (0 for none); nothing is removed."""
    retention, limit = by
    with closing(Judge(tree, mirror, retention, moments_of(table, rows))) as judge:
        excess = sum(row.bytes for row in rows.values()) - limit if limit else 0
        candidates = [moment for moment in tree.moments if retention.standing(moment) is not None]
        for found in judge.chunks(candidates):
            for each in judge.going(found, lambda fate: fate.expires):
                if each.names:
                    excess -= tree.sizes(each.moment, each.folder, each.names)[0]
                    yield each
        for each in judge.above_limit(rows, excess):
            if each.names:
                yield each
