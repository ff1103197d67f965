"""Expiry in whole cycles, by a clock that is moved: what goes, what stays whatever happens, what is told."""

import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from job.core.outcome import Result
from job.core.retention import FLOOR
from job.core.versions import moment_of
from job.events.pair import (
    ExpiryPostponed,
    PairFailed,
    RetentionChanged,
    VersionsCounted,
    VersionsExpired,
    VersionsFromFuture,
    VersionsOverLimit,
)
from job.store.index import Index
from job.store.version_rows import decode_versions
from tests.engine.workshop import HOUR_NS, Told, Workshop
from tests.faults.tampering import mounted

DAY_NS = 24 * HOUR_NS
DAILY = {"sleep_time": 86400, "versions": {"keep": "30 days"}}


@pytest.fixture
def daily(shop: Workshop) -> Workshop:
    """A pair that is backed up once a day."""
    shop.options = {**DAILY}
    return shop


def day(shop: Workshop, text: str = "", name: str = "file") -> Told:
    """Let a day pass, with another content of a file if there is a text, and run a cycle."""
    shop.ahead_ns += DAY_NS
    if text:
        shop.write(name, text)
    told = shop.cycle()
    assert told.result is Result.SUCCESS, told.of(PairFailed)
    return told


def folders(shop: Workshop) -> list[Path]:
    """Give the version folders in the order of time."""
    found = [path for path in (shop.state / "versions").glob("*") if moment_of(os.fsencode(path.name))]
    return sorted(found, key=lambda path: moment_of(os.fsencode(path.name)) or ())


def contents(shop: Workshop, name: str = "file") -> list[str]:
    return [(each / name).read_text() for each in folders(shop) if (each / name).is_file()]


def expired(tolds: Sequence[Told]) -> int:
    return sum(event.files for told in tolds for event in told.of(VersionsExpired))


def rows(shop: Workshop) -> list[str]:
    """Give the names of all rows about versions."""
    with closing(Index.open(str(shop.state))) as index:
        texts = index.rows_of("SELECT rows FROM version")
        return sorted(row.name.decode() for (text,) in texts for row in decode_versions(text))


def complete_since(shop: Workshop) -> float:
    with closing(Index.open(str(shop.state))) as index:
        return index.complete_since


def seconds(path: Path) -> int:
    moment = moment_of(os.fsencode(path.name))
    assert moment is not None
    return moment.seconds


# What goes ------------------------------------------------------------------------------------------------------------


def test_versions_expire_after_their_time_and_their_rows_with_them(daily: Workshop) -> None:
    daily.write("folder/sub/file", "0")
    daily.cycle()

    tolds = [day(daily, f"{number}", "folder/sub/file") for number in range(1, 41)]

    assert contents(daily, "folder/sub/file") == [f"{number}" for number in range(10, 40)]
    assert expired(tolds) == 10
    assert sum(event.by["old"] for told in tolds for event in told.of(VersionsExpired)) == 10
    assert len(folders(daily)) == len(rows(daily)) == 30
    assert tolds[-1].of(VersionsCounted)[-1].files == 30
    assert seconds(folders(daily)[0]) == complete_since(daily)


def test_the_age_is_since_a_content_was_replaced_whatever_its_mtime_is(daily: Workshop) -> None:
    path = daily.write("file", "of 2001")
    os.utime(path, ns=(10**18, 10**18))
    daily.cycle()

    tolds = [day(daily, "new"), *(day(daily, f"{number}", "other") for number in range(29))]
    assert not expired(tolds)
    assert contents(daily) == ["of 2001"]

    tolds = [day(daily), day(daily)]

    assert expired(tolds) == 1
    assert contents(daily) == []


def test_counts_keep_what_stood_at_the_beginning_of_days(daily: Workshop) -> None:
    daily.options["versions"] = {"keep": {"daily": 7, "weekly": 2}}
    daily.write("file", "0")
    daily.cycle()

    tolds = [day(daily, f"{number}") for number in range(1, 31)]

    assert expired(tolds) == 30 - len(contents(daily))
    assert 7 <= len(contents(daily)) <= 7 + 2
    assert contents(daily)[-7:] == [f"{number}" for number in range(23, 30)]


def test_versions_take_no_more_than_their_limit(daily: Workshop) -> None:
    daily.options["versions"] = {"keep": "30 days", "most": "50KiB"}
    daily.write("file", "0" * 5000)
    daily.cycle()

    tolds = [day(daily, f"{number % 10}" * 5000) for number in range(1, 16)]

    assert [each[0] for each in contents(daily)] == [f"{number % 10}" for number in range(5, 15)]
    assert {reason for told in tolds for event in told.of(VersionsExpired) for reason in event.by} == {"most"}
    assert not [told for told in tolds if told.of(VersionsOverLimit)]


