"""The commit of what workers placed: safe on the disk, then in the index, then told; what is in doubt is a failure."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Failure, Skip
from job.core.record import FolderDone
from job.engine.context import PairRun
from job.engine.copy.commit import Commit
from job.engine.messages import BatchResult
from job.events.base import Event
from job.events.pair import BatchCommitted, FileCopied, FileFailed, FilesCopied, MetadataNotKept
from job.fs.own_files import MirrorSync
from job.store.index import Index
from tests.config.configs import to_settings
from tests.core import samples
from tests.engine.workshop import ListenedIndex

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are


class ToldSync(MirrorSync):
    """A sync of nothing, which is told."""

    each = False

    def __init__(self, tell: Callable[[], None]) -> None:
        self.all = tell  # type: ignore[method-assign]


@dataclass
class Office:
    """A commit on a real index, and a disk that says what a test wants; everything that happens is in `story`."""

    index: ListenedIndex
    story: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    sync_error: OSError | None = None
    index_error: OSError | None = None
    clock_ns: int = 1000

    def __post_init__(self) -> None:
        pair = to_settings(pairs=[{"name": "music", "source": "/source", "dest": "/mirror"}]).effective_pairs[0]
        self.commit = Commit(self.index, ToldSync(self.sync), PairRun("cycle", pair, self.emit, bool, self.now_ns))
        self.index.before_commit = self.remember

    def sync(self) -> None:
        self.story.append("sync")
        if self.sync_error:
            raise self.sync_error

    def remember(self, folders: list[FolderDone]) -> None:
        self.story.append(f"index {len(folders)}")
        if self.index_error:
            raise self.index_error

    def emit(self, event: Event) -> None:
        self.told += map(event.event_of, event.copies) if isinstance(event, FilesCopied) else [event]
        if not self.story or self.story[-1] != "tell":
            self.story.append("tell")

    def now_ns(self) -> int:
        return self.clock_ns

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def failed(self) -> list[tuple[bytes, Failure]]:
        return [(event.path, event.reason) for event in self.of(FileFailed)]

    @property
    def tally(self) -> Tally:
        return sum((event.tally for event in self.of(BatchCommitted)), Tally())


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with closing(Index.open(str(tmp_path))) as index:
        yield Office(ListenedIndex(index))


def copied(name: str) -> FilesCopied:
    facts = name.encode(), Kind.FILE, 1, "sha256:00", "644", "new", 0.0
    return FilesCopied(cycle_id="cycle", pair="music", copies=[facts])


def placed(*names: str, begun: int = 1, since_ns: int = 1000, **changed: Any) -> BatchResult:
    """Make a batch of copied files, in one folder that is named as the errand is."""
    folder = b"folder %d" % begun
    batch = BatchResult(
        begun=begun,
        since_ns=since_ns,
        ended=[begun],
        folders=[samples.a_finished_folder(folder)],
        rows=[samples.rows_of(folder)],
        events=[copied(name) for name in names],
        tally=Tally(copied=len(names), bytes_copied=len(names), folders=1),
        dirty=True,
    )
    for name, value in changed.items():
        setattr(batch, name, value)
    return batch


def not_kept(what: str) -> MetadataNotKept:
    return MetadataNotKept(cycle_id="cycle", pair="music", what=what, path=b"file", error="refused")


def disk_error(number: int = errno.EIO) -> OSError:
    return OSError(number, os.strerror(number))


def test_batches_that_came_together_have_one_sync_and_one_transaction_and_are_told_after_that(office: Office) -> None:
    office.commit([placed("a", "b"), placed("c", begun=2)])

    assert office.story == ["sync", "index 2", "tell"]
    assert [event.path for event in office.of(FileCopied)] == [b"a", b"b", b"c"]
    assert [event.tally.copied for event in office.of(BatchCommitted)] == [2, 1]
    assert office.index.summary(b"folder 1") is not None
    assert office.index.summary(b"folder 2") is not None


def test_where_nothing_was_written_nothing_is_synced(office: Office) -> None:
    office.commit([placed(dirty=False)])

    assert office.story == ["index 1", "tell"]


def test_what_the_index_has_already_is_not_written_again(office: Office) -> None:
    office.commit([placed(dirty=False)])
    office.commit([placed(dirty=False, rows=[])])

    assert office.story == ["index 1", "tell"]
    assert office.tally.folders == 2


def test_a_failed_sync_makes_failures_of_every_batch_and_remembers_nothing(office: Office) -> None:
    office.sync_error = disk_error()

    office.commit([placed("a", "b"), placed("c", begun=2)])

    assert office.story == ["sync", "tell"]
    assert office.failed == [(b"a", Failure.SYNC), (b"b", Failure.SYNC), (b"c", Failure.SYNC)]
    assert office.of(FileCopied) == []
    assert (office.tally.copied, office.tally.bytes_copied, office.tally.failed_by) == (0, 0, {Failure.SYNC: 3})
    assert office.index.summary(b"folder 1") is None


@pytest.mark.parametrize(("number", "reason"), [(errno.EIO, Failure.SYNC), (errno.ENOSPC, Failure.NO_SPACE)])
def test_an_index_that_cannot_be_written_makes_failures_of_every_batch(
    office: Office, number: int, reason: Failure
) -> None:
    office.index_error = disk_error(number)

    office.commit([placed("a"), placed("b", begun=2)])

    assert office.failed == [(b"a", reason), (b"b", reason)]
    assert office.tally.failed_by == {reason: 2}


def test_skips_updates_and_failures_of_before_stay_what_they_were(office: Office) -> None:
    office.sync_error = disk_error()
    tally = Tally(copied=1, updated=2, skipped_by={Skip.UNCHANGED: 3}, failed_by={Failure.SYNC: 1, Failure.NAME: 1})

    office.commit([placed("a", tally=tally)])

    assert office.tally.failed_by == {Failure.SYNC: 2, Failure.NAME: 1}
    assert (office.tally.updated, office.tally.skipped) == (2, 3)


def test_folders_without_a_copied_file_fail_as_one(office: Office) -> None:
    office.sync_error = disk_error()

    office.commit([placed()])

    assert office.failed == [(b"folder 1", Failure.SYNC)]
    assert office.tally.failed == 1


def test_a_batch_of_nothing_but_failures_is_not_touched_by_anybody_elses(office: Office) -> None:
    office.sync_error = disk_error()
    failures = Tally(failed_by={Failure.PERMISSION: 1})

    office.commit([placed("a"), placed(begun=2, folders=[], rows=[], tally=failures, dirty=False)])

    assert office.failed == [(b"a", Failure.SYNC)]
    assert [event.tally.failed_by for event in office.of(BatchCommitted)] == [
        {Failure.SYNC: 1},
        {Failure.PERMISSION: 1},
    ]


# After a sync that failed ---------------------------------------------------------------------------------------------


@pytest.fixture
def after_a_failure(office: Office) -> Office:
    """Three errands were given when a sync failed at the clock's 1000."""
    office.commit.given = 3
    office.sync_error = disk_error()
    office.commit([placed("lost")])
    office.sync_error = None
    office.told.clear()
    office.story.clear()
    return office


