"""Acting with workers: what is shared, what a lost one leaves undone, and that the books balance all the same."""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.app import worker_main
from job.core.outcome import Drift, Failure, Result
from job.engine.dispatch import parallel_scan, queue
from job.engine.messages import WorkItem
from job.events.pair import FileFailed, FoldersUnchanged, PairFailed, WorkerLost
from job.fs import own_files
from job.system.processes import WorkerPipe, WorkerPool
from tests import workers
from tests.engine.trees import plant, trees
from tests.engine.worker_pools import count_in, die_at, never_ready, replace_by
from tests.engine.workshop import HOUR_NS, Told, Workshop, as_nobody, assert_mirrored

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are
FAST = Path("/dev/shm")


@pytest.fixture(autouse=True)
def work_is_cut_finely(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((queue, "_MOST_FOLDERS"), (parallel_scan, "_FOLDERS_AT_ONCE")):
        monkeypatch.setattr(module, name, vars(module)[name])
    workers.cut_finely()


@pytest.fixture
def wide(shop: Workshop) -> Workshop:
    """Fifty folders with a few files in each, for three workers."""
    shop.options = {"workers": 3, "workers_from": 0}
    for number in range(50):
        for name in "abc":
            shop.write(f"folder {number:02}/{name}", f"{name} {number}")
    return shop


def balances(shop: Workshop, told: Told) -> None:
    """What is told, counted and there is one and the same."""
    assert told.committed == told.tally
    assert told.tally.copied == len(told.copied) == len(set(told.copied))
    assert told.tally.failed == len(told.of(FileFailed)) == len(told.failed)
    assert {os.fsdecode(path) for path in told.copied} <= shop.names()
    assert shop.temps == [] or told.of(WorkerLost), "the next cycle sweeps what a killed one left"


def heals(shop: Workshop) -> None:
    """The next cycle mirrors everything, and the one after it has nothing to do."""
    told = shop.cycle()
    assert told.result is Result.SUCCESS
    assert_mirrored(shop)
    balances(shop, told)
    is_at_rest(shop)


def is_at_rest(shop: Workshop) -> None:
    told = shop.cycle()
    folders = 1 + sum(path.is_dir() for path in shop.source.rglob("*"))
    assert [event.folders for event in told.of(FoldersUnchanged)] == [folders]
    assert (told.tally.copied, told.tally.updated, told.tally.folders, told.drift) == (0, 0, folders, {})
    assert not list(shop.state.glob("leftovers*"))


# Sharing --------------------------------------------------------------------------------------------------------------


def test_everybody_has_a_share_of_a_mass_copy(shop: Workshop) -> None:
    shop.options = {"workers": 2, "workers_from": 0}
    for number in range(2000):
        shop.write(f"{number // 20:03}/{number:04}", "x" * 100)
    who: Counter[int] = Counter()
    shop.prepare = count_in(who)

    told = shop.cycle()

    assert told.tally.copied == 2000
    assert_mirrored(shop)
    balances(shop, told)
    assert set(who) == {1, 2, 3} or set(who) == {1, 2}
    assert min(who[slot] for slot in (1, 2)) > 200
    is_at_rest(shop)


def test_a_deep_chain_is_mirrored_by_many(shop: Workshop) -> None:
    shop.options = {"workers": 4, "workers_from": 0}
    path = shop.source
    for number in range(120):
        path = path / f"d{number % 10}"
        path.mkdir()
        (path / "file").write_text(str(number))

    told = shop.cycle()

    assert told.tally.copied == 120
    assert_mirrored(shop)
    is_at_rest(shop)


quick = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
any_two = given(
    before=trees, after=trees, count=st.integers(2, 5), compare=st.sampled_from(["auto", "auto", "checksum"])
)


@quick
@any_two
def test_any_tree_that_became_any_other_is_mirrored_and_then_left_alone(
    before: object, after: object, count: int, compare: str
) -> None:
    follows(before, after, count, compare)


@pytest.mark.slow
@settings(quick, max_examples=200)
@any_two
def test_hundreds_of_trees_that_became_others_are_mirrored_and_then_left_alone(
    before: object, after: object, count: int, compare: str
) -> None:
    follows(before, after, count, compare)


def follows(before: object, after: object, count: int, compare: str) -> None:
    """Mirror the one tree, then the other, and see that nothing is left to do."""
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as base:
        shop = Workshop(Path(base), {"workers": count, "workers_from": 0, "compare": compare, "allow_empty": True})
        plant(shop.source, before)
        first = shop.cycle()
        shutil.rmtree(shop.source)
        plant(shop.source, after)
        files = sum(path.is_file() for path in shop.source.rglob("*"))
        told = shop.cycle()

        assert first.result is Result.SUCCESS
        balances(shop, told)
        assert told.tally.entries == files
        assert told.failed == {}
        assert_mirrored(shop)
        shop.options["compare"] = "auto"
        shop.cycle()
        is_at_rest(shop)


@pytest.mark.parametrize(
    "options",
    [
        {"verify_copies": "readback"},
        {"compare": "checksum", "checksum": "blake3"},
        {"mirror_check": "asleep", "audit_interval": "1h"},
        {"exclude": ["deeper/"]},
    ],
    ids=str,
)
def test_whatever_is_asked_for_is_done_by_workers_too(wide: Workshop, options: dict[str, object]) -> None:
    wide.options |= options | {"state_dir": str(wide.base / "state")}
    wide.write("folder 07/deeper/file")
    first = wide.cycle()
    wide.write("folder 07/a", "changed")
    wide.write("new/deeper/still/file")
    (wide.mirror / "folder 08" / "b").unlink()

    told = wide.cycle()
    again = wide.cycle()

    assert (first.result, told.result, again.result) == (Result.SUCCESS,) * 3
    assert {b"folder 07/a", b"folder 08/b"} <= told.copied.keys()
    assert told.tally.drift_by == {Drift.MISSING: 1}
    assert (again.tally.copied, again.tally.updated) == (0, 0)
    if "exclude" not in options:
        assert_mirrored(wide)


def test_a_mirror_where_each_file_has_to_be_synced_by_itself(wide: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_files, "syncfs_is_reliable", lambda _: False)
    wide.write("deep/er/file")

    told = wide.cycle()

    assert told.result is Result.SUCCESS
    assert_mirrored(wide)
    is_at_rest(wide)


@pytest.mark.needs_root  # to be somebody else
def test_what_came_deep_below_read_only_folders_is_mirrored_by_an_ordinary_user(open_shop: Workshop) -> None:
    open_shop.options = {"workers": 3, "workers_from": 0}
    folders = [open_shop.source / name for name in ("a", "a/b", "c", "d")]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_text("content")
        folder.chmod(0o555)
    first = as_nobody(open_shop)
    for name in ("a/new/b/c/file", "a/b/new/file", "c/new/file", "d/e/f/g"):
        open_shop.write(name)

    told = as_nobody(open_shop)

    assert (first.result, told.result) == (Result.SUCCESS, Result.SUCCESS)
    assert told.tally.copied == 4
    assert_mirrored(open_shop)


def test_files_that_became_folders_of_folders_are_followed_by_whoever_has_them(wide: Workshop) -> None:
    for number in range(10):
        (wide.source / f"folder {number:02}" / "a").unlink()
        wide.write(f"folder {number:02}/a/b/c/file")
    wide.cycle()
    for number in range(10):
        shutil.rmtree(wide.source / f"folder {number:02}" / "a")
        wide.write(f"folder {number:02}/a")
        (wide.source / f"folder {number + 30}" / "b").unlink()
        wide.write(f"folder {number + 30}/b/c/d")

    told = wide.cycle()

    assert told.failed == {}
    balances(wide, told)
    assert {f"folder {number:02}/a/b/c/file" for number in range(10)} <= wide.retired.keys()
    assert_mirrored(wide)
    assert all((wide.mirror / f"folder {number + 30}" / "b" / "c" / "d").is_file() for number in range(10))


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_lost_worker_loses_its_errands_which_fail_once_each(wide: Workshop, at: int) -> None:
    wide.prepare = die_at(WorkItem, at)

    told = wide.cycle()
    wide.prepare = bool

    assert told.result is Result.PARTIAL
    assert [event.error for event in told.of(WorkerLost)] == ["it was killed by SIGKILL"]
    assert set(told.failed.values()) == {Failure.WORKER_LOST}
    assert 0 < told.tally.failed < 20
    assert told.tally.folders + told.tally.failed == 51
    untold = {f"folder {number:02}".encode() for number in range(50)} - {path.split(b"/")[0] for path in told.copied}
    assert untold <= told.failed.keys()
    balances(wide, told)
    heals(wide)


def test_when_all_are_lost_again_and_again_the_main_process_does_what_is_left(wide: Workshop) -> None:
    for number in range(50, 120):
        wide.write(f"folder {number}/file")
    wide.prepare = die_at(WorkItem, 1, again=True)

    told = wide.cycle()
    wide.prepare = bool

    assert told.result is Result.PARTIAL
    assert 16 <= len(told.of(WorkerLost)) <= 20
    assert told.copied, "by the main process"
    assert told.tally.folders + told.tally.failed == 121
    balances(wide, told)
    heals(wide)


def test_workers_that_never_get_ready_are_told_and_nothing_else_comes_of_it(wide: Workshop) -> None:
    wide.prepare = replace_by(never_ready)

    told = wide.cycle()

    assert told.result is Result.SUCCESS
    assert told.of(WorkerLost)
    assert told.tally.copied == 150
    assert_mirrored(wide)


def starved(
    ahead: Callable[[WorkerPipe, worker_main.Orders], None], post: WorkerPipe, orders: worker_main.Orders
) -> None:
    """Have no memory left for the first errand."""
    real = post.next

    def take() -> object:
        task = real()
        if isinstance(task, WorkItem):
            raise MemoryError  # noqa: TRY004  # no fault of the type
        return task

    vars(post)["next"] = take
    ahead(post, orders)


def test_a_worker_that_runs_out_of_memory_says_so_and_nothing_more(
    wide: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    def prepare(pool: WorkerPool) -> None:
        pool._work = partial(starved, pool._work)

    wide.prepare = prepare

    told = wide.cycle()
    wide.prepare = bool

    assert {event.error for event in told.of(WorkerLost)} == {"it ran out of memory"}
    assert {event.error for event in told.of(FileFailed)} == {
        "its worker is lost: it ran out of memory; the next cycle syncs it again"
    }
    assert capfd.readouterr().err == ""
    balances(wide, told)
    heals(wide)


def killed_by_itself(
    ahead: Callable[[WorkerPipe, worker_main.Orders], None], post: WorkerPipe, orders: worker_main.Orders
) -> None:
    """Be killed in between: some of an errand is placed and told, the rest is not."""
    real, left = post.send, iter(range(3))

    def send(answer: object) -> None:
        real(answer)
        if orders.slot == 1 and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    vars(post)["send"] = send
    ahead(post, orders)


def test_a_worker_killed_after_any_word_leaves_nothing_told_twice_or_not_at_all(wide: Workshop) -> None:
    def prepare(pool: WorkerPool) -> None:
        pool._work = partial(killed_by_itself, pool._work)

    wide.prepare = prepare

    told = wide.cycle()
    wide.prepare = bool

    assert len(told.of(WorkerLost)) == 1
    balances(wide, told)
    heals(wide)


# Stops and mirrors that fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("questions", [1, 3, 10, 30, 60])
def test_a_stop_at_some_moment_leaves_no_temp_and_tells_what_is_done(wide: Workshop, questions: int) -> None:
    left = iter(range(questions))

    told = wide.cycle(stop=lambda: next(left, None) is None)

    assert told.result in {Result.STOPPED, Result.SUCCESS}
    assert told.of(WorkerLost) == []
    assert told.tally.failed == 0
    balances(wide, told)
    assert {os.fsdecode(path) for path in told.copied} == {name for name in wide.names() if name.count("/")}
    wide.ahead_ns += HOUR_NS
    heals(wide)


def test_a_mirror_that_one_worker_finds_lost_ends_the_pair_and_leaves_no_temp(wide: Workshop) -> None:
    wide.prepare = replace_by(partial(losing, wide.ahead_ns))

    told = wide.cycle()
    wide.prepare = bool

    assert told.result is Result.FAILED
    assert [event.error for event in told.of(PairFailed)] == ["it turned read-only"]
    assert wide.temps == []
    heals(wide)


def losing(ahead_ns: int, post: WorkerPipe, orders: worker_main.Orders) -> None:
    """Find, at the third errand, that the mirror cannot be written to any more."""
    from job.engine.copy.actions import MirrorLost  # noqa: PLC0415
    from tests.engine.workshop import serve_ahead  # noqa: PLC0415

    real, left = post.next, iter(range(2))

    def take() -> object:
        task = real()
        if isinstance(task, WorkItem) and next(left, None) is None:
            raise MirrorLost("it turned read-only", hint="look at it")
        return task

    vars(post)["next"] = take
    serve_ahead(ahead_ns, post, orders)
