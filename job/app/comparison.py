"""Lay out what a comparison needs: a room of its own, so that a cycle does not pay for it."""

import contextlib
from collections.abc import Callable, Iterator

from job.adapters.copier import Copier
from job.adapters.linkbook import LinkBook
from job.app.layout import known_capabilities, known_extent
from job.app.tools import source_scanner
from job.core.capabilities import Capabilities
from job.core.config.effective import Config, Pair
from job.files.metadata import Keeper
from job.tasks.compare import View

Notice = Callable[[int, int], None]
"""Called with entries that were compared, and bytes that were read, since the last call."""


@contextlib.contextmanager
def lay_out_comparison(
    config: Config, pair: Pair, source: int, mirror: int, notice: Notice | None = None
) -> Iterator[View]:
    """Make what a comparison of a pair needs; nothing is created or changed."""
    able = known_capabilities(config, pair, mirror) or Capabilities()
    keeper = Keeper(security=pair.keep_security, setuid=pair.keep_setuid, grain_ns=able.mtime_grain_ns)
    notice = notice or _ignore
    with contextlib.ExitStack() as tidy:
        scanner = source_scanner(pair, source, able)
        tidy.callback(scanner.close)
        yield View(
            pair=pair,
            source=scanner,
            source_root=source,
            mirror_root=mirror,
            copyist=_Comparer(pair.checksum, keeper, notice),
            keeper=keeper,
            able=able,
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


def _at_once(count: int) -> None:
    del count


def _ignore(entries: int, count: int) -> None:
    del entries, count
