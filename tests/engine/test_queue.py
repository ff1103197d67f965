"""Rounds: every changed folder is given to somebody once, and never before its mirror can be entered."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.exclude import ExcludeRules
from job.core.file_systems import Capabilities
from job.core.outcome import Failure
from job.engine.context import PairRun
from job.engine.copy.adoption import Exchange
from job.engine.dispatch import queue
from job.engine.dispatch.hardlink_dispatch import HardLinks, LinkResolver
from job.engine.dispatch.queue import WorkQueue
from job.engine.messages import BatchResult, Followups, IndexLookup, SyncFolder, WorkItem
from job.events.pair import FileFailed
from job.fs.dircursor import open_root
from job.fs.listing import Unlisted
from job.fs.scanners import SourceScanner
from job.store.hardlink_table import HardLinkTable
from job.store.index import Index
from tests.core import samples
from tests.engine.scanning import at_work, scanned
from tests.engine.workshop import Workshop

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are

Begin = Callable[..., WorkQueue]


@pytest.fixture
def index() -> Iterator[Index]:
    with closing(Index.empty()) as index:
        yield index


@pytest.fixture
def begin(shop: Workshop, index: Index) -> Iterator[Begin]:
    """Give a function that looks at the pair and begins its rounds."""
    with ExitStack() as tidy:

        def rounds_after_a_look(*unlisted: bytes) -> WorkQueue:
            found, _ = scanned(shop, 1)
            known = IndexLookup(index, [Capabilities()])
            found.unlisted += [Unlisted(path, OSError(13)) for path in unlisted]
            source, mirror = (open_root(str(path)) for path in (shop.source, shop.mirror))
            for root in (source, mirror):
                tidy.callback(os.close, root)
            resolver = tidy.enter_context(
                closing(LinkResolver(SourceScanner(source, ExcludeRules(())), (source, mirror)))
            )
            hard_links = HardLinks(HardLinkTable(), known, lambda _: "", resolver)
            with at_work(shop, [], 1, bool) as (opened, _):
                tools = opened.tools
                context = replace(opened, source_root=source, mirror_root=mirror, make_tools=lambda: tools)
            run = PairRun("cycle", shop.pair, lambda _: None, bool, shop.now_ns)
            exchange = tidy.enter_context(closing(Exchange(context, run, list)))
            return tidy.enter_context(closing(WorkQueue(found, known, hard_links, (source, mirror), exchange)))

        yield rounds_after_a_look


@pytest.fixture
def singly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_MOST_FOLDERS", 1)


def back(item: WorkItem | None, **followups: list[bytes]) -> BatchResult:
    """Come back from an errand."""
    assert item is not None
    return BatchResult(begun=item.number, since_ns=0, ended=[item.number], followups=Followups(**followups))  # type: ignore[arg-type]


def failed(path: bytes, kind: Kind) -> FileFailed:
    return FileFailed(cycle_id="cycle", pair="music", path=path, kind=kind, reason=Failure.NO_SPACE, error="full")


def paths(item: WorkItem | None) -> list[bytes]:
    return [task.path for task in item.tasks] if item else []


def all_of(ours: WorkQueue) -> list[bytes]:
    """Take errands as long as there are any, coming back from each at once."""
    taken = []
    while item := ours.next_item():
        taken += paths(item)
        ours.record_result(back(item))
    assert not ours.is_busy
    return taken


@pytest.mark.usefixtures("singly")
def test_each_folder_is_given_once_parents_first_and_the_mirror_has_it_then(shop: Workshop, begin: Begin) -> None:
    for name in ("a/b/c/file", "a/d/file", "e/file"):
        shop.write(name)
    ours, given = begin(), []

    while item := ours.next_item():
        (path,) = paths(item)
        assert (shop.mirror / os.fsdecode(path)).is_dir()
        given.append(path)

    assert sorted(given) == [b"", b"a", b"a/b", b"a/b/c", b"a/d", b"e"]
    assert all(path.rpartition(b"/")[0] in given[:number] for number, path in enumerate(given) if path)
    assert ours.is_busy, "nobody has come back"


def test_a_folder_made_for_others_is_nobodys_to_enter(shop: Workshop, begin: Begin) -> None:
    shop.write("private/file")

    begin().next_item()

    assert (shop.mirror / "private").stat().st_mode & 0o777 == 0o700


def test_errands_are_of_a_fair_size(shop: Workshop, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in "abcdef":
        for number in range(3):
            shop.write(f"{folder}/{number}", "x" * 10)
    monkeypatch.setattr(queue, "_MOST_ENTRIES", 7)
    by_entries = [len(paths(item)) for item in iter(begin().next_item, None)]
    monkeypatch.undo()
    monkeypatch.setattr(queue, "_MOST_BYTES", 50)
    by_bytes = [len(paths(item)) for item in iter(begin().next_item, None)]

    assert by_entries == [4, 3]
    assert by_bytes == [3, 2, 2]


def test_what_is_known_of_a_folder_goes_along(shop: Workshop, begin: Begin, index: Index) -> None:
    shop.write("folder/file")
    rows = samples.rows_of()
    index.commit([samples.a_finished_folder()], [rows])

    item = begin().next_item()

    assert item is not None
    assert {task.path: task.rows for task in item.tasks if isinstance(task, SyncFolder)} == {
        b"": "",
        b"folder": rows.rows,
    }


@pytest.mark.usefixtures("singly")
def test_what_something_else_has_the_name_of_waits_until_everybody_is_back(shop: Workshop, begin: Begin) -> None:
    for name in ("b/c/file", "d/file"):
        shop.write(name)
    (shop.mirror / "b").write_text("in the way")
    ours = begin()

    root, other = ours.next_item(), ours.next_item()
    waiting = ours.next_item()
    ours.record_result(back(other))
    still_waiting = ours.next_item()
    (shop.mirror / "b").unlink()
    (shop.mirror / "b").mkdir()  # as the visit of the root does
    ours.record_result(back(root))

    assert (paths(root), paths(other)) == ([b""], [b"d"])
    assert (waiting, still_waiting) == (None, None)
    assert all_of(ours) == [b"b", b"b/c"]


@pytest.mark.usefixtures("singly")
def test_who_is_lost_is_not_waited_for(shop: Workshop, begin: Begin) -> None:
    shop.write("b/file")
    (shop.mirror / "b").write_text("in the way")
    ours = begin()
    root = ours.next_item()

    assert root is not None
    assert ours.next_item() is None
    ours.record_done([root.number])

    assert paths(ours.next_item()) == [b"b"], "which fails, and is told"


def test_a_folder_that_was_told_as_failed_is_not_given_again(shop: Workshop, begin: Begin) -> None:
    for name in ("b/file", "c/file"):
        shop.write(name)
    for name in "bc":
        (shop.mirror / name).write_text("in the way")
    ours = begin()
    batch = back(ours.next_item())
    batch.events += [failed(b"b", Kind.FOLDER), failed(b"c", Kind.FILE)]
    batch.tally = Tally(failed_by={Failure.NO_SPACE: 2})

    ours.record_result(batch)

    assert all_of(ours) == [b"c"]


@pytest.mark.usefixtures("singly")
def test_a_folder_that_went_since_the_look_is_not_made(shop: Workshop, begin: Begin) -> None:
    for name in ("gone/below/file", "stays/file"):
        shop.write(name)
    ours = begin()
    (shop.source / "gone").rename(shop.base / "elsewhere")

    given = all_of(ours)

    assert given == [b"", b"stays"]
    assert shop.names() == {"stays"}


def test_folders_that_came_since_the_look_are_visited_whole_and_known_ones_are_not(
    shop: Workshop, begin: Begin, index: Index
) -> None:
    shop.write("looked at/file")
    index.commit([samples.a_finished_folder(b"unchanged")], [])
    ours = begin(b"unreadable")
    came = [b"new", b"new", b"looked at", b"unreadable", b"unchanged", b".truecopy", b"new/.truecopy-tmp-1"]

    ours.record_result(back(ours.next_item(), unscanned=came))
    late = ours.next_item()
    ours.record_result(back(late, unscanned=came))

    assert late is not None
    assert late.tasks == [SyncFolder(b"new", b"", "", whole=True)]
    assert ours.next_item() is None
    assert not ours.is_busy


def test_errands_are_numbered_and_out_until_they_are_ended(shop: Workshop, begin: Begin) -> None:
    shop.write("file")
    ours = begin()
    before = ours.is_busy
    item = ours.next_item()
    during = ours.is_busy
    ours.record_result(back(item))

    assert item is not None
    assert (before, during, ours.is_busy, item.number) == (False, True, False, 1)
