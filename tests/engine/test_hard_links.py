"""Hard links: names that share a file in the source share one in the mirror, wherever they are, whoever copies them."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.file_systems import Capabilities
from job.core.outcome import Drift, Failure, Result, Skip
from job.events.pair import FileCopied, MetadataNotKept, MirrorProbed
from job.fs import probe
from tests.engine.workshop import ListenedIndex, Told, Workshop, as_nobody, assert_mirrored, changed, with_sync


def give_name(shop: Workshop, old: str, new: str) -> Path:
    """Give a source file another name."""
    place = shop.source / new
    place.parent.mkdir(parents=True, exist_ok=True)
    os.link(shop.source / old, place, follow_symlinks=False)
    return place


def inodes(root: Path, *names: str) -> set[int]:
    return {(root / name).lstat().st_ino for name in names}


@pytest.fixture
def trio(shop: Workshop) -> Workshop:
    """Give a workshop with one file under three names, and one like it under a name of its own, already mirrored."""
    shop.write("a", "same")
    give_name(shop, "a", "folder/b")
    give_name(shop, "a", "folder/deeper/c")
    shop.write("folder/alone", "same")
    assert shop.cycle().tally.copied == 4
    return shop


TRIO = ("a", "folder/b", "folder/deeper/c")


def test_names_of_one_file_share_one_in_the_mirror(trio: Workshop) -> None:
    assert len(inodes(trio.mirror, *TRIO)) == 1
    assert len(inodes(trio.mirror, *TRIO, "folder/alone")) == 2
    assert_mirrored(trio)


def test_a_file_is_read_once_and_each_name_told_once(shop: Workshop) -> None:
    shop.write("a", "content")
    give_name(shop, "a", "folder/b")

    told = shop.cycle()

    first, second = sorted(told.of(FileCopied), key=lambda event: -event.bytes)
    assert (first.bytes, second.bytes) == (7, 0)
    assert first.checksum == second.checksum
    assert second.reason == f"a hard link to {first.path.decode()}"
    assert (told.tally.copied, told.tally.bytes_copied) == (2, 7)


def test_nothing_is_done_about_them_in_the_next_cycle(trio: Workshop) -> None:
    told = trio.cycle()

    assert (told.tally.copied, told.tally.updated, told.tally.entries) == (0, 0, 4)
    assert told.result is Result.SUCCESS


def test_a_new_name_is_linked_and_no_content_copied(trio: Workshop) -> None:
    give_name(trio, "a", "elsewhere/d")

    told = trio.cycle()

    assert list(told.copied) == [b"elsewhere/d"]
    assert told.tally.bytes_copied == 0
    assert len(inodes(trio.mirror, *TRIO, "elsewhere/d")) == 1
    assert told.tally.entries == 5


def test_a_file_that_gets_a_second_name_later_is_joined(trio: Workshop) -> None:
    give_name(trio, "folder/alone", "folder/no more alone")

    told = trio.cycle()

    assert told.copied == {b"folder/no more alone": "a hard link to folder/alone"}
    assert len(inodes(trio.mirror, "folder/alone", "folder/no more alone")) == 1


def test_two_files_that_become_one_are_one_in_the_mirror(trio: Workshop) -> None:
    (trio.source / "folder/alone").unlink()
    give_name(trio, "a", "folder/alone")

    assert trio.cycle().tally.bytes_copied == 0

    assert len(inodes(trio.mirror, *TRIO, "folder/alone")) == 1


def test_a_name_that_is_parted_from_the_others_gets_a_file_of_its_own(trio: Workshop) -> None:
    part(trio.source / "folder/b")

    told = trio.cycle()

    assert list(told.copied) == [b"folder/b"]
    assert len(inodes(trio.mirror, "a", "folder/deeper/c")) == 1
    assert len(inodes(trio.mirror, *TRIO)) == 2


def part(path: Path) -> None:
    """Make a name stand for a file of its own, which nothing but its inode and ctime tells from the old one."""
    shutil.copy2(path, path.with_name("fresh"))
    path.with_name("fresh").rename(path)


def test_names_that_form_two_groups_where_there_was_one_do_so_in_the_mirror(trio: Workshop) -> None:
    part(trio.source / "folder/b")
    (trio.source / "a").unlink()
    give_name(trio, "folder/b", "a")

    trio.cycle()

    assert len(inodes(trio.mirror, "a", "folder/b")) == 1
    assert len(inodes(trio.mirror, *TRIO)) == 2


def test_parted_names_are_told_apart_without_an_index(trio: Workshop) -> None:
    part(trio.source / "folder/b")
    (trio.state / "index.sqlite3").unlink()

    trio.cycle()

    assert len(inodes(trio.mirror, *TRIO)) == 2
    assert len(inodes(trio.mirror, "a", "folder/deeper/c")) == 1


def test_a_mirror_that_somebody_made_links_of_is_not_copied_again(trio: Workshop) -> None:
    for name in (*TRIO, "folder/alone"):
        (trio.base / "snapshot" / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(trio.mirror / name, trio.base / "snapshot" / name)

    told = trio.cycle()

    assert (told.tally.copied, told.tally.updated, told.tally.drift_by) == (0, 0, {})
    assert inodes(trio.base / "snapshot", "folder/alone") == inodes(trio.mirror, "folder/alone")


def test_what_is_linked_to_from_elsewhere_keeps_its_mode_there(trio: Workshop) -> None:
    os.link(trio.mirror / "folder/alone", trio.base / "snapshot")
    (trio.source / "folder/alone").chmod(0o600)
    before = (trio.base / "snapshot").stat().st_mode

    trio.cycle()

    assert (trio.base / "snapshot").stat().st_mode == before
    assert_mirrored(trio)


def test_a_changed_content_comes_to_all_names(trio: Workshop) -> None:
    (trio.source / "a").write_text("changed")

    told = trio.cycle()

    assert (told.tally.copied, told.tally.bytes_copied) == (3, 7)
    assert len(inodes(trio.mirror, *TRIO)) == 1
    assert_mirrored(trio)


def test_a_changed_mode_is_mended_once_and_copies_nothing(trio: Workshop) -> None:
    (trio.source / "a").chmod(0o600)

    told = trio.cycle()

    assert (told.tally.copied, told.tally.updated) == (0, 1)
    assert_mirrored(trio)


def test_the_last_name_that_stays_is_not_copied(trio: Workshop) -> None:
    (trio.source / "a").unlink()
    (trio.source / "folder/b").unlink()

    told = trio.cycle()

    assert (told.tally.copied, told.tally.updated, told.tally.entries) == (0, 0, 2)


def replace_it(path: Path) -> None:
    path.unlink()
    path.write_text("not ours")


@pytest.mark.parametrize(("meddle", "kind"), [(Path.unlink, Drift.MISSING), (replace_it, Drift.REPLACED)])
def test_a_name_that_somebody_took_from_the_mirror_is_linked_again(
    trio: Workshop, meddle: Callable[[Path], object], kind: Drift
) -> None:
    meddle(trio.mirror / "folder/b")

    told = trio.cycle()

    assert told.drift == {kind: 1}
    assert told.copied.keys() == {b"folder/b"}
    assert told.tally.bytes_copied == 0
    assert len(inodes(trio.mirror, *TRIO)) == 1
    assert_mirrored(trio)


def test_names_in_folders_that_nobody_looked_into_are_found(trio: Workshop) -> None:
    """Without an audit only the folder of the missing name is visited; the index knows where the others are."""
    trio.options["audit_interval"] = 10**6
    (trio.mirror / "folder/b").unlink()

    told = trio.cycle()

    assert told.copied == {b"folder/b": "a hard link to a"}
    assert told.tally.entries == 4
    assert len(inodes(trio.mirror, *TRIO)) == 1
    trio.options["audit_interval"] = 0
    again = trio.cycle()
    assert (again.tally.copied, again.tally.entries, again.drift) == (0, 4, {})


def test_symlinks_with_several_names_share_one_in_the_mirror(shop: Workshop) -> None:
    (shop.source / "link").symlink_to("nowhere")
    give_name(shop, "link", "folder/same")

    shop.cycle()

    assert len(inodes(shop.mirror, "link", "folder/same")) == 1
    assert os.readlink(shop.mirror / "folder/same") == "nowhere"


def test_pipes_with_several_names_share_one_in_the_mirror(shop: Workshop) -> None:
    shop.options["specials"] = "recreate"
    os.mkfifo(shop.source / "pipe")
    give_name(shop, "pipe", "folder/same")

    shop.cycle()

    assert len(inodes(shop.mirror, "pipe", "folder/same")) == 1
    assert shop.cycle().tally.copied == 0


@pytest.mark.needs_root
def test_devices_that_cannot_be_made_fail_under_none_of_their_names(open_shop: Workshop) -> None:
    open_shop.options["specials"] = "recreate"
    os.mknod(open_shop.source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    give_name(open_shop, "device", "folder/same")
    open_shop.write("file")

    told = as_nobody(open_shop)

    assert told.result is Result.SUCCESS
    assert told.tally.skipped_by[Skip.UNSUPPORTED] == 2


def test_names_outside_the_source_do_not_matter(shop: Workshop) -> None:
    shop.write("a")
    os.link(shop.source / "a", shop.base / "outside")
    shop.options["exclude"] = ["hidden"]
    give_name(shop, "a", "hidden/b")

    assert shop.cycle().copied == {b"a": "new"}

    assert shop.cycle().tally.copied == 0
    assert (shop.mirror / "a").stat().st_nlink == 1


@pytest.mark.needs_root
def test_a_file_that_cannot_be_read_fails_under_each_of_its_names(open_shop: Workshop) -> None:
    open_shop.write("good")
    open_shop.write("a").chmod(0)
    give_name(open_shop, "a", "folder/b")

    told = as_nobody(open_shop)

    assert told.result is Result.PARTIAL
    assert told.failed == {b"a": Failure.PERMISSION, b"folder/b": Failure.PERMISSION}
    assert (told.tally.copied, told.tally.entries) == (1, 3)


@pytest.mark.parametrize("name", ["a", "folder/b"])
def test_a_folder_in_the_way_of_a_name_is_retired(trio: Workshop, name: str) -> None:
    (trio.mirror / name).unlink()
    (trio.mirror / name).mkdir()
    (trio.mirror / name / "somebody's").touch()

    told = trio.cycle()

    assert told.result is Result.SUCCESS
    assert f"{name}/somebody's" in trio.retired
    assert len(inodes(trio.mirror, *TRIO)) == 1
    assert_mirrored(trio)


def test_a_folder_that_took_the_place_of_a_file_is_there_for_the_names_in_it(trio: Workshop) -> None:
    """The folder above it waits for the names in it, but must not keep it from being made."""
    trio.write("folder/new", "same")
    (trio.source / "folder/alone").unlink()
    give_name(trio, "folder/new", "folder/alone/inner")

    told = trio.cycle()

    assert told.result is Result.SUCCESS
    assert len(inodes(trio.mirror, "folder/new", "folder/alone/inner")) == 1
    assert_mirrored(trio)
    assert trio.temps == []


def test_a_name_that_became_another_file_is_copied_whatever_its_old_ones_do(trio: Workshop) -> None:
    (trio.mirror / "a").unlink()  # so that the old names are looked up
    trio.write("new", "other content")
    (trio.source / "new").rename(trio.source / "folder/b")

    told = trio.cycle()

    assert told.result is Result.SUCCESS
    assert told.tally.entries == 4
    assert (trio.mirror / "folder/b").read_text() == "other content"
    assert_mirrored(trio)


def test_the_plan_reads_a_file_once(shop: Workshop) -> None:
    shop.write("a")
    give_name(shop, "a", "folder/b")

    planned = {step.path: (step.action, step.bytes) for step in shop.plan() if step.action != "make_folder"}

    assert planned == {b"a": ("copy", 7), b"folder/b": ("link", 0)}


def test_many_names_in_many_folders_are_all_one(shop: Workshop) -> None:
    names = [f"{number % 40}/{number}" for number in range(600)]
    shop.write(names[0])
    for name in names[1:]:
        give_name(shop, names[0], name)

    told = shop.cycle()

    assert told.tally.copied == 600
    assert len(inodes(shop.mirror, *names)) == 1
    assert shop.cycle().tally.copied == 0


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.fixture
def _without_links(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the system refuse hard links; of a whole file system that does so there are tests in `tests/fidelity`."""
    shop.options["workers"] = 1
    shop.write("a")
    for name in ("b", "c"):
        give_name(shop, "a", name)
    with monkeypatch.context() as patch:
        patch.setattr("os.link", refuse)
        yield


