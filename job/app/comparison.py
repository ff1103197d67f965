"""Lay out what a comparison needs: a room of its own, so that a cycle does not pay for it."""

import contextlib
from collections.abc import Iterator

from job.adapters.copier import Copier
from job.adapters.linkbook import LinkBook
from job.app.layout import known_capabilities, mounts_of
from job.app.tools import source_scanner
from job.core.capabilities import Capabilities
from job.core.config.effective import Config, Pair
from job.files.metadata import Keeper
from job.tasks.compare import View


@contextlib.contextmanager
def lay_out_comparison(config: Config, pair: Pair, source: int, mirror: int) -> Iterator[View]:
    """Make what a comparison of a pair needs; nothing is created or changed."""
    able = known_capabilities(config, pair, mirror) or Capabilities()
    keeper = Keeper(security=pair.keep_security, setuid=pair.keep_setuid, grain_ns=able.mtime_grain_ns)
    with contextlib.ExitStack() as tidy:
        scanner = source_scanner(pair, source, able, mounts_of(config, pair, mirror))
        tidy.callback(scanner.close)
        yield View(
            pair=pair,
            source=scanner,
            source_root=source,
            mirror_root=mirror,
            copyist=Copier(pair.checksum, keeper, pace=_at_once, sync_each=False),
            keeper=keeper,
            able=able,
            book=tidy.enter_context(contextlib.closing(LinkBook())),
        )


def _at_once(count: int) -> None:
    del count