def test_what_was_begun_to_be_written_before_it_is_a_failure(after_a_failure: Office) -> None:
    after_a_failure.commit([placed("a", begun=2, since_ns=999)])

    assert after_a_failure.failed == [(b"a", Failure.SYNC)]
    assert after_a_failure.index.summary(b"folder 2") is None


def test_what_was_written_after_it_is_told_but_its_folder_is_looked_at_again(after_a_failure: Office) -> None:
    after_a_failure.commit([placed("b", begun=3, since_ns=1000)])

    assert [event.path for event in after_a_failure.of(FileCopied)] == [b"b"]
    assert after_a_failure.failed == []
    assert after_a_failure.index.summary(b"folder 3") is None


def test_errands_given_after_it_are_as_good_as_any(after_a_failure: Office) -> None:
    after_a_failure.commit([placed("c", begun=4, since_ns=1001)])

    assert after_a_failure.story == ["sync", "index 1", "tell"]
    assert after_a_failure.index.summary(b"folder 4") is not None


# Metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_that_several_workers_could_not_keep_is_told_once(office: Office) -> None:
    events = [[not_kept("owner"), copied("a")], [not_kept("owner"), not_kept("times")], [not_kept("owner")]]

    office.commit([placed(events=events[0]), placed(begun=2, events=events[1])])
    office.commit([placed(begun=3, events=events[2])])

    assert [event.what for event in office.of(MetadataNotKept)] == ["owner", "times"]
