"""Contents that a cycle replaces: each is kept as a version, before it is replaced, with a row in the index."""

import os
import stat
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from math import inf
from pathlib import Path

import pytest

from job.core.outcome import Failure, Result
from job.core.record import Record
from job.core.versions import Moment, VersionReason, VersionRow, moment_of
from job.engine.context import PairContext
from job.fs import versions as version_folders
from job.fs.small_copies import SMALL_BYTES
from job.store.codec import decode_records
from job.store.index import Index
from job.store.version_rows import decode_versions
from tests.engine.test_hard_links import give_name
from tests.engine.workshop import ListenedSync, Workshop, assert_mirrored, changed, nobody, with_sync, with_tools
from tests.faults.images import disk
from tests.fidelity import foreign
from tests.memory_disks import memory_disk

MIB = 1 << 20


def kept(shop: Workshop) -> dict[str, list[str]]:
    """Give the contents of all versions by path, in the order of their folders."""
    found: dict[str, list[str]] = {}
    folders = (shop.mirror / ".truecopy/versions").glob("*")
    for moment in sorted(folders, key=lambda each: moment_of(os.fsencode(each.name)) or Moment(0)):
        for path in sorted(moment.rglob("*")):
            if not path.is_dir() or path.is_symlink():
                text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "special"
                found.setdefault(str(path.relative_to(moment)), []).append(text)
    return found


def rows(shop: Workshop, path: bytes = b"") -> dict[Moment, dict[bytes, VersionRow]]:
    with closing(Index.open(str(shop.state))) as index:
        found = sorted(index.versions(path).items())
        return {moment: {row.name: row for row in decode_versions(text)} for moment, text in found}


def the_row(shop: Workshop, path: bytes = b"") -> VersionRow:
    """Give the only version of a folder."""
    [[row]] = [[*each.values()] for each in rows(shop, path).values()]
    return row


def record_of(shop: Workshop, name: bytes, path: bytes = b"") -> Record:
    with closing(Index.open(str(shop.state))) as index:
        return decode_records(index.rows(path))[name]


def complete_since(shop: Workshop) -> float:
    with closing(Index.open(str(shop.state))) as index:
        return index.complete_since


# What is kept ---------------------------------------------------------------------------------------------------------


def test_each_content_of_a_file_that_is_replaced_is_kept_as_it_was(shop: Workshop) -> None:
    path = shop.write("folder/file", "one")
    path.chmod(0o640)
    os.utime(path, ns=(1, 10**18))
    shop.cycle()
    first = (shop.mirror / "folder/file").stat()
    for content in ("two", "three"):
        path.write_text(content)
        shop.ahead_ns += 10**9
        assert shop.cycle().result is Result.SUCCESS

    assert kept(shop) == {"folder/file": ["one", "two"]}
    assert_mirrored(shop)
    oldest, newer = sorted((shop.state / "versions").rglob("file"))
    found = oldest.stat()
    assert (found.st_ino, found.st_mode, found.st_mtime_ns, found.st_nlink) == (first.st_ino, 0o100640, 10**18, 1)
    assert newer.stat().st_nlink == 1


def test_the_index_knows_when_each_content_began_and_ended(shop: Workshop) -> None:
    path = shop.write("file", "one")
    shop.cycle()
    first, complete = record_of(shop, b"file"), complete_since(shop)
    for content in ("two!", "three"):
        path.write_text(content)
        shop.ahead_ns += 10**9
        shop.cycle()
    now = record_of(shop, b"file")

    [(older, [one]), (newer, [two])] = [(moment, [*each.values()]) for moment, each in rows(shop).items()]
    assert [older.name, newer.name] == sorted(os.fsencode(each.name) for each in (shop.state / "versions").iterdir())
    assert (one.size, one.checksum, one.why) == (3, first.checksum, VersionReason.REPLACED)
    assert stat.S_ISREG(one.mode)
    assert one.since_ns == first.mirror.ctime_ns
    assert one.until_ns == two.since_ns
    assert two.until_ns == now.stands_since_ns == now.mirror.ctime_ns
    assert now.since_ns == 0
    assert complete_since(shop) == complete


