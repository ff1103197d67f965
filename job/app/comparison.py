"""Lay out what a comparison needs: a room of its own, so that a cycle does not pay for it."""

import contextlib
import os
from collections.abc import Callable, Iterator

from job.app.pair_setup import known_abilities, known_extent, open_state, systems_of
from job.app.process_setup import keeper_for, source_scanner
from job.config.settings import Config, Pair
from job.core.capabilities import Capabilities
from job.core.filenames import Spelling
from job.core.left_out import NO_MOUNTS
from job.core.mounts import ByMount
from job.engine.compare import Sight, View
from job.engine.context import means_of
from job.fs.copier import Copier
from job.fs.metadata import Keeper
from job.store import known_mounts
from job.store.hardlinks import LinkBook

Notice = Callable[[int, int], None]
"""Called with entries that were compared, and bytes that were read, since the last call."""


@contextlib.contextmanager
def lay_out_comparison(
    config: Config, pair: Pair, source: int, mirror: int, notice: Notice | None = None
) -> Iterator[View]:
    """Make what a comparison of a pair needs; nothing is created or changed."""
    notice = notice or _ignore
    with contextlib.ExitStack() as tidy:
        state = None
        with contextlib.suppress(OSError):  # then nothing is known of the mirror
            state = open_state(config, pair, mirror)
            tidy.callback(os.close, state)
        able = known_abilities(systems_of(pair, source, mirror, state), mirror, state)

        def sight(of: Capabilities) -> Sight:
            keeper = keeper_for(pair, of)
            copyist = _Comparer(pair.checksum, keeper, notice)
            return Sight(of, copyist, keeper, means_of(pair, of), None if of.exact else Spelling(of))

        root = sight(able.root)
        scanner = source_scanner(pair, source, able, NO_MOUNTS if state is None else known_mounts.load(state))
        tidy.callback(scanner.close)
        yield View(
            pair=pair,
            source=scanner,
            source_root=source,
            mirror_root=mirror,
            by=ByMount(root, {point: sight(of) for point, of in able.others}, root.spelling),
            book=tidy.enter_context(contextlib.closing(LinkBook())),
            notice=notice,
        )


def expected_extent(config: Config, pair: Pair, mirror: int) -> tuple[int, int]:
    """Give how many entries and bytes there probably are, by the index; 0 for what is not known. For progress only."""
    entries, count = known_extent(config, pair, mirror) or (0, None)
    return entries, count or 0


class _Comparer(Copier):
    """Tells of every chunk that was read of a source and its mirror."""

    def __init__(self, algorithm: str, keeper: Keeper, notice: Notice) -> None:
        super().__init__(algorithm, keeper, pace=_at_once, sync_each=False)
        self._notice = notice

    def _take_beside(self, chunk: memoryview | bytes) -> None:
        super()._take_beside(chunk)
        self._notice(0, len(chunk))

    def _skip_beside(self, count: int) -> None:
        super()._skip_beside(count)
        self._notice(0, count)


def _at_once(count: int) -> None:
    del count


def _ignore(entries: int, count: int) -> None:
    del entries, count
