"""Names, syncs, the index and the telling, in the one order that loses nothing; and what a failure of each voids."""

import errno
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.outcome import Drift, Failure, Result
from job.core.record import FolderDone, Record
from job.engine.context import PairContext
from job.engine.copy import batch
from job.engine.cycle import CycleContext, run_cycle
from job.engine.volumes import Tools
from job.events.base import Event
from job.events.pair import BatchCommitted, DriftFound, FileCopied, FileFailed, FilesCopied, FileUpdated
from job.store.codec import decode_records
from job.store.index import Index
from tests.engine.workshop import (
    ListenedIndex,
    ListenedSync,
    Told,
    Workshop,
    assert_mirrored,
    changed,
    with_index,
    with_sync,
    with_tools,
)


class Disk:
    """A disk of which some syncs or commits fail, each told by its number, from 1."""

    def __init__(self, *failing: int, error: int = errno.EIO) -> None:
        self.calls = 0
        self._failing = failing
        self._error = error

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls in self._failing:
            raise OSError(self._error, os.strerror(self._error))


@pytest.mark.one_process
def test_temps_are_synced_then_named_then_synced_then_remembered_then_told(shop: Workshop) -> None:
    shop.write("new")
    shop.write("sub/file")
    story: list[str] = []

    def look_around(what: str) -> None:
        finished = {name for name in shop.names() if ".truecopy-tmp-" not in name} - {"sub"}
        story.append(f"{what}: {len(shop.temps)} temps, {len(finished)} files")

    def emit(event: Event) -> None:
        if isinstance(event, FilesCopied | BatchCommitted):
            look_around(event.name)

    def listened(context: PairContext) -> PairContext:
        def exchange(tools: Tools) -> Tools:
            return tools._replace(sync=ListenedSync(tools.sync, lambda: look_around("sync")))

        index = ListenedIndex(context.index, lambda _: look_around("commit"))
        return replace(with_tools(context, exchange), index=index)

    run_cycle(shop.config, CycleContext("cycle", emit, bool, shop.now_ns, changed(listened)))

    assert story == [
        "sync: 2 temps, 0 files",
        "sync: 0 temps, 2 files",
        "commit: 0 temps, 2 files",
        "files_copied: 0 temps, 2 files",
        "batch_committed: 0 temps, 2 files",
    ]


def test_a_folder_gets_its_own_time_after_its_files_have_their_names(shop: Workshop) -> None:
    path = shop.write("sub/file")
    for folder in (path.parent, shop.source):
        os.utime(folder, ns=(1, 1_000_000_000))

    shop.cycle()

    assert_mirrored(shop)


def test_nothing_is_synced_when_nothing_was_written(shop: Workshop) -> None:
    shop.write("file")
    shop.cycle()
    disk = Disk()

    shop.cycle(with_sync(disk))

    assert disk.calls == 0


def test_mended_metadata_is_synced_before_it_is_remembered(shop: Workshop) -> None:
    path = shop.write("file")
    shop.cycle()
    path.chmod(0o600)
    disk = Disk()

    told = shop.cycle(with_sync(disk))

    assert disk.calls == 1
    assert len(told.of(FileUpdated)) == 1


# Failing syncs --------------------------------------------------------------------------------------------------------


def test_a_first_sync_that_fails_names_no_file_and_keeps_the_old_ones(shop: Workshop) -> None:
    shop.write("file", "old")
    shop.cycle()
    shop.write("file", "newer")
    shop.write("another")

    told = shop.cycle(with_sync(Disk(1)))

    assert told.result is Result.PARTIAL
    assert told.failed == {b"file": Failure.SYNC, b"another": Failure.SYNC}
    assert told.of(FileCopied) == []
    assert (shop.mirror / "file").read_text() == "old"
    assert shop.names() == {"file"}
    assert told.committed == told.tally


@pytest.mark.parametrize("failing", [1, 2])
def test_what_a_failing_sync_voided_is_copied_by_the_next_cycle(shop: Workshop, failing: int) -> None:
    shop.write("file", "old")
    shop.cycle()
    shop.write("file", "newer")
    shop.cycle(with_sync(Disk(failing)))

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert told.tally.failed == 0
    assert_mirrored(shop)