def test_a_first_copy_and_a_cycle_without_changes_make_no_version_and_no_folder(shop: Workshop) -> None:
    for name in ("a", "b/c", "b/d/e"):
        shop.write(name)
    shop.cycle()
    shop.write("new in an old folder")
    shop.cycle()

    assert shop.cycle().result is Result.SUCCESS
    assert not (shop.state / "versions").exists()
    with closing(Index.open(str(shop.state))) as index:
        assert index.version_table.moments() == {}


def test_large_files_links_and_special_files_are_kept_too(shop: Workshop) -> None:
    shop.options["specials"] = "recreate"
    shop.write("large", "x" * (SMALL_BYTES + 1))
    (shop.source / "link").symlink_to("one")
    (shop.source / "turns").symlink_to("elsewhere")
    os.mkfifo(shop.source / "special")
    shop.cycle()
    shop.write("large", "y" * (SMALL_BYTES + 1))
    for name in ("link", "turns", "special"):
        (shop.source / name).unlink()
    (shop.source / "link").symlink_to("two")
    for name in ("turns", "special"):
        shop.write(name)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {
        "large": ["x" * (SMALL_BYTES + 1)],
        "link": ["one"],
        "turns": ["elsewhere"],
        "special": ["special"],
    }
    assert_mirrored(shop)


def test_versions_can_be_turned_off(shop: Workshop) -> None:
    path = shop.write("file", "one")
    shop.cycle()
    before = complete_since(shop)
    shop.options["versions"] = False
    path.write_text("two")
    began = shop.now_ns() / 1e9
    shop.cycle()

    assert kept(shop) == {}
    assert rows(shop) == {}
    assert before < began <= complete_since(shop) < inf


def test_only_the_pair_that_has_them_turned_off_keeps_none(shop: Workshop) -> None:
    path = shop.write("file", "one")
    shop.cycle()
    pair = {"name": "music", "source": str(shop.source), "dest": str(shop.mirror), "versions": False}
    shop.options |= {"pairs": [pair], "versions": {"keep": "60 days"}}
    path.write_text("two")
    shop.cycle()

    assert kept(shop) == {}


def test_what_is_excluded_is_replaced_without_a_version_and_the_index_says_so(shop: Workshop) -> None:
    shop.options["versions"] = {"exclude": ["*.log", "/cache/"]}
    names = ("a.log", "cache/deep/file", "other/cache/file")
    for name in names:
        shop.write(name, "one")
    shop.cycle()
    for name in names:
        shop.write(name, "two")
    began = shop.now_ns() / 1e9

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {"other/cache/file": ["one"]}
    assert the_row(shop).why is the_row(shop, b"cache/deep").why is VersionReason.EXCLUDED
    assert the_row(shop, b"other/cache").why is VersionReason.REPLACED
    assert complete_since(shop) >= began
    assert_mirrored(shop)


def test_what_another_program_wrote_into_the_mirror_is_kept_and_known_as_such(shop: Workshop) -> None:
    shop.write("file", "right")
    shop.write("beside", "right")
    shop.cycle()
    (shop.mirror / "file").write_text("a stranger's")
    same_size = shop.mirror / "beside"
    before = same_size.stat()
    same_size.write_text("WRONG")
    os.utime(same_size, ns=(before.st_atime_ns, before.st_mtime_ns))

    told = shop.cycle()

    assert told.drift
    assert kept(shop) == {"beside": ["WRONG"], "file": ["a stranger's"]}
    [found] = rows(shop).values()
    assert {row.why for row in found.values()} == {VersionReason.DRIFTED}
    assert {row.checksum for row in found.values()} == {""}
    assert {row.since_ns for row in found.values()} == {0}


