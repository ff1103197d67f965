"""Random histories of a source: a restore of any time agrees with what the mirror had then, file by file."""

import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.app.restore_setup import StopRequest, open_restorer
from job.core.outcome import Result
from job.engine.restore.choice import Request
from job.engine.restore.tree import DONE, What
from tests.engine.workshop import Workshop
from tests.faults.trees import LONG_AGO_NS

FAST = Path("/dev/shm")
PATHS = ["a", "b", "d", "d/a", "d/b", "d/e/a"]
WHATS = ["x", "yy", "zzz", "remove", "link", "mode", "as old"]
changes = st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(WHATS)), max_size=4)
Held = dict[str, str]
KEEPING: dict[str, str] = {}
RETIRING = {"on_source_delete": "retire", "retire_after": "0 hours"}


def change(source: Path, path: str, what: str, number: int) -> None:
    """Make one entry of the source be so, whatever is in its way; contents of different numbers differ."""
    place = source / path
    if what == "mode":
        if place.is_file() and not place.is_symlink():
            place.chmod(0o600 + number % 8)
        return
    clear(source, place)
    if what == "remove":
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if what == "link":
        place.symlink_to(f"text {number}")
        return
    place.write_text(f"{what} {number}")
    if what == "as old":  # with the size and the time of others
        os.utime(place, ns=(LONG_AGO_NS, LONG_AGO_NS))


def clear(source: Path, place: Path) -> None:
    """Remove what is in the way of a place below the source."""
    for above in [*reversed(place.relative_to(source).parents)][1:]:
        if os.path.lexists(source / above) and ((source / above).is_symlink() or not (source / above).is_dir()):
            (source / above).unlink()
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif os.path.lexists(place):
        place.unlink()


def held(root: Path) -> Held:
    """Give what a tree has, without its folders and our own state."""
    found: Held = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] == ".truecopy" or (path.is_dir() and not path.is_symlink()):
            continue
        found[str(name)] = f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
    return found


def wait_for_clock(base: Path) -> None:
    """Wait until the clock that stamps files, which stands still between ticks, has passed the present."""
    now_ns, probe = time.time_ns(), base / "clock"
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > now_ns:
            return
        time.sleep(0.001)


def restored(shop: Workshop, at: float, out: Path) -> tuple[Held, dict[str, What]]:
    """Restore all as it was at a time."""
    request = Request([b""], at, overwrite=False, suffix=b".old")
    stop = StopRequest(bool, lambda _: False)
    with open_restorer(shop.config, shop.pair, str(out), request, lambda _: None, stop) as restorer:
        outcomes = {os.fsdecode(each.path): each.what for each in restorer.tree.run()}
    return held(out), outcomes


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, min_size=1, max_size=6), st.sampled_from([KEEPING, RETIRING]))
def test_a_restore_of_any_time_agrees_with_a_naive_model(
    cycles: list[list[tuple[str, str]]], options: dict[str, str]
) -> None:
    base = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
    try:
        shop = Workshop(base, dict(options), ahead_ns=0)
        shop.write("kept")
        known: list[tuple[float, Held]] = []
        for number, each in enumerate(cycles):
            for path, what in each:
                change(shop.source, path, what, number)
            assert shop.cycle().result is Result.SUCCESS
            known.append((time.time(), held(shop.mirror)))
            wait_for_clock(base)
        counts: Counter[What] = Counter()
        for number, (at, wanted) in enumerate(known):
            found, outcomes = restored(shop, at, base / f"out {number}")
            counts.update(outcomes.values())
            assert {path: found.get(path) for path in wanted} == wanted, (number, outcomes)
            # What a version without a row may be newer than is restored, too, and said to be likely only.
            assert {outcomes[path] for path in found.keys() - wanted.keys()} <= {What.LIKELY}
            assert set(outcomes.values()) <= DONE
        assert counts[What.RESTORED] >= len(known), "at least the file that no change touches is certain"
    finally:
        shutil.rmtree(base)


def test_a_file_that_comes_back_with_the_content_that_the_mirror_kept_stands_since_it_was_copied(
    tmp_path: Path,
) -> None:
    shop = Workshop(tmp_path, ahead_ns=0)
    shop.write("kept")
    shop.write("file", "content")
    shop.cycle()
    at = time.time()
    wait_for_clock(tmp_path)
    (shop.source / "file").unlink()
    shop.cycle()
    shop.write("file", "content")
    shop.cycle()

    found, _ = restored(shop, at, tmp_path / "out")

    assert found == {"kept": "content", "file": "content"}
