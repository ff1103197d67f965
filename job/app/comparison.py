"""Lay out what a comparison needs: a room of its own, so that a cycle does not pay for it."""

import contextlib
import os
from collections.abc import Iterator

from job.adapters.copier import Copier
from job.adapters.linkbook import LinkBook
from job.app.layout import known_abilities, open_state, systems_of
from job.app.tools import keeper_for, source_scanner
from job.core.capabilities import Capabilities
from job.core.config.effective import Config, Pair
from job.core.left_out import NO_MOUNTS
from job.core.mounted import ByMount
from job.core.spelling import Spelling
from job.files import known_mounts
from job.tasks.bench import means_of
from job.tasks.compare import Sight, View


@contextlib.contextmanager
def lay_out_comparison(config: Config, pair: Pair, source: int, mirror: int) -> Iterator[View]:
    """Make what a comparison of a pair needs; nothing is created or changed."""
    with contextlib.ExitStack() as tidy:
        state = None
        with contextlib.suppress(OSError):  # then nothing is known of the mirror
            state = open_state(config, pair, mirror)
            tidy.callback(os.close, state)
        able = known_abilities(systems_of(pair, source, mirror, state), mirror, state)

        def sight(of: Capabilities) -> Sight:
            keeper = keeper_for(pair, of)
            copyist = Copier(pair.checksum, keeper, pace=_at_once, sync_each=False)
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
        )


def _at_once(count: int) -> None:
    del count