def test_a_file_that_becomes_a_folder_is_kept(shop: Workshop) -> None:
    path = shop.write("name", "old")
    shop.cycle()
    path.unlink()
    shop.write("name/below")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {"name": ["old"]}
    assert the_row(shop).why is VersionReason.GAVE_WAY
    assert the_row(shop).checksum.startswith("sha256:")
    assert_mirrored(shop)


def test_a_folder_that_becomes_a_file_is_kept_whole(shop: Workshop) -> None:
    shop.write("name/below/file", "old")
    shop.cycle()
    (shop.source / "name/below/file").unlink()
    (shop.source / "name/below").rmdir()
    (shop.source / "name").rmdir()
    shop.write("name")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {"name/below/file": ["old"]}
    row = the_row(shop)
    assert (row.why, stat.S_ISDIR(row.mode)) == (VersionReason.GAVE_WAY, True)


def test_a_name_that_changes_its_kind_twice_in_one_second_has_each_of_its_contents(shop: Workshop) -> None:
    moment_ns = time.time_ns() + shop.ahead_ns
    path = shop.source / "name"

    def cycle() -> Result:
        shop.ahead_ns = moment_ns - time.time_ns()
        return shop.cycle().result

    path.write_text("file")
    assert cycle() is Result.SUCCESS
    path.unlink()
    shop.write("name/below", "below")
    assert cycle() is Result.SUCCESS
    (path / "below").unlink()
    path.rmdir()
    path.write_text("again")
    assert cycle() is Result.SUCCESS
    path.write_text("at last")
    assert cycle() is Result.SUCCESS

    assert kept(shop) == {"name": ["file", "again"], "name/below": ["below"]}
    moments = [*rows(shop)]
    assert {each.seconds for each in moments} <= {moments[0].seconds, moments[0].seconds + 1}
    assert len(moments) == 3


def test_no_two_cycles_of_one_second_share_a_folder(shop: Workshop) -> None:
    moment_ns = time.time_ns() + shop.ahead_ns
    for number in range(4):
        (shop.source / f"file {number % 2}").write_text("x" * number)
        shop.ahead_ns = moment_ns - time.time_ns()
        shop.cycle()

    with closing(Index.open(str(shop.state))) as index:
        in_order = sorted(index.version_table.moments(), key=index.version_table.moments().__getitem__)
    assert len(in_order) == 2
    assert in_order == sorted(in_order)


# Hard links -----------------------------------------------------------------------------------------------------------


def test_versions_of_a_file_with_several_names_share_nothing_with_the_mirror(shop: Workshop) -> None:
    path = shop.write("a", "one")
    give_name(shop, "a", "folder/b")
    give_name(shop, "a", "folder/c")
    shop.cycle()
    path.write_text("two")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {"a": ["one"], "folder/b": ["one"], "folder/c": ["one"]}
    assert inodes_of_versions(shop).isdisjoint(inodes_of_mirror(shop))
    assert_mirrored(shop)
    again = shop.cycle()
    assert (again.copied, again.drift, again.tally.updated) == ({}, {}, 0)


def test_a_name_that_leaves_its_file_is_kept_apart_from_the_names_that_stay(shop: Workshop) -> None:
    shop.write("a", "one")
    leaves = give_name(shop, "a", "b")
    shop.cycle()
    leaves.unlink()
    shop.write("b", "another")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {"b": ["one"]}
    assert inodes_of_versions(shop).isdisjoint(inodes_of_mirror(shop))
    assert (shop.mirror / "a").stat().st_nlink == 1
    again = shop.cycle()
    assert (again.copied, again.drift, again.tally.updated) == ({}, {}, 0)


def test_files_that_become_one_file_are_kept(shop: Workshop) -> None:
    for name in ("a", "b", "c"):
        shop.write(name, f"own {name}")
    shop.cycle()
    for name in ("b", "c"):
        (shop.source / name).unlink()
        give_name(shop, "a", name)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert kept(shop) == {"b": ["own b"], "c": ["own c"]}
    assert inodes_of_versions(shop).isdisjoint(inodes_of_mirror(shop))