def test_the_newest_folders_stay_above_the_limit_and_that_is_told_once_a_day(daily: Workshop) -> None:
    daily.options["versions"] = {"keep": "30 days", "most": "50KiB"}
    daily.write("file", "0" * 20_000)
    daily.cycle()

    tolds = [day(daily, f"{number}" * 20_000) for number in range(1, 9)]

    assert len(contents(daily)) == FLOOR
    assert len(tolds[-1].of(VersionsOverLimit)) == 1
    daily.ahead_ns += 2 * HOUR_NS
    daily.write("file", "more" * 5000)
    assert not daily.cycle().of(VersionsOverLimit)


def test_a_stop_ends_expiry_soon_and_the_next_cycle_goes_on(daily: Workshop) -> None:
    names = [f"folder {number}/file" for number in range(30)]
    for name in names:
        daily.write(name, "0")
    daily.cycle()
    for name in names:
        daily.write(name, "10")
    for number in range(1, 3 + FLOOR):
        day(daily, f"{number}")
    daily.ahead_ns += 30 * DAY_NS
    assert [event.reason for event in daily.cycle().of(ExpiryPostponed)] == ["ahead"]
    oldest = folders(daily)[0]

    daily.ahead_ns += DAY_NS
    told = daily.cycle(stop=lambda: len([*oldest.rglob("file")]) < 25)

    assert told.result is Result.SUCCESS
    assert 5 < expired([told]) < 31
    assert expired([told, day(daily)]) == 31
    assert len(folders(daily)) == len(rows(daily)) == FLOOR


# What stays -----------------------------------------------------------------------------------------------------------


def test_the_newest_version_of_a_path_that_the_mirror_does_not_hold_stays(daily: Workshop) -> None:
    for name in ("gone/one", "gone/two"):
        daily.write(name, "first")
    daily.cycle()
    day(daily, "second", "gone/one")
    shutil.rmtree(daily.source / "gone")
    day(daily, "a file now", "gone")

    tolds = [day(daily, f"{number}", "other") for number in range(45)]

    assert expired(tolds) == 1 + 44 - 30
    assert contents(daily, "gone/one") == ["second"]
    assert contents(daily, "gone/two") == ["first"]
    daily.write("other", "last")
    assert seconds(folders(daily)[1]) - seconds(folders(daily)[0]) > 10 * 86400


