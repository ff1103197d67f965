"""Random histories of a source: the index has each orphan, since the cycle that a naive walk first finds it in."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.outcome import Result
from tests.engine.test_orphans import listed, rows
from tests.engine.workshop import HOUR_NS, Workshop
from tests.state.test_restore_histories import FAST, change, changes


def orphans_of(source: Path, mirror: Path, path: str = "") -> set[str]:
    """Find what the mirror has and the source has not, naively."""
    found = set()
    here = {*os.listdir(source / path)}
    for name in {*os.listdir(mirror / path)} - {".truecopy"}:
        below = f"{path}/{name}" if path else name
        if name not in here:
            found.add(below)
        elif (source / below).is_dir() and not (source / below).is_symlink():
            found |= orphans_of(source, mirror, below)
    return found


class Model:
    """Since when each is missing, by the number of the cycle."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.since: dict[str, int] = {}

    def cycle(self, number: int) -> None:
        source, mirror = self.shop.source, self.shop.mirror
        found = orphans_of(source, mirror)
        self.since = {
            path: since
            for path, since in self.since.items()
            # Nobody looks into a folder that left as a whole.
            if path in found or (os.path.lexists(mirror / path) and not (source / path).parent.is_dir())
        } | {path: number for path in found if path not in self.since}


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, min_size=1, max_size=7))
def test_the_index_agrees_with_a_naive_walk(cycles: list[list[tuple[str, str]]]) -> None:
    base = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
    try:
        shop = Workshop(base)
        shop.write("kept")
        model, began_ns = Model(shop), shop.now_ns()
        for number, each in enumerate(cycles):
            for path, what in each:
                change(shop.source, path, what, number)
            assert shop.cycle().result is Result.SUCCESS
            model.cycle(number)
            known = {os.fsdecode(path): (row.since_ns - began_ns) // HOUR_NS for path, row in rows(shop).items()}
            assert known == model.since
            assert {*map(os.fsdecode, listed(shop))} == orphans_of(shop.source, shop.mirror)
            shop.ahead_ns += HOUR_NS
    finally:
        shutil.rmtree(base)