def inodes_of_versions(shop: Workshop) -> set[int]:
    return {path.lstat().st_ino for path in (shop.state / "versions").rglob("*")}


def inodes_of_mirror(shop: Workshop) -> set[int]:
    return {(shop.mirror / name).lstat().st_ino for name in shop.names()}


# Since when a content stands ------------------------------------------------------------------------------------------


def test_a_mode_that_is_mended_does_not_change_since_when_a_content_stands(shop: Workshop) -> None:
    path = shop.write("file", "one")
    shop.write("beside", "as it was")
    shop.cycle()
    began_ns = record_of(shop, b"file").stands_since_ns
    for mode in (0o600, 0o640):
        path.chmod(mode)
        assert shop.cycle().tally.updated == 1

    now = record_of(shop, b"file")
    assert now.stands_since_ns == began_ns < now.mirror.ctime_ns
    assert record_of(shop, b"beside").since_ns == 0
    path.write_text("two")
    shop.cycle()
    assert the_row(shop).since_ns == began_ns


def test_a_copy_of_another_program_stands_since_it_was_made_and_not_since_its_metadata_were_set(shop: Workshop) -> None:
    shop.write("file", "one")
    shop.cycle()
    (shop.mirror / "other").write_text("one")
    (shop.mirror / "other").rename(shop.mirror / "file")
    began_ns = (shop.mirror / "file").stat().st_ctime_ns
    told = shop.cycle()

    now = record_of(shop, b"file")
    assert told.tally.updated == 1
    assert now.stands_since_ns == began_ns < now.mirror.ctime_ns


def test_a_further_name_does_not_change_since_when_a_content_stands(shop: Workshop) -> None:
    shop.write("file", "one")
    shop.cycle()
    began_ns = record_of(shop, b"file").stands_since_ns
    give_name(shop, "file", "other")
    shop.cycle()

    assert record_of(shop, b"file").stands_since_ns == began_ns


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_content_that_cannot_be_kept_is_not_replaced(shop: Workshop) -> None:
    shop.write("folder/file", "one")
    shop.write("folder/large", "x" * (SMALL_BYTES + 1))
    shop.cycle()
    (shop.state / "versions").write_text("a stranger's")
    shop.write("folder/file", "two")
    shop.write("folder/large", "y" * (SMALL_BYTES + 1))
    shop.write("folder/new")

    told = shop.cycle()

    assert told.result is Result.PARTIAL
    assert told.failed.keys() == {b"folder/file", b"folder/large"}
    assert set(told.copied) == {b"folder/new"}
    assert (shop.mirror / "folder/file").read_text() == "one"
    assert shop.temps == []
    (shop.state / "versions").unlink()
    again = shop.cycle()
    assert set(again.copied) == {b"folder/file", b"folder/large"}
    assert kept(shop)["folder/file"] == ["one"]
    assert_mirrored(shop)


@pytest.mark.needs_root
def test_a_rename_that_fails_leaves_no_version_and_no_drift(shop: Workshop) -> None:
    shop.write("file", "one")
    shop.write("beside", "one")
    shop.cycle()
    shop.write("file", "two")
    shop.write("beside", "two")
    os.system(f"chattr +i {shop.mirror / 'file'}")  # a path of pytest
    try:
        told = shop.cycle()
        again = shop.cycle()
    finally:
        os.system(f"chattr -i {shop.mirror / 'file'}")

    assert told.result is Result.PARTIAL
    assert told.failed.keys() == {b"file"}
    assert again.failed.keys() == {b"file"}
    assert kept(shop) == {"beside": ["one"]}
    last = shop.cycle()
    assert (last.result, set(last.copied), last.drift) == (Result.SUCCESS, {b"file"}, {})
    assert kept(shop) == {"beside": ["one"], "file": ["one"]}


