"""`on_source_delete: retire`: what left the source long enough ago is moved to the versions, and nothing else is."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.entry import Kind
from job.core.outcome import Result
from job.core.versions import VersionReason, VersionRow, moment_of
from job.engine.context import PairContext
from job.engine.versions.due_orphans import due_extent
from job.events.pair import FileFailed, FileNotRetired, FileRetired, MountForgotten, OrphansCounted
from job.store.index import Index
from tests.engine.test_orphans import extent, removed
from tests.engine.test_orphans import rows as orphans
from tests.engine.test_versions import kept
from tests.engine.test_versions import rows as version_rows
from tests.engine.workshop import HOUR_NS, Told, Workshop, as_nobody, changed
from tests.faults.tampering import mounted
from tests.fidelity import foreign

DAY_NS = 24 * HOUR_NS
assert moment_of(b"20261130T173000Z")  # loads what an ordinary user could not, if Python is installed for root alone


@pytest.fixture
def retiring(shop: Workshop) -> Workshop:
    shop.options["on_source_delete"] = "retire"
    return shop


def after(shop: Workshop, days: float) -> list[Told]:
    """Let days pass, and run two cycles: the first after a pause does not believe the clock."""
    shop.ahead_ns += int(days * DAY_NS)
    first = shop.cycle()
    shop.ahead_ns += HOUR_NS
    return [first, shop.cycle()]


def retired(*told: Told) -> dict[str, FileRetired]:
    return {os.fsdecode(event.path): event for each in told for event in each.of(FileRetired)}


def row_of(shop: Workshop, folder: bytes, name: bytes) -> VersionRow:
    [found] = [of_moment[name] for of_moment in version_rows(shop, folder).values() if name in of_moment]
    return found


def due(shop: Workshop, former: frozenset[bytes] = frozenset()) -> tuple[int, int]:
    with closing(Index.open(str(shop.state))) as index:
        return due_extent(index, shop.pair, former, shop.now_ns() / 1e9)


# When -----------------------------------------------------------------------------------------------------------------


def test_by_default_what_left_stays_for_ever(shop: Workshop) -> None:
    shop.write("file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "file")
    shop.cycle()

    assert retired(*after(shop, 1000), *after(shop, 1000)) == {}
    assert (shop.mirror / "file").read_text() == "content"
    assert due(shop) == (0, 0)


def test_what_is_missing_for_a_week_becomes_a_version_with_all_that_is_known_of_it(retiring: Workshop) -> None:
    shop = retiring
    shop.write("folder/file", "twelve bytes")
    shop.write("folder/stays")
    shop.cycle()
    os.chmod(shop.mirror / "folder/file", 0o604)
    before = (shop.mirror / "folder/file").lstat()
    folder_before = (shop.mirror / "folder").lstat()
    removed(shop.source / "folder/file")
    shop.cycle()
    [orphan] = orphans(shop).values()
    assert retired(*after(shop, 6)) == {}
    assert due(shop) == (0, 0)
    shop.ahead_ns += DAY_NS
    assert due(shop) == (1, 12)
    told = after(shop, 0)

    assert kept(shop) == {"folder/file": ["twelve bytes"]}
    assert shop.names() == {"folder", "folder/stays"}
    [event] = retired(*told).values()
    assert (event.kind, event.files, event.bytes, event.checksum) == (Kind.FILE, 1, 12, orphan.checksum)
    assert event.missing_since_timestamp_seconds == orphan.since_ns / 1e9
    version = shop.mirror / event.version
    assert (version.lstat().st_ino, version.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    row = row_of(shop, b"folder", b"file")
    assert (row.why, row.checksum, row.size) == (VersionReason.RETIRED, orphan.checksum, 12)
    assert row.since_ns == orphan.stands_since_ns < row.until_ns <= shop.now_ns()
    assert orphans(shop) == {}
    assert extent(shop) == due(shop) == (0, 0)
    assert [(each.files, each.bytes) for each in told[-1].of(OrphansCounted) or told[0].of(OrphansCounted)] == [(0, 0)]
    assert (shop.mirror / "folder").lstat().st_mtime_ns == (shop.source / "folder").lstat().st_mtime_ns
    assert (shop.mirror / "folder").lstat().st_mode == folder_before.st_mode
    again = shop.cycle()
    assert (again.result, again.tally.copied, again.drift, retired(again)) == (Result.SUCCESS, 0, {}, {})


def test_two_complete_scans_have_to_miss_it_however_short_the_time(retiring: Workshop) -> None:
    shop = retiring
    shop.options["retire_after"] = "0 hours"
    shop.write("file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "file")
    shop.cycle()
    assert kept(shop) == {}
    assert retired(shop.cycle(), shop.cycle()).keys() == {"file"}


@pytest.mark.needs_root
def test_a_partial_cycle_retires_nothing_and_counts_for_nothing(retiring: Workshop, open_shop: Workshop) -> None:
    shop = open_shop
    shop.options |= {**retiring.options, "retire_after": "0 hours"}
    for name in ("file", "closed/file", "stays"):
        shop.write(name)
    as_nobody(shop)
    removed(shop.source / "file")
    (shop.source / "closed").chmod(0)
    for _ in range(5):
        shop.ahead_ns += HOUR_NS
        told = as_nobody(shop)
        assert (told.result, retired(told)) == (Result.PARTIAL, {})
    (shop.source / "closed").chmod(0o755)
    told = as_nobody(shop)
    assert (told.result, retired(told)) == (Result.SUCCESS, {})

    assert retired(as_nobody(shop), as_nobody(shop)).keys() == {"file"}


def test_one_failed_entry_is_enough_to_wait(retiring: Workshop) -> None:
    shop = retiring
    shop.options["retire_after"] = "0 hours"
    for name in ("file", "folder/stays"):
        shop.write(name)
    shop.cycle()
    removed(shop.source / "file")
    shop.cycle()
    shop.write(".truecopy-tmp-1", "a reserved name")
    for _ in range(3):
        told = shop.cycle()
        assert (told.result, retired(told)) == (Result.PARTIAL, {})
    removed(shop.source / ".truecopy-tmp-1")
    assert retired(shop.cycle(), shop.cycle(), shop.cycle()).keys() == {"file"}


def test_a_clock_that_jumped_waits_for_a_second_cycle(retiring: Workshop) -> None:
    shop = retiring
    shop.write("file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "file")
    for _ in range(3):
        shop.cycle()
    jumped, believed = after(shop, 3650)

    assert retired(jumped) == {}
    assert retired(believed).keys() == {"file"}


def test_a_clock_that_was_set_back_waits(retiring: Workshop) -> None:
    shop = retiring
    shop.write("file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "file")
    for _ in range(3):
        shop.cycle()
    shop.ahead_ns -= 100 * DAY_NS

    assert retired(shop.cycle(), shop.cycle(), *after(shop, 90)) == {}
    assert retired(*after(shop, 18)).keys() == {"file"}


def test_a_sleeping_mirror_is_not_woken(retiring: Workshop) -> None:
    shop = retiring
    shop.options |= {"mirror_check": "asleep", "state_dir": str(shop.base / "state"), "retire_after": "0 hours"}
    shop.write("file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "file")
    assert retired(*[shop.cycle() for _ in range(4)]) == {}
    told = []
    for number in range(3):
        shop.write("stays", f"there is something to write {number}")
        told.append(shop.cycle())

    assert retired(*told).keys() == {"file"}


def test_without_versions_it_is_moved_all_the_same(retiring: Workshop) -> None:
    shop = retiring
    shop.options |= {"versions": False, "retire_after": "0 hours"}
    shop.write("file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "file")
    for _ in range(3):
        shop.cycle()

    assert kept(shop) == {"file": ["content"]}


# What it is not -------------------------------------------------------------------------------------------------------


def due_soon(shop: Workshop, *names: str) -> None:
    """Mirror, remove entries of the source and let them wait until the next cycle."""
    shop.options["retire_after"] = "0 hours"
    shop.write("stays")
    assert shop.cycle().result is Result.SUCCESS
    for name in names:
        removed(shop.source / name)
    assert shop.cycle().result is Result.SUCCESS
    with closing(Index.open(str(shop.state))) as index:
        assert {name for folder in index.orphans.folders() for name in index.orphans.named(folder)}


def test_what_comes_back_immediately_before_stays(retiring: Workshop) -> None:
    shop = retiring
    shop.write("file")
    shop.write("folder/file")
    due_soon(shop, "file", "folder")

    def back(context: PairContext) -> PairContext:
        def recheck() -> None:
            shop.write("file", "it is back")
            shop.write("folder/other", "it is back, too")
            context.recheck_roots()

        return replace(context, recheck_roots=recheck)

    told = shop.cycle(changed(back))
    assert retired(told) == {}
    assert shop.names() >= {"file", "folder", "folder/file"}
    shop.cycle()
    assert (shop.mirror / "file").read_text() == "it is back"
    assert {*orphans(shop)} == {b"folder/file"}


def test_an_edit_of_the_patterns_retires_nothing(retiring: Workshop) -> None:
    shop = retiring
    for name in ("a.iso", "folder/file", "folder/gone", "other/b.iso"):
        shop.write(name)
    due_soon(shop, "a.iso", "folder/gone")
    shop.options["exclude"] = ["*.iso", "folder/"]
    told = [shop.cycle() for _ in range(4)]
    removed(shop.source / "folder")
    removed(shop.source / "other/b.iso")
    told += [shop.cycle() for _ in range(4)]

    assert retired(*told) == {}
    assert shop.names() >= {"a.iso", "folder/file", "folder/gone", "other/b.iso"}


def test_what_is_excluded_in_a_folder_that_left_stays_with_the_folders_above(retiring: Workshop) -> None:
    shop = retiring
    for name in ("folder/file", "folder/a.iso", "folder/deep/b.iso", "folder/deep/file", "folder/clean/file"):
        shop.write(name)
    shop.cycle()
    shop.options["exclude"] = ["*.iso"]
    due_soon(shop, "folder")
    told = shop.cycle()

    assert kept(shop) == {f"folder/{name}": ["content"] for name in ("file", "deep/file", "clean/file")}
    assert shop.names() == {"folder", "folder/a.iso", "folder/deep", "folder/deep/b.iso", "stays"}
    assert retired(told).keys() == {"folder/file", "folder/deep/file", "folder/clean"}
    assert orphans(shop) == {}
    assert shop.cycle().result is Result.SUCCESS
    assert retired(shop.cycle(), shop.cycle(), shop.cycle()) == {}


def test_an_excluded_entry_of_the_source_keeps_its_name(retiring: Workshop) -> None:
    """A name that exists is there, whatever the patterns say of what it is now."""
    shop = retiring
    shop.options["exclude"] = ["name/"]
    shop.write("name")
    due_soon(shop, "name")
    (shop.source / "name").mkdir()
    told = [shop.cycle() for _ in range(3)]

    assert retired(*told) == {}
    assert (shop.mirror / "name").read_text() == "content"


@pytest.mark.needs_root
def test_an_unplugged_disk_is_no_deletion(retiring: Workshop) -> None:
    shop = retiring
    shop.options["retire_after"] = "0 hours"
    shop.write("media/beside")
    with mounted("tmpfs", shop.source / "media/disk", "-t", "tmpfs"):
        shop.write("media/disk/photo")
        assert shop.cycle().result is Result.SUCCESS
    told = [shop.cycle() for _ in range(3)]
    assert {each.result for each in told} == {Result.PARTIAL}
    (shop.source / "media/disk").rmdir()  # as udisks does
    told = [shop.cycle() for _ in range(5)]
    assert {each.result for each in told} == {Result.SUCCESS}
    assert [each.path for one in told for each in one.of(MountForgotten)] == [b"media/disk"]
    assert {*orphans(shop)} == {b"media/disk"}
    (shop.source / "media/disk").mkdir()
    told += [shop.cycle() for _ in range(5)]
    removed(shop.source / "media")
    told += [shop.cycle() for _ in range(5)]

    assert retired(*told) == {}
    assert (shop.mirror / "media/disk/photo").read_text() == "content"
    assert due(shop, frozenset([b"media/disk"])) == (0, 0)
    shop.write("media/disk/its own")  # from now on it is a folder like any other
    shop.write("media/beside")
    told = [shop.cycle() for _ in range(5)]
    assert retired(*told).keys() == {"media/disk/photo"}


@pytest.mark.needs_root
def test_a_mount_that_is_lost_immediately_before_retires_nothing(retiring: Workshop) -> None:
    shop = retiring
    shop.write("file")
    with suppress(subprocess.CalledProcessError), mounted("tmpfs", shop.source / "disk", "-t", "tmpfs"):
        shop.write("disk/file")
        shop.write("disk/stays")
        due_soon(shop, "disk/file", "file")

        def lost(context: PairContext) -> PairContext:
            def recheck() -> None:
                subprocess.run(["umount", "--lazy", str(shop.source / "disk")], check=False, capture_output=True)
                context.recheck_roots()

            return replace(context, recheck_roots=recheck)

        told = shop.cycle(changed(lost))

    assert retired(told).keys() == {"file"}
    assert (shop.mirror / "disk/file").exists()


@pytest.mark.needs_root
def test_a_file_system_in_the_mirror_is_not_moved(retiring: Workshop) -> None:
    shop = retiring
    shop.write("folder/disk/file")
    shop.write("folder/file")
    due_soon(shop, "folder")
    with mounted("tmpfs", shop.mirror / "folder/disk", "-t", "tmpfs"):
        told = shop.cycle()
        [event] = told.of(FileNotRetired)
        assert (event.path, told.result) == (b"folder", Result.SUCCESS)
        assert "mounted" in event.error
    assert retired(shop.cycle()).keys() == {"folder"}


# Folders --------------------------------------------------------------------------------------------------------------


def test_a_folder_is_moved_whole_and_its_files_are_known_one_by_one(retiring: Workshop) -> None:
    shop = retiring
    shop.write("folder/deep/one", "1")
    shop.write("folder/two", "22")
    shop.write("folder/gone", "333")
    (shop.source / "folder/link").symlink_to("two")
    (shop.source / "folder").chmod(0o750)
    os.utime(shop.source / "folder", ns=(1, 10**18))
    shop.cycle()
    removed(shop.source / "folder/gone")
    os.utime(shop.source / "folder", ns=(1, 10**18))
    shop.cycle()
    due_soon(shop, "folder")
    counted = due(shop)
    told = shop.cycle()

    moved = retired(told)
    assert moved.keys() == {"folder"}
    assert (moved["folder"].files, moved["folder"].bytes) == counted == (3, 6)
    place = shop.mirror / moved["folder"].version
    assert stat.S_IMODE(place.lstat().st_mode) == 0o750
    assert shop.names() == {"stays"}
    assert kept(shop) == {
        "folder/deep/one": ["1"],
        "folder/gone": ["333"],
        "folder/link": ["two"],
        "folder/two": ["22"],
    }
    for folder, name in ((b"folder", b"two"), (b"folder/deep", b"one"), (b"folder", b"gone")):
        row = row_of(shop, folder, name)
        assert (row.why, row.checksum[:7]) == (VersionReason.RETIRED, "sha256:")
        assert 0 < row.since_ns < row.until_ns
    assert row_of(shop, b"", b"folder").why is VersionReason.RETIRED
    with closing(Index.open(str(shop.state))) as index:
        assert index.summary(b"folder") is None
        assert index.entry_count() == 1


def test_a_file_whose_folder_is_gone_is_retired_in_its_own_time(retiring: Workshop) -> None:
    shop = retiring
    shop.write("folder/deep/early")
    shop.write("folder/deep/late")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "folder/deep/early")
    shop.cycle()
    shop.ahead_ns += 5 * DAY_NS
    removed(shop.source / "folder")
    shop.cycle()

    assert retired(*after(shop, 3)).keys() == {"folder/deep/early"}
    assert retired(*after(shop, 5)).keys() == {"folder"}


def test_a_huge_folder_is_retired_part_by_part(mirrored_huge: Workshop) -> None:
    shop = mirrored_huge
    shop.options |= {"on_source_delete": "retire", "retire_after": "0 hours"}
    names = [each.name for each in (shop.source / "crowd").glob("f-*")]
    gone = names[::2]
    for name in gone:
        (shop.source / "crowd" / name).unlink()
    shop.cycle()
    told = [shop.cycle() for _ in range(3)]

    assert retired(*told).keys() == {f"crowd/{name}" for name in gone}
    assert {*kept(shop)} == {f"crowd/{name}" for name in gone}
    assert orphans(shop) == {}
    assert not {*gone} & {each.name for each in (shop.mirror / "crowd").iterdir()}


@pytest.mark.needs_root
def test_a_read_only_folder_is_opened_for_it_and_closed_again(open_shop: Workshop) -> None:
    shop = open_shop
    shop.options |= {"on_source_delete": "retire", "retire_after": "0 hours"}
    shop.write("folder/file")
    shop.write("folder/below/file")
    for path in ("folder/below", "folder"):
        os.chown(shop.source / path, 65534, 65534)
        (shop.source / path).chmod(0o555)
    as_nobody(shop)
    removed(shop.source / "folder/file")
    removed(shop.source / "folder/below")
    told = [as_nobody(shop) for _ in range(4)]

    assert retired(*told).keys() == {"folder/file", "folder/below"}
    assert [each.of(FileNotRetired) + each.of(FileFailed) for each in told] == [[], [], [], []]
    assert stat.S_IMODE((shop.mirror / "folder").lstat().st_mode) == 0o555
    (shop.source / "folder").chmod(0o755)


def test_what_is_gone_from_the_mirror_too_is_forgotten(retiring: Workshop) -> None:
    shop = retiring
    shop.write("file")
    shop.write("folder/file")
    due_soon(shop, "file", "folder")
    removed(shop.mirror / "file")
    removed(shop.mirror / "folder")
    told = [shop.cycle(), shop.cycle()]

    assert retired(*told) == {}
    assert orphans(shop) == {}


# Names that share a file ----------------------------------------------------------------------------------------------


def link(shop: Workshop, *names: str) -> None:
    first = shop.write(names[0], "shared content")
    for name in names[1:]:
        (shop.source / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(first, shop.source / name)


def inodes(root: Path) -> set[int]:
    return {path.lstat().st_ino for path in root.rglob("*") if not path.is_dir()}


def assert_nothing_is_shared(shop: Workshop) -> None:
    live = {path.lstat().st_ino for path in shop.mirror.rglob("*") if ".truecopy" not in path.parts and path.is_file()}
    assert not live & inodes(shop.state / "versions")


def test_a_name_that_leaves_a_file_with_others_becomes_a_version_of_its_own(retiring: Workshop) -> None:
    shop = retiring
    link(shop, "one", "two", "folder/three")
    due_soon(shop, "one")
    told = shop.cycle()

    assert retired(told).keys() == {"one"}
    assert kept(shop) == {"one": ["shared content"]}
    assert_nothing_is_shared(shop)
    assert (shop.mirror / "two").lstat().st_ino == (shop.mirror / "folder/three").lstat().st_ino
    assert shop.cycle().drift == {}


def test_all_names_of_a_file_are_moved_together(retiring: Workshop) -> None:
    shop = retiring
    link(shop, "folder/one", "folder/two", "folder/deep/three")
    due_soon(shop, "folder")
    [inode] = inodes(shop.mirror / "folder")
    shop.cycle()

    assert len(kept(shop)) == 3
    assert inodes(shop.state / "versions") == {inode}


def test_a_folder_whose_files_have_names_elsewhere_shares_none_of_them(retiring: Workshop) -> None:
    shop = retiring
    link(shop, "folder/deep/one", "two", "folder/three")
    shop.write("folder/own")
    due_soon(shop, "folder")
    told = shop.cycle()

    assert retired(told).keys() == {"folder"}
    assert kept(shop) == {
        "folder/deep/one": ["shared content"],
        "folder/own": ["content"],
        "folder/three": ["shared content"],
    }
    checksums = {row_of(shop, b"folder/deep", b"one").checksum, row_of(shop, b"folder", b"three").checksum}
    assert [each[:7] for each in checksums] == ["sha256:"]
    assert_nothing_is_shared(shop)
    assert shop.temps == []


# File systems ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param(foreign.exfat, id="exfat", marks=foreign.EXFAT)])
def folding(retiring: Workshop, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workshop]:
    with request.param(retiring.mirror, tmp_path / "image"):
        yield retiring


def test_it_works_on_a_mirror_without_links(folding: Workshop) -> None:
    folding.write("folder/file")
    folding.write("whole/file")
    due_soon(folding, "folder/file", "whole")
    told = folding.cycle()

    assert retired(told).keys() == {"folder/file", "whole"}
    assert kept(folding) == {"folder/file": ["content"], "whole/file": ["content"]}


def test_another_spelling_in_the_source_keeps_it(folding: Workshop) -> None:
    shop = folding
    for name in ("folder/name", "other/name", "third/a/b"):
        shop.write(name)
    due_soon(shop, "folder/name", "other", "third/a")

    def back(context: PairContext) -> PairContext:
        def recheck() -> None:
            shop.write("folder/NAME", "it is back")
            shop.write("OTHER/name", "it is back")
            if (shop.source / "third").exists():
                (shop.source / "third").rename(shop.source / "THIRD")
                shop.write("THIRD/a/b", "it is back")
            context.recheck_roots()

        return replace(context, recheck_roots=recheck)

    assert retired(shop.cycle(changed(back))) == {}
    told = [shop.cycle() for _ in range(4)]
    assert retired(*told) == {}
    assert {name.lower() for name in shop.names()} >= {"folder/name", "other/name", "third/a/b"}
    assert orphans(shop) == {}


# Plan -----------------------------------------------------------------------------------------------------------------


def test_the_plan_says_what_the_next_cycle_retires(retiring: Workshop) -> None:
    shop = retiring
    shop.write("file", "four")
    shop.write("folder/file")
    shop.cycle()
    assert [line for line in shop.plan() if line.action == "retire"] == []
    due_soon(shop, "file", "folder")
    lines = [(line.path, line.kind, line.bytes) for line in shop.plan() if line.action == "retire"]
    assert lines == [(b"file", Kind.FILE, 0), (b"folder", Kind.FOLDER, 0)]
    shutil.copytree(shop.mirror / "folder", shop.source / "folder")
    assert [line.path for line in shop.plan() if line.action == "retire"] == [b"file"]