def assert_each_has_a_file(shop: Workshop, told: Told, again: Told) -> None:
    assert told.result is again.result is Result.SUCCESS
    assert (told.tally.copied, again.tally.copied) == (3, 0)
    assert len(inodes(shop.mirror, "a", "b", "c")) == 3
    assert_mirrored(shop)


@pytest.mark.one_process
@pytest.mark.usefixtures("_without_links")
def test_a_mirror_without_hard_links_gets_a_file_for_each_name(shop: Workshop) -> None:
    told, again = shop.cycle(), shop.cycle()

    [probed] = told.of(MirrorProbed)
    assert "hard links" in probed.lacks
    assert again.of(MirrorProbed) == []
    assert_each_has_a_file(shop, told, again)


@pytest.mark.one_process
@pytest.mark.usefixtures("_without_links")
def test_a_mirror_that_refuses_a_link_all_of_a_sudden_gets_a_file_for_each_name_and_that_is_told_once(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "probe", lambda _: Capabilities())

    told, again = shop.cycle(), shop.cycle()

    assert [event.what for event in told.of(MetadataNotKept)] == ["hard_links"]
    assert_each_has_a_file(shop, told, again)


class LinkingIndex(ListenedIndex):
    """The real index; the first folder to sync is not handed out before `link` is called."""

    link: Callable[[], object]

    def rows(self, path: bytes, part: int = 0) -> str:
        if not self.asked["rows"]:
            self.link()
        return super().rows(path, part)