def test_a_second_sync_that_fails_tells_nothing_as_copied(shop: Workshop) -> None:
    shop.write("file")
    shop.write("sub/file")

    told = shop.cycle(with_sync(Disk(2)))

    assert told.result is Result.PARTIAL
    assert told.failed == {b"file": Failure.SYNC, b"sub/file": Failure.SYNC}
    assert told.of(FileCopied) == []
    assert told.committed == told.tally


def test_a_sync_that_fails_for_metadata_alone_is_a_failure_too(shop: Workshop) -> None:
    path = shop.write("file")
    shop.cycle()
    path.chmod(0o600)

    told = shop.cycle(with_sync(Disk(1)))

    assert told.result is Result.PARTIAL
    assert told.tally.failed == 1


def test_what_a_sync_says_in_the_middle_of_a_folder_holds_for_the_rest_of_it(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The folder is remembered only at its end, by a commit that goes well: it must not remember the batch that did not.
    monkeypatch.setattr(batch, "MOST_FILES", 2)
    for name in "abcdef":
        shop.write(name)
    told = shop.cycle(with_sync(Disk(2)))

    again = shop.cycle()

    assert told.failed == {b"a": Failure.SYNC, b"b": Failure.SYNC}
    assert told.tally.copied == 4
    assert set(again.copied) | {event.path for event in again.of(FileUpdated)} <= {b"a", b"b"}
    assert sorted(records(shop)) == [bytes([c]) for c in b"abcdef"]


def records(shop: Workshop) -> dict[bytes, Record]:
    """Give what the index says of the root's entries."""
    with closing(Index.open(str(shop.state))) as index:
        return decode_records(index.rows(b""))


# Failing commits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "failure"), [(errno.ENOSPC, Failure.NO_SPACE), (errno.EIO, Failure.SYNC)])
def test_what_the_index_did_not_take_is_not_told_as_copied(shop: Workshop, error: int, failure: Failure) -> None:
    shop.write("file")

    told = shop.cycle(with_index(Disk(1, error=error)))

    assert told.result is Result.PARTIAL
    assert told.failed == {b"file": failure}
    assert told.of(FileCopied) == []
    assert told.committed == told.tally


def test_an_index_that_takes_nothing_is_a_failure_even_if_nothing_was_copied(shop: Workshop) -> None:
    shop.write("sub/file")
    shop.cycle()
    (shop.source / "sub").chmod(0o700)

    told = shop.cycle(with_index(Disk(1)))

    assert told.result is Result.PARTIAL
    assert told.failed == {b"sub": Failure.SYNC}


def test_after_a_failed_commit_contents_are_compared_and_not_copied(shop: Workshop) -> None:
    shop.write("file")
    shop.cycle(with_index(Disk(1)))

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert told.tally.copied == 0
    assert told.drift == {}
    assert_mirrored(shop)


# Somebody else at the mirror ------------------------------------------------------------------------------------------


def test_what_changes_in_the_mirror_during_a_cycle_does_not_become_what_it_ought_to_be(shop: Workshop) -> None:
    shop.options["audit_interval"] = "1h"
    shop.write("kept")
    shop.cycle()
    shop.write("new")

    def meddle() -> None:
        (shop.mirror / "kept").write_text("CONTENT")

    shop.cycle(with_sync(meddle))
    shop.options["audit_interval"] = 0

    told = shop.cycle()

    assert [(event.path, event.kind) for event in told.of(DriftFound)] == [(b"kept", Drift.CONTENT)]
    assert_mirrored(shop)


def test_a_copy_that_somebody_replaced_before_it_was_safe_is_not_told_as_copied(shop: Workshop) -> None:
    shop.write("file")

    def meddle() -> None:
        for path in shop.mirror.glob(".truecopy-tmp-*"):
            path.with_name("strange").write_text("strange")
            path.with_name("strange").rename(path)

    told = shop.cycle(with_sync(meddle))

    assert told.result is Result.PARTIAL
    assert told.of(FileCopied) == []
    assert list(told.failed) == [b"file"]
    assert shop.cycle().result is Result.SUCCESS
    assert_mirrored(shop)


# Batches, and stops between them --------------------------------------------------------------------------------------


def test_a_full_batch_is_committed_in_the_middle_of_a_folder(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_FILES", 2)
    for name in "abcde":
        shop.write(name)
    rows: list[int] = []

    told = shop.cycle(with_index(lambda folders: rows.append(len(folders))))

    assert [event.tally.copied for event in told.of(BatchCommitted)] == [2, 2, 1]
    assert rows == [1]  # a folder is remembered once, at its end
    assert_mirrored(shop)
    assert shop.cycle().tally.copied == 0


def test_many_bytes_make_a_batch_full(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_BYTES", 90)
    for number in range(140):
        shop.write(f"{number:03}", "123456")

    told = shop.cycle()

    # It is asked after 64 plain files, or after those of 50 ms.
    copied = [event.tally.copied for event in told.of(BatchCommitted)]
    assert sum(copied) == 140
    assert max(copied) <= 64


@pytest.mark.one_process
def test_a_long_wait_makes_a_batch_full(shop: Workshop) -> None:
    for name in "abc":
        shop.write(name)
    ticking = shop.now_ns

    def slow_clock() -> int:
        shop.ahead_ns += batch.LONGEST_NS // 4
        return ticking()

    told = Told()
    run_cycle(shop.config, CycleContext("cycle", told.hear, bool, slow_clock, changed(lambda context: context)))

    assert len(told.of(BatchCommitted)) > 1
    assert told.committed.copied == 3


def stop_after(calls: int) -> Callable[[], bool]:
    left = [calls]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return stop


@pytest.fixture
def slow(shop: Workshop) -> Workshop:
    """Give a place of work where each entry takes so long that a stop is looked for before the next one."""
    ahead = shop.now_ns

    def leaping() -> int:
        shop.ahead_ns += 60_000_000
        return ahead()

    shop.now_ns = leaping  # type: ignore[method-assign]
    return shop


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("calls", range(1, 14))
def test_a_stop_leaves_no_temp_and_tells_only_what_is_done(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr(batch, "MOST_FILES", 2)
    for name in ("a", "b", "c", "sub/d"):
        shop.write(name)

    told = shop.cycle(stop=stop_after(calls))

    assert told.result in {Result.STOPPED, Result.SUCCESS}
    assert shop.temps == []
    assert shop.names() - {"sub"} == {os.fsdecode(path) for path in told.copied}
    assert told.committed == told.tally
    assert told.tally.failed == 0


@pytest.mark.usefixtures("slow")
@pytest.mark.one_process
def test_after_a_stop_the_next_cycle_does_the_rest(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_FILES", 1)
    for name in "abcd":
        shop.write(name)
    first = shop.cycle(stop=stop_after(6))

    second = shop.cycle()

    assert first.result is Result.STOPPED
    assert 0 < first.tally.copied < 4
    assert set(first.copied) | set(second.copied) == {b"a", b"b", b"c", b"d"}
    assert not set(first.copied) & set(second.copied)
    assert second.drift == {}
    assert_mirrored(shop)


# Reading back ---------------------------------------------------------------------------------------------------------


def spoil(mirror: Path) -> None:
    """Change what lies in the temps, as a bad disk would."""
    for temp in mirror.rglob(".truecopy-tmp-*"):
        if not temp.is_symlink() and b"bad" in temp.read_bytes():
            os.truncate(temp, 1)


def test_a_copy_that_reads_back_differently_gets_no_name(shop: Workshop) -> None:
    shop.options["verify_copies"] = "readback"
    shop.write("good", "good")
    shop.write("bad", "bad")
    (shop.source / "link").symlink_to("bad")

    told = shop.cycle(with_sync(lambda: spoil(shop.mirror)))

    assert told.result is Result.PARTIAL
    assert told.failed == {b"bad": Failure.VERIFY_MISMATCH}
    assert set(told.copied) == {b"good", b"link"}
    assert shop.names() == {"good", "link"}
    [failed] = told.of(FileFailed)
    assert "sha256:" in failed.error


def test_a_row_of_the_index_speaks_of_what_the_mirror_holds(shop: Workshop) -> None:
    shop.write("file")
    folders: list[FolderDone] = []

    shop.cycle(with_index(folders.extend))

    [folder] = folders
    record = records(shop)[b"file"]
    found = (shop.mirror / "file").stat()
    assert (record.mirror.inode, record.mirror.ctime_ns) == (found.st_ino, found.st_ctime_ns)
    assert record.source.inode == (shop.source / "file").stat().st_ino
    assert (folder.summary.entries, folder.summary.specials, folder.summary.recheck) == (1, 0, False)
