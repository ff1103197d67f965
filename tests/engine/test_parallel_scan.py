"""A look with helpers finds what one process finds, each folder once, whatever the tree looks like and whoever dies."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.compressed_list import CompressedList
from job.core.file_systems import LeftOut, LeftOutReason
from job.engine import scan
from job.engine.dispatch import parallel_scan
from job.engine.scan import FolderShare, ScanDepth, ScanRequest, ScanResult
from job.events.pair import WorkerLost
from job.fs import listing
from job.fs.listing import Unlisted
from tests.engine.scanning import at_work, scanned
from tests.engine.trees import plant, trees
from tests.engine.worker_pools import count_in, die_at, never_ready, replace_by, with_a_bug
from tests.engine.workshop import Workshop, nobody

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are

FAST = Path("/dev/shm")


@pytest.fixture(autouse=True)
def helpers_are_called_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_scan, "_FOLDERS_AT_ONCE", 1)


def findings(found: ScanResult) -> tuple[object, ...]:
    """Give everything a look found, in an order that does not depend on who found it."""
    changed = list(found.changes())
    paths = [change.path for change in changed]
    assert len(paths) == len(set(paths)), "each folder once"
    huge = {change.path for change in changed if change.huge}  # which are judged last of all
    later = [set(paths[number:]) - huge for number in range(len(paths))]
    assert all(above(path) not in after for path, after in zip(paths, later, strict=True)), "parents before children"
    unlisted = sorted((each.path, each.error.errno) for each in found.unlisted)
    return sorted(changed), unlisted, found.tally, found.entries, found.entries_to_sync, found.bytes_to_sync


def above(path: bytes) -> bytes | None:
    return path.rpartition(b"/")[0] if path else None


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=trees, after=trees, workers=st.integers(2, 5), depth=st.sampled_from(ScanDepth))
def test_helpers_find_what_one_finds(before: object, after: object, workers: int, depth: ScanDepth) -> None:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as base:
        shop = Workshop(Path(base), {"allow_empty": True})
        plant(shop.source, before)
        shop.cycle()
        shutil.rmtree(shop.source)
        plant(shop.source, after)

        alone, _ = scanned(shop, 1, depth=depth)
        together, told = scanned(shop, workers, depth=depth)

    assert findings(together) == findings(alone)
    assert told == []


@pytest.fixture
def wide(shop: Workshop) -> Workshop:
    """A folder with many others in it, with something in each."""
    for number in range(300):
        shop.write(f"wide/{number:03}/deeper/file", "x" * number)
    return shop


def test_a_wide_folder_is_looked_at_by_everybody(wide: Workshop) -> None:
    who: Counter[int] = Counter()

    together, _ = scanned(wide, 3, prepare=count_in(who))

    assert findings(together) == findings(scanned(wide, 1)[0])
    assert len(who) == 2
    assert min(who.values()) > 0


def test_helpers_have_nothing_to_do_until_there_is_much_to_look_at_or_the_index_knows_of_it(wide: Workshop) -> None:
    who: Counter[int] = Counter()

    scanned(wide, 3, prepare=count_in(who), workers_from=1000)
    assert not who

    scanned(wide, 3, prepare=count_in(who), workers_from=1000, expected=1 << 20)
    assert len(who) == 2


def test_a_deep_chain_is_looked_at_to_its_end(shop: Workshop) -> None:
    path = shop.source
    for number in range(150):
        path = path / f"folder {number}"
        path.mkdir()
        (path / "file").touch()

    together, _ = scanned(shop, 4)

    assert findings(together) == findings(scanned(shop, 1)[0])
    assert together.entries == 150


@pytest.mark.parametrize("at", [1, 2])
def test_what_a_lost_helper_had_is_looked_at_again_and_counted_once(wide: Workshop, at: int) -> None:
    together, told = scanned(wide, 3, prepare=die_at(ScanRequest, at))

    assert findings(together) == findings(scanned(wide, 1)[0])
    assert told
    assert [event.error for event in told if isinstance(event, WorkerLost)] == ["it was killed by SIGKILL"]


def test_what_two_helpers_died_of_is_told_as_unlisted_and_the_look_ends(wide: Workshop) -> None:
    alone, _ = scanned(wide, 1)
    together, told = scanned(wide, 3, prepare=die_at(ScanRequest, 1, again=True))

    paths = {change.path for change in together.changes()}
    lost = {each.path for each in together.unlisted}
    assert lost
    assert len(told) < 20, "it is not tried for ever"
    assert all("lost twice: it was killed" in str(each.error) for each in together.unlisted)
    missed = {change.path for change in alone.changes()} - paths
    assert all(any(path == each or path.startswith(each + b"/") for each in lost) for path in missed)


def test_helpers_that_never_get_ready_leave_all_to_the_leader(wide: Workshop) -> None:
    together, told = scanned(wide, 3, prepare=replace_by(never_ready))

    assert findings(together) == findings(scanned(wide, 1)[0])
    assert [event.error for event in told if isinstance(event, WorkerLost)] == ["it ended with exit code 3"] * 2


def test_a_bug_in_helpers_is_told_and_what_they_missed_is_unlisted(wide: Workshop) -> None:
    together, told = scanned(wide, 3, prepare=replace_by(with_a_bug))

    assert together.unlisted
    assert {str(each.error).rpartition(": ")[2] for each in together.unlisted} == {"nobody expected this"}
    assert all("Traceback" in event.error for event in told if isinstance(event, WorkerLost))


@pytest.mark.needs_root
def test_a_folder_that_cannot_be_read_is_told_once(open_shop: Workshop) -> None:
    for number in range(40):
        open_shop.write(f"wide/{number:03}/file")
    (open_shop.source / "wide/007").chmod(0)

    with nobody():
        together, _ = scanned(open_shop, 3)
        alone, _ = scanned(open_shop, 1)

    assert [each.path for each in together.unlisted] == [b"wide/007"]
    assert findings(together) == findings(alone)


def test_shares_of_one_folder_are_joined_in_order(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        shop.write(f"crowd/{number}", "x")
        shop.write(f"crowd/folder {number % 10}/file")
    for module in (listing, scan):
        monkeypatch.setattr(module, "CHUNK", 4)
    monkeypatch.setattr(listing, "SHARE", 8)
    who: Counter[int] = Counter()

    together, _ = scanned(shop, 3, prepare=count_in(who))

    assert findings(together)[1:] == findings(scanned(shop, 1)[0])[1:]
    assert {change.path: change.fingerprint for change in together.changes()} == {
        change.path: change.fingerprint for change in scanned(shop, 1)[0].changes()
    }
    assert sum(who.values()) > 0


def test_a_stop_ends_a_look_with_helpers(wide: Workshop) -> None:
    class Stop(Exception):
        pass

    def notice(found: ScanResult) -> None:
        if found.entries > 20:
            raise Stop

    with at_work(wide, [], 3, bool) as (context, supervisor), pytest.raises(Stop):
        parallel_scan.scan_tree(context, wide.pair, notice, ScanDepth.FOLDERS, supervisor)


def test_what_others_found_is_added_to_what_was_found() -> None:
    def a_look(number: int) -> ScanResult:
        changed: CompressedList[tuple[object, ...]] = CompressedList(
            [(b"folder %d" % number, number, number, b"", False, False, b"", 0, b"", False, b"", False)]
        )
        unlisted = [Unlisted(b"%d" % number, OSError(number))]
        share = FolderShare(b"huge", number, listing.FolderScan(b"", [], 1, 1, 0))
        look = ScanResult()
        look.changed, look.unlisted, look.shares = changed, unlisted, [share]
        look.left_out = [LeftOut(b"out %d" % number, LeftOutReason.MOUNT, "ext4")]
        look.mounts = {b"%d" % number: "ext4"}
        look.packed = {b"%d" % number: b"rows"}
        look.folders_unchanged = look.specials_unchanged = look.entries_to_sync = look.bytes_to_sync = number
        look.entries_unchanged = 10 * number
        return look

    found, other = a_look(1), a_look(2)

    found.merge(other)

    assert [change.path for change in found.changes()] == [b"folder 1", b"folder 2"]
    assert [each.path for each in found.unlisted] == [b"1", b"2"]
    assert [share.number for share in found.shares] == [1, 2]
    assert found.mounts == {b"1": "ext4", b"2": "ext4"}
    assert found.packed == {b"1": b"rows", b"2": b"rows"}
    assert [each.path for each in found.left_out] == [b"out 1", b"out 2"]
    assert (found.folders_unchanged, found.entries_unchanged, found.specials_unchanged) == (3, 30, 3)
    assert (found.entries_to_sync, found.bytes_to_sync) == (3, 3)
    assert found.entries == 30 + 3 + 2
    assert len(other.changed) == 1
