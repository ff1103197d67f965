"""What goes wrong in a huge folder costs the part it goes wrong in, is told, and is done again."""

import errno
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from job.core.entry import Entry
from job.core.outcome import Failure, Result
from job.engine.copy import batch, folder
from job.events.pair import ReplacedByFolder, WorkerLost
from job.fs.small_copies import PlainCopier
from tests.engine.interference import failing, interfered
from tests.engine.large_dirs import MANY, assert_settled, fill, summary
from tests.engine.workshop import Workshop, with_index, with_sync


def test_a_file_that_fails_in_a_part_is_told_and_tried_again(huge_shop: Workshop) -> None:
    huge_shop.write("crowd/.truecopy-tmp-mine")

    told = huge_shop.cycle()

    assert told.result is Result.PARTIAL
    assert told.failed == {b"crowd/.truecopy-tmp-mine": Failure.RESERVED_NAME}
    assert told.tally.copied == MANY + 5
    assert summary(huge_shop).fingerprint == b""
    (huge_shop.source / "crowd" / ".truecopy-tmp-mine").unlink()
    assert huge_shop.cycle().copied == {}
    assert_settled(huge_shop)


def test_a_mirror_file_in_the_way_of_a_huge_folder_gives_way_to_it(huge_shop: Workshop) -> None:
    (huge_shop.mirror / "crowd").write_text("in the way")

    told = huge_shop.cycle()

    assert told.result is Result.SUCCESS
    assert [event.path for event in told.of(ReplacedByFolder)] == [b"crowd"]
    assert_settled(huge_shop)


def test_a_plan_goes_through_a_huge_folder_in_parts_and_says_what_will_be_done(mirrored_huge: Workshop) -> None:
    (mirrored_huge.mirror / "crowd" / "f-8").unlink()
    mirrored_huge.write("crowd/f-9", "edited")
    fill(mirrored_huge, 1, start=MANY)

    plan = mirrored_huge.plan()

    assert {line.path: line.reason for line in plan} == mirrored_huge.cycle().copied
    assert mirrored_huge.plan() == []


def test_a_plan_of_a_huge_folder_that_is_new_names_everything(huge_shop: Workshop) -> None:
    plan = {line.path for line in huge_shop.plan() if line.action == "copy"}

    assert plan == set(huge_shop.cycle().copied)


def test_a_stop_in_a_huge_folder_loses_little_and_what_was_done_is_not_read_anew(
    huge_shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge_shop.options["workers"] = 1
    monkeypatch.setattr(batch, "MOST_ENTRIES", 8)
    copied: list[Path] = []

    told = huge_shop.cycle(interfered(before_copy=copied.append), stop=lambda: len(copied) > MANY // 2)
    hashed: list[Path] = []
    rest = huge_shop.cycle(interfered(after_checksum=hashed.append))

    assert told.result is Result.STOPPED
    assert 0 < told.tally.copied < MANY
    assert (rest.result, hashed) == (Result.SUCCESS, [])
    assert told.tally.copied + rest.tally.copied == MANY + 5
    assert_settled(huge_shop)


def test_a_part_that_the_disk_did_not_take_is_done_again(huge_shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    huge_shop.options["workers"] = 1
    monkeypatch.setattr(batch, "MOST_ENTRIES", 8)

    told = huge_shop.cycle(with_sync(failing(7)))

    assert told.result is Result.PARTIAL
    assert set(told.failed.values()) == {Failure.SYNC}
    assert summary(huge_shop).fingerprint == b""
    again = huge_shop.cycle()
    assert again.result is Result.SUCCESS
    assert again.tally.copied < MANY // 2
    assert_settled(huge_shop)


def test_an_index_that_cannot_be_written_for_a_part_makes_its_files_fail(
    huge_shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge_shop.options["workers"] = 1
    monkeypatch.setattr(batch, "MOST_ENTRIES", 8)
    full = failing(6, error=errno.ENOSPC)

    told = huge_shop.cycle(with_index(lambda _: full()))

    assert told.result is Result.PARTIAL
    assert set(told.failed.values()) == {Failure.NO_SPACE}
    assert summary(huge_shop).fingerprint == b""
    assert huge_shop.cycle().copied == {}
    assert_settled(huge_shop)


@pytest.mark.parametrize("number", [1, 3, 500])
def test_an_index_that_is_wrong_about_parts_costs_time_only(mirrored_huge: Workshop, number: int) -> None:
    with closing(sqlite3.connect(mirrored_huge.state / "index.sqlite3")) as raw:
        raw.execute("UPDATE folder SET parts = ? WHERE name = ?", (number, b"crowd"))
        raw.execute("DELETE FROM records WHERE part % 5 = 0")
        raw.commit()
    mirrored_huge.write("crowd/f-9", "edited")

    told = mirrored_huge.cycle()

    assert (told.result, told.drift) == (Result.SUCCESS, {})
    assert told.copied.keys() == {b"crowd/f-9"}
    assert_settled(mirrored_huge)


@pytest.mark.parametrize("victim", ["copy", "split", "close"])
def test_a_worker_lost_in_a_huge_folder_loses_only_its_part(
    huge_shop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, victim: str
) -> None:
    huge_shop.options["workers"] = 3
    main, alive = os.getpid(), tmp_path / "alive"
    alive.touch()

    def lethal(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            done = real(*arguments, **options)
            listed = {each.name for each in cast("list[Entry]", arguments[1])} if victim == "copy" else {b"f-50"}
            if os.getpid() != main and b"f-50" in listed and alive.exists():
                alive.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    owner, name = {
        "copy": (PlainCopier, "copy"),
        "split": (folder, "partition_names"),
        "close": (folder, "finish_whole"),
    }[victim]
    monkeypatch.setattr(owner, name, lethal(getattr(owner, name)))

    told = huge_shop.cycle()

    assert len(told.of(WorkerLost)) == 1
    assert told.result is Result.PARTIAL
    assert told.failed[b"crowd"] is Failure.WORKER_LOST
    again = huge_shop.cycle()
    assert again.result is Result.SUCCESS
    assert again.tally.copied < MANY // 2 or victim == "split"
    assert_settled(huge_shop)