def test_a_name_that_a_file_gets_between_scan_and_sync_is_linked_by_the_next_cycle(shop: Workshop) -> None:
    shop.write("folder/old")
    shop.write("other/beside")
    index = type("Linking", (LinkingIndex,), {"link": lambda _: give_name(shop, "folder/old", "other/new")})

    first = shop.cycle(changed(lambda context: replace(context, index=index(context.index))))
    second = shop.cycle()

    assert first.copied.keys() == {b"folder/old", b"other/beside", b"other/new"}
    assert (first.result, second.result) == (Result.SUCCESS, Result.SUCCESS)
    assert len(inodes(shop.mirror, "folder/old", "other/new")) == 1
    assert not shop.cycle().copied


def test_a_link_whose_sync_fails_is_reported_as_failed_and_not_as_copied(shop: Workshop) -> None:
    shop.write("a", "content")
    give_name(shop, "a", "folder/b")

    errors = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def disk() -> None:
        if errors and (shop.mirror / "folder/b").exists():
            raise errors.pop()

    told = shop.cycle(with_sync(disk))

    assert told.result is Result.PARTIAL
    assert told.failed == {b"folder/b": Failure.SYNC}
    assert told.copied.keys() == {b"a"}
    assert (told.tally.copied, told.tally.failed) == (1, 1)