def test_a_batch_that_is_void_keeps_its_versions_and_the_next_cycle_goes_on(shop: Workshop) -> None:
    path = shop.write("file", "one")
    shop.cycle()
    path.write_text("two")
    calls = Counter[str]()

    def fail_after_the_rename() -> None:
        calls["sync"] += 1
        if calls["sync"] == 2:
            raise OSError(5, "the disk is broken")

    shop.options["workers"] = 1
    told = shop.cycle(with_sync(fail_after_the_rename))
    again = shop.cycle()

    assert told.failed == {b"file": Failure.SYNC}
    assert (again.result, again.drift) == (Result.SUCCESS, {})
    assert kept(shop)["file"][0] == "one"
    assert_mirrored(shop)


def test_an_ordinary_user_keeps_versions_that_nobody_else_can_enter(open_shop: Workshop) -> None:
    path = open_shop.write("folder/file", "one")
    usual = os.umask(0)
    try:
        with nobody():
            open_shop.cycle()
        path.write_text("two")
        with nobody():
            told = open_shop.cycle()
    finally:
        os.umask(usual)

    assert told.result is Result.SUCCESS
    assert kept(open_shop) == {"folder/file": ["one"]}
    for folder in [open_shop.state / "versions", *(open_shop.state / "versions").rglob("*")]:
        if folder.is_dir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_workers_and_huge_folders_keep_all_in_the_folder_of_the_cycle(mirrored_huge: Workshop) -> None:
    shop = mirrored_huge
    for number in range(0, 100, 3):
        shop.write(f"crowd/f-{number}", f"changed {number}")
    shop.write("crowd/below/a", "changed")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    wanted = {f"crowd/f-{number}": [f"content {number}"] for number in range(0, 100, 3)}
    assert kept(shop) == wanted | {"crowd/below/a": ["content"]}
    [found] = rows(shop, b"crowd").values()
    assert found.keys() == {os.fsencode(f"f-{number}") for number in range(0, 100, 3)}
    assert len([*(shop.state / "versions").iterdir()]) == 1


# Disks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.one_process
@pytest.mark.parametrize(
    ("kind", "syncs"), [("ext4", 0), pytest.param("btrfs", 1, marks=pytest.mark.needs_tool("mkfs.btrfs"))]
)
def test_links_are_synced_before_the_renames_where_their_order_is_not_certain(
    shop: Workshop, kind: str, syncs: int
) -> None:
    path = shop.write("folder/file", "one")
    story: list[list[str]] = []

    def note() -> None:
        story.append([*kept(shop).get("folder/file", []), (shop.mirror / "folder/file").read_text()])

    with disk(shop.mirror, kind, 64 * MIB):
        shop.cycle()
        path.write_text("two")
        told = shop.cycle(with_sync(note))

        assert told.result is Result.SUCCESS
        assert story == [["one"], *[["one", "one"]] * syncs, ["one", "two"]]
        assert kept(shop) == {"folder/file": ["one"]}


@pytest.mark.needs_root
@pytest.mark.one_process
def test_contents_on_a_disk_in_the_mirror_are_copied_to_the_versions_and_synced_before_they_go(shop: Workshop) -> None:
    path = shop.write("usb/file", "one")
    (shop.mirror / "usb").mkdir()
    story: list[list[str]] = []

    def listened(context: PairContext) -> PairContext:
        def note() -> None:
            story.append([*kept(shop).get("usb/file", []), (shop.mirror / "usb/file").read_text()])

        return with_tools(context, lambda tools: tools._replace(sync=ListenedSync(tools.sync, note)))

    with disk(shop.mirror / "usb", "ext4", 32 * MIB):
        shop.cycle()
        path.write_text("two")
        told = shop.cycle(changed(listened))

        assert told.result is Result.SUCCESS
        assert story == [["one", "one"]]
        assert kept(shop) == {"usb/file": ["one"]}
        assert (shop.mirror / "usb/file").read_text() == "two"
        assert shop.cycle().result is Result.SUCCESS


