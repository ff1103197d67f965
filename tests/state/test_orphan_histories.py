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


def held(root: Path) -> dict[str, str]:
    """Give the contents of a tree by path."""
    found: dict[str, str] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] != ".truecopy" and (path.is_symlink() or path.is_file()):
            found[str(name)] = os.readlink(path) if path.is_symlink() else path.read_text()
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, min_size=2, max_size=8))
def test_what_two_scans_missed_is_retired_and_no_content_is_lost(cycles: list[list[tuple[str, str]]]) -> None:
    base = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
    try:
        shop = Workshop(base, {"on_source_delete": "retire", "retire_after": "0 hours"})
        shop.write("kept")
        missed: set[str] = set()
        for number, each in enumerate(cycles):
            for path, what in each:
                change(shop.source, path, what, number)
            before = held(shop.mirror)
            assert shop.cycle().result is Result.SUCCESS
            left = orphans_of(shop.source, shop.mirror)
            assert not left & missed
            assert held(shop.source).items() <= held(shop.mirror).items()
            versions = [held(moment) for moment in (shop.state / "versions").glob("*")]
            for path, content in before.items():
                assert content in [one.get(path) for one in (held(shop.mirror), *versions)], path
            missed = left
            shop.ahead_ns += HOUR_NS
    finally:
        shutil.rmtree(base)