def test_a_mirror_that_was_away_for_two_months_keeps_the_newest_folders(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.cycle()
    for number in range(1, 11):
        day(daily, f"{number}")
    daily.ahead_ns += 60 * DAY_NS

    first, second = day(daily), day(daily)

    assert [event.reason for event in first.of(ExpiryPostponed)] == ["ahead"]
    assert not first.of(VersionsExpired)
    assert expired([second]) == 10 - FLOOR
    assert contents(daily) == [f"{number}" for number in range(5, 10)]


def test_folders_from_the_future_stay_and_are_told(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.cycle()
    daily.ahead_ns += 400 * DAY_NS
    day(daily, "of the future")
    daily.ahead_ns -= 400 * DAY_NS

    tolds = [day(daily, f"{number}") for number in range(1, 41)]

    assert contents(daily) == [*(f"{number}" for number in range(10, 40)), "0"]
    assert "of the future" not in contents(daily)
    assert [event.folders for event in tolds[5].of(VersionsFromFuture)] == [1]
    assert [event.reason for event in tolds[0].of(ExpiryPostponed)] == ["behind"]


def test_nothing_expires_while_the_clock_is_not_that_of_the_disk(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.cycle()
    for number in range(1, 31):
        day(daily, f"{number}")
    daily.disk_behind_ns = 6 * 60 * 10**9

    tolds = [day(daily, f"{number}") for number in range(31, 36)]

    assert not expired(tolds)
    assert [event.reason for event in tolds[-1].of(ExpiryPostponed)] == ["disk"]
    daily.disk_behind_ns = 0
    assert expired([day(daily)]) == 6


def test_a_cycle_that_is_no_success_lets_nothing_expire(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.cycle()
    for number in range(1, 31):
        day(daily, f"{number}")
    (daily.source / "unnamed").mkdir()
    os.mkfifo(daily.source / "unnamed/.truecopy-tmp-mine")
    daily.write(".truecopy-tmp-00000000-1", "a reserved name")
    daily.ahead_ns += 5 * DAY_NS

    told = daily.cycle()

    if told.result is Result.PARTIAL:
        assert not told.of(VersionsExpired)
        assert not told.of(ExpiryPostponed)


# Rules that change ----------------------------------------------------------------------------------------------------


def test_a_changed_rule_is_told_one_cycle_before_it_deletes(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.cycle()
    for number in range(1, 21):
        day(daily, f"{number}")
    daily.options["versions"] = {"keep": "10 days"}

    first, second = day(daily), day(daily)

    [told] = first.of(RetentionChanged)
    assert (told.before, told.rule) == ("30 days, at most 20 %", "10 days, at most 20 %")
    assert told.files == expired([second]) - 1 == 11
    assert not first.of(VersionsExpired)
    assert not second.of(RetentionChanged)


def test_another_wording_of_the_same_rule_is_no_change(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.cycle()
    day(daily, "1")
    daily.options["versions"] = {"keep": "720 hours"}

    assert not day(daily).of(RetentionChanged)


def test_versions_stay_when_they_are_turned_off_and_empty_folders_go(daily: Workshop) -> None:
    daily.write("folder/file", "0")
    daily.cycle()
    for number in range(1, 9):
        day(daily, f"{number}", "folder/file")
    daily.options["versions"] = False
    first = day(daily)
    (folders(daily)[0] / "folder/file").unlink()

    tolds = [day(daily) for _ in range(60)]

    assert [(event.before, event.rule, event.files) for event in first.of(RetentionChanged)] == [
        ("30 days, at most 20 %", "off", 0)
    ]
    assert not expired(tolds)
    assert contents(daily, "folder/file") == [f"{number}" for number in range(1, 8)]
    assert len(folders(daily)) == 7


# Without an index, and with hostile entries ---------------------------------------------------------------------------


def test_without_an_index_the_version_folders_decide(daily: Workshop) -> None:
    daily.write("file", "0")
    daily.write("gone/file", "0")
    daily.cycle()
    tolds = [day(daily, f"{number // 2}", ("file", "gone/file")[number % 2]) for number in range(2, 42)]
    shutil.rmtree(daily.source / "gone")
    before = expired([*tolds, day(daily, "a file now", "gone")])
    (daily.state / "index.sqlite3").unlink()

    tolds = [day(daily) for _ in range(45)]
    assert before + expired(tolds) == 41 - FLOOR
    assert contents(daily, "gone/file")[-1] == "20"
    assert len(folders(daily)) == FLOOR


def test_rows_without_versions_count_for_nothing(daily: Workshop) -> None:
    """The newest version was removed by hand: the one before it is the newest that there is."""
    daily.write("gone/file", "0")
    daily.cycle()
    day(daily, "1", "gone/file")
    day(daily, "2", "gone/file")
    shutil.rmtree(daily.source / "gone")
    day(daily, "a file now", "gone")
    for each in folders(daily)[1:]:
        shutil.rmtree(each)

    for number in range(45):
        day(daily, f"{number}", "other")

    assert contents(daily, "gone/file") == ["0"]
    assert rows(daily).count("file") == 1


@pytest.mark.needs_root
def test_links_mounts_and_foreign_files_among_the_versions_are_left_alone(daily: Workshop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    daily.write("file", "0")
    daily.write("folder/file", "0")
    daily.cycle()
    for number in range(1, 9):
        day(daily, f"{number}")
        day(daily, f"{number}", "folder/file")
    versions, made = daily.state / "versions", folders(daily)
    (versions / "notes.txt").write_text("mine")
    (versions / "20200101T000000Z").symlink_to(outside)
    (made[0] / "link").symlink_to(outside)
    (made[3] / "link").symlink_to(outside)
    mount_at = made[2] / "mount"
    mount_at.mkdir()
    foreign = versions / "20200101T000001Z"
    foreign.mkdir()
    (foreign / "file").write_text("of another user")
    os.chown(foreign, 65534, 65534)

    with mounted(str(outside), mount_at, "--bind"):
        for _ in range(45):
            day(daily)

    assert (outside / "file").read_text() == "precious"
    assert (versions / "notes.txt").read_text() == "mine"
    assert (foreign / "file").read_text() == "of another user"
    assert stat.S_ISLNK((versions / "20200101T000000Z").lstat().st_mode)
    assert mount_at.is_dir()
    # Of the two links the newer one stays, as the mirror has none of that name.
    assert folders(daily)[2:] == [made[2], made[3], *made[-FLOOR:]]


def test_a_mirror_that_sleeps_is_not_woken_for_expiry(daily: Workshop) -> None:
    daily.options |= {"mirror_check": "asleep", "state_dir": str(daily.base / "state")}
    daily.write("file", "0")
    daily.cycle()
    for number in range(1, 11):
        day(daily, f"{number}")
    before = [path.stat().st_atime_ns for path in folders(daily)]

    tolds = [day(daily) for _ in range(40)]

    assert not expired(tolds)
    assert [path.stat().st_atime_ns for path in folders(daily)] == before
    assert expired([day(daily, "awake"), day(daily, "again")]) == 10 - FLOOR + 2