@pytest.mark.needs_root
def test_a_file_on_a_disk_in_the_mirror_that_becomes_a_folder_is_copied_to_the_versions(shop: Workshop) -> None:
    path = shop.write("usb/name", "old")
    (shop.mirror / "usb").mkdir()
    with disk(shop.mirror / "usb", "ext4", 32 * MIB):
        shop.cycle()
        path.unlink()
        shop.write("usb/name/below")
        told = shop.cycle()

        assert told.result is Result.SUCCESS
        assert kept(shop) == {"usb/name": ["old"]}
        assert the_row(shop, b"usb").why is VersionReason.GAVE_WAY
        assert (shop.mirror / "usb/name/below").read_text() == "content"


@pytest.mark.parametrize("mount", [pytest.param(foreign.exfat, id="exfat", marks=foreign.EXFAT)])
def test_without_links_contents_are_moved_and_the_clock_tells_since_when(
    shop: Workshop, tmp_path: Path, mount: Callable[[Path, Path], AbstractContextManager[Path]]
) -> None:
    path = shop.write("folder/file", "one")
    with mount(shop.mirror, tmp_path / "disk.img"):
        began_ns = shop.now_ns()
        shop.cycle()
        since_ns = record_of(shop, b"file", b"folder").stands_since_ns
        path.write_text("two")
        told = shop.cycle()

        assert told.result is Result.SUCCESS
        assert kept(shop) == {"folder/file": ["one"]}
        row = the_row(shop, b"folder")
        assert began_ns <= since_ns == row.since_ns <= row.until_ns <= shop.now_ns()
        assert row.until_ns == record_of(shop, b"file", b"folder").stands_since_ns
        assert shop.cycle().copied == {}


@pytest.mark.needs_root
def test_a_mirror_of_a_server_keeps_versions_and_syncs_each(shop: Workshop, tmp_path: Path) -> None:
    path = shop.write("folder/file", "one")
    with memory_disk(shop.mirror, f"log={tmp_path / 'syncs'}"):
        shop.cycle()
        (tmp_path / "syncs").write_text("")
        path.write_text("two")
        told = shop.cycle()

        assert told.result is Result.SUCCESS
        assert kept(shop) == {"folder/file": ["one"]}
        assert_mirrored(shop)


@pytest.mark.one_process
def test_a_cycle_that_was_killed_between_link_and_rename_is_forgotten_by_the_next(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("folder/file", "other/file"):
        shop.write(name, "one")
    shop.cycle()
    for name in ("folder/file", "other/file"):
        shop.write(name, "two")
    process = os.fork()
    if process == 0:

        class Killing(version_folders.VersionLinks):
            def close(self) -> None:
                os._exit(9)  # all links are made, and no rename

        monkeypatch.setattr("job.engine.versions.keeping.VersionLinks", Killing)
        shop.cycle(shop._open_context)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert kept(shop) == {"folder/file": ["one"], "other/file": ["one"]}
    assert (shop.mirror / "folder/file").stat().st_nlink == 2
    (shop.source / "other/file").unlink()
    shop.ahead_ns += 10**10

    told = shop.cycle()

    assert (told.result, told.drift) == (Result.SUCCESS, {})
    assert kept(shop) == {"folder/file": ["one"]}
    assert inodes_of_versions(shop).isdisjoint(inodes_of_mirror(shop))
    assert (shop.mirror / "other/file").stat().st_nlink == 1
    assert shop.temps == []


def test_a_link_that_a_power_cut_left_without_its_rename_does_no_harm(shop: Workshop) -> None:
    path = shop.write("file", "one")
    shop.cycle()
    leftover = shop.state / "versions" / "20200101T000000Z"
    leftover.mkdir(parents=True, mode=0o700)
    (leftover / "file").hardlink_to(shop.mirror / "file")

    unchanged = shop.cycle()
    path.write_text("two")
    told = shop.cycle()

    assert (unchanged.result, unchanged.drift, unchanged.copied) == (Result.SUCCESS, {}, {})
    assert (told.result, told.drift) == (Result.SUCCESS, {})
    assert kept(shop) == {"file": ["one", "one"]}
    assert inodes_of_versions(shop).isdisjoint(inodes_of_mirror(shop))
    assert_mirrored(shop)
