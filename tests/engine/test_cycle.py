"""A cycle as a whole: what it does, what it tells, and in which order."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from job.app.pair_setup import open_context
from job.config.settings import Config
from job.core.counts import Tally
from job.core.outcome import Failure, Result, Skip
from job.engine.context import PairContext
from job.engine.cycle import CycleContext, run_cycle
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    FileCopied,
    FileSkipped,
    FileUpdated,
    FoldersUnchanged,
    MirrorAdopted,
    MirrorProbed,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
)
from job.events.service import CycleFinished, CycleStarted
from tests.config.configs import to_settings
from tests.engine.workshop import Told, Workshop, as_nobody, assert_mirrored


def a_tree(shop: Workshop) -> None:
    """Make files, a link, a FIFO and folders, one of them empty."""
    for name in ("one", "sub/two", "sub/deeper/three"):
        shop.write(name, name)
    (shop.source / "link").symlink_to("one")
    (shop.source / "empty").mkdir()
    os.mkfifo(shop.source / "pipe")


def kinds(told: Told) -> list[type[Event]]:
    return [type(event) for event in told.events if not isinstance(event, Progressed)]


def test_the_first_cycle_mirrors_everything(shop: Workshop) -> None:
    a_tree(shop)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert told.copied == dict.fromkeys([b"one", b"link", b"sub/two", b"sub/deeper/three"], "new")
    assert told.tally == Tally(
        copied=4, bytes_copied=len("one" + "sub/two" + "sub/deeper/three"), folders=4, skipped_by={Skip.SPECIAL_FILE: 1}
    )
    assert_mirrored(shop)


def test_the_second_cycle_copies_nothing_and_counts_the_same_entries(shop: Workshop) -> None:
    a_tree(shop)
    first = shop.cycle()

    second = shop.cycle()

    assert second.result is Result.SUCCESS
    assert second.tally == Tally(folders=4, skipped_by={Skip.UNCHANGED: 4, Skip.SPECIAL_FILE: 1})
    assert second.tally.entries == first.tally.entries


def test_a_cycle_is_told_from_start_to_end(shop: Workshop) -> None:
    shop.write("file")

    told = shop.cycle()

    assert kinds(told) == [
        CycleStarted,
        MirrorAdopted,
        MirrorProbed,
        PairStarted,
        FileCopied,
        BatchCommitted,
        PairFinished,
        CycleFinished,
    ]


def test_an_unchanged_pair_is_told_in_one_line(shop: Workshop) -> None:
    shop.write("file")
    shop.cycle()

    told = shop.cycle()

    assert kinds(told) == [CycleStarted, PairStarted, FoldersUnchanged, BatchCommitted, PairFinished, CycleFinished]


def test_what_the_counters_count_is_what_the_summaries_say(shop: Workshop) -> None:
    a_tree(shop)
    shop.write("sub/.truecopy-tmp-reserved")
    shop.cycle()
    shop.write("one", "edited")
    (shop.source / "sub/two").chmod(0o600)

    told = shop.cycle()

    [finished] = told.of(CycleFinished)
    assert told.committed == told.tally == finished.tally
    assert told.tally.copied == 1
    assert told.tally.updated == 1
    assert told.tally.failed_by == {Failure.RESERVED_NAME: 1}
    assert told.tally.entries == 6
    assert told.result is finished.result is Result.PARTIAL


def test_every_event_of_an_entry_is_counted(shop: Workshop) -> None:
    a_tree(shop)
    shop.write(".truecopy-tmp-reserved")
    shop.verbose = True
    shop.cycle()
    (shop.source / "one").chmod(0o600)
    shop.write("new")

    told = shop.cycle()

    [unchanged] = told.of(FoldersUnchanged)
    assert len(told.of(FileCopied)) == told.tally.copied
    assert len(told.of(FileUpdated)) == told.tally.updated
    assert len(told.failed) == told.tally.failed
    assert len(told.of(FileSkipped)) + unchanged.entries == told.tally.skipped


def test_unchanged_entries_are_told_of_only_on_request(shop: Workshop) -> None:
    for name in ("old", "older"):
        shop.write(name)
    shop.cycle()
    shop.write("new")

    assert shop.cycle().of(FileSkipped) == []

    shop.verbose = True
    shop.write("newer")
    assert {event.path for event in shop.cycle().of(FileSkipped)} == {b"old", b"older", b"new"}


def test_an_empty_source_that_was_never_filled_is_a_success_where_it_may_be_empty(shop: Workshop) -> None:
    shop.options["allow_empty"] = True
    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert told.tally == Tally(folders=1)


def test_a_young_file_is_read_again_and_not_copied_again(shop: Workshop) -> None:
    shop.ahead_ns = 0
    shop.write("file")
    shop.cycle()

    told = shop.cycle()

    assert told.tally == Tally(folders=1, skipped_by={Skip.UNCHANGED: 1})
    assert told.of(FoldersUnchanged) == []


def test_a_mode_is_mended_without_copying(shop: Workshop) -> None:
    path = shop.write("file")
    shop.cycle()
    path.chmod(0o640)

    told = shop.cycle()

    [updated] = told.of(FileUpdated)
    assert (updated.path, updated.permissions, updated.reason) == (b"file", "640", "mode changed")
    assert told.tally == Tally(updated=1, folders=1)
    assert_mirrored(shop)


def test_attributes_of_files_and_folders_follow_their_source(shop: Workshop) -> None:
    path = shop.write("sub/file")
    shop.cycle()
    for target in (path, path.parent, shop.source):
        os.setxattr(target, "user.colour", b"blue")

    told = shop.cycle()

    assert told.tally.updated == 1
    for name in ("sub/file", "sub", "."):
        assert os.getxattr(shop.mirror / name, "user.colour") == b"blue"


# Several pairs --------------------------------------------------------------------------------------------------------


def two_pairs(shop: Workshop, **second: object) -> Config:
    for name in ("other-source", "other-mirror"):
        (shop.base / name).mkdir()
    (shop.base / "other-source/other").write_text("other")
    pairs = [
        {"name": "music", "source": str(shop.source), "dest": str(shop.mirror)},
        {"name": "other", "source": f"{shop.base}/other-source", "dest": f"{shop.base}/other-mirror", **second},
    ]
    return to_settings(pairs=pairs)


def run(shop: Workshop, config: Config, stop: Callable[[], bool] = bool) -> Told:
    told = Told()
    told.result = run_cycle(config, CycleContext("cycle", told.hear, stop, shop.now_ns, open_context))
    return told


def test_a_pair_that_is_refused_does_not_keep_the_others_from_their_turn(shop: Workshop) -> None:
    config = two_pairs(shop)
    shop.source.rmdir()

    told = run(shop, config)

    assert [(each.pair, each.result) for each in told.of(PairFinished)] == [
        ("music", Result.REFUSED),
        ("other", Result.SUCCESS),
    ]
    assert [each.pair for each in told.of(PairRefused)] == ["music"]
    assert told.result is Result.REFUSED
    assert (shop.base / "other-mirror/other").read_text() == "other"


def test_the_cycle_sums_its_pairs(shop: Workshop) -> None:
    shop.write("file")

    told = run(shop, two_pairs(shop))

    [finished] = told.of(CycleFinished)
    assert finished.tally == told.tally == told.committed
    assert finished.tally.copied == 2
    assert told.of(CycleStarted)[0].pairs == ("music", "other")


def test_after_a_stop_no_further_pair_is_begun(shop: Workshop) -> None:
    shop.write("file")
    config = two_pairs(shop)

    told = run(shop, config, stop=lambda: True)

    assert [(each.pair, each.result) for each in told.of(PairFinished)] == [("music", Result.STOPPED)]
    assert told.result is Result.STOPPED


def test_a_pair_whose_disk_fails_is_given_up_in_words(shop: Workshop) -> None:
    shop.write("file")

    def broken(*_: object) -> AbstractContextManager[PairContext]:
        raise OSError(5, "Input/output error")

    told = shop.cycle(open_context=broken)

    [failed] = told.of(PairFailed)
    assert "Input/output error" in failed.error
    assert failed.hint
    assert told.result is Result.FAILED


# What vanishes and what cannot be read --------------------------------------------------------------------------------


@pytest.mark.needs_root
def test_what_cannot_be_read_is_unknown_and_its_mirror_is_left_alone(open_shop: Workshop) -> None:
    shop = open_shop
    shop.write("locked/file")
    shop.write("open/file")
    seen_before = as_nobody(shop)
    (shop.source / "locked").chmod(0)
    shop.write("open/new")

    told = as_nobody(shop)

    assert seen_before.result is Result.SUCCESS
    assert told.result is Result.PARTIAL
    assert told.failed == {b"locked": Failure.PERMISSION}
    assert set(told.copied) == {b"open/new"}
    assert (shop.mirror / "locked/file").read_text() == "content"
    assert told.committed == told.tally


@pytest.mark.needs_root
def test_a_source_that_nobody_may_write_does_not_lock_its_mirror_for_the_next_cycle(open_shop: Workshop) -> None:
    shop = open_shop
    shop.write("file")
    shop.source.chmod(0o555)
    first = as_nobody(shop)
    shop.write("new")

    second = as_nobody(shop)

    assert (first.result, second.result) == (Result.SUCCESS, Result.SUCCESS)
    assert set(second.copied) == {b"new"}


def test_a_folder_that_left_the_source_stays_in_the_mirror(shop: Workshop, tmp_path: Path) -> None:
    shop.write("sub/file")
    shop.write("stays")
    shop.cycle()
    (shop.source / "sub").rename(tmp_path / "moved-away")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert shop.names() == {"stays", "sub", "sub/file"}


def test_leftover_temps_are_swept_and_folders_of_such_a_name_are_not(shop: Workshop) -> None:
    shop.write("file")
    (shop.mirror / ".truecopy-tmp-old").write_text("half a con")
    (shop.mirror / ".truecopy-tmp-link").symlink_to("/etc/passwd")
    (shop.mirror / ".truecopy-tmp-folder").mkdir()

    shop.cycle()

    assert [path.name for path in shop.temps] == [".truecopy-tmp-folder"]
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("side", ["source", "mirror"])
def test_a_root_that_went_away_fails_a_cycle_that_found_nothing_to_do(shop: Workshop, side: str) -> None:
    (shop.source / "file").write_text("content")
    assert shop.cycle().result is Result.SUCCESS
    root = shop.source if side == "source" else shop.mirror

    def stop() -> bool:
        if root.exists():
            root.rename(root.with_suffix(".away"))
        return False

    told = shop.cycle(stop=stop)

    assert told.result is Result.FAILED
    (failed,) = told.of(PairFailed)
    assert f"the {side} {root} went away in mid-run" in failed.error
