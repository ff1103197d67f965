"""A folder of the mirror that is not the one that was left there is set aside, whole, where nobody gets at it."""

import os
import shutil
from pathlib import Path

import pytest

from job.core.outcome import Refusal, Result
from job.engine.context import PairContext
from job.events.pair import EntrySetAside, FileFailed, PairRefused, StateFolderLost
from tests.engine.workshop import NOBODY, Told, Workshop, as_nobody, assert_mirrored, changed

pytestmark = pytest.mark.needs_root

OWNER, STRANGER = 64002, 64003
SECRET = "owner's secret"


def own(path: Path, user: int, mode: int | None = None) -> None:
    """Give a tree to a user."""
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)


def set_aside(told: Told) -> dict[bytes, str]:
    return {event.path: event.reason for event in told.of(EntrySetAside)}


def kept(shop: Workshop) -> dict[str, str]:
    """Give the contents of what is kept, insisting that every folder that leads to it is ours and closed."""
    versions = shop.mirror / ".truecopy/versions"
    for folder in (shop.mirror / ".truecopy", versions, *versions.glob("*")):
        seen = folder.stat()
        assert (seen.st_uid, seen.st_mode & 0o777) == (0, 0o700), folder
    moments = [(folder, path) for folder in versions.glob("*") for path in files(folder)]
    return {str(path.relative_to(folder)): path.read_text() for folder, path in moments}


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture(params=[1, 3], ids=["alone", "with workers"])
def neighbours(shop: Workshop, request: pytest.FixtureRequest) -> Workshop:
    """A private folder of one user beside a public one of another, mirrored."""
    shop.options |= {"workers": request.param, "workers_from": 0}
    shop.write("private/letter", SECRET)
    shop.write("private/deep/more", SECRET)
    shop.write("public/file", "mine")
    shop.write("public/below/file", "mine, too")
    own(shop.source / "private", OWNER, 0o700)
    own(shop.source / "public", STRANGER, 0o755)
    assert shop.cycle().result is Result.SUCCESS
    return shop


def settled(shop: Workshop) -> None:
    """Insist that the mirror is as its source, and that there is nothing more to do."""
    assert_mirrored(shop)
    for path in [path for path in (shop.source, *shop.source.rglob("*")) if not path.is_fifo()]:
        mirror = (shop.mirror / path.relative_to(shop.source)).lstat()
        assert (mirror.st_uid, mirror.st_gid) == (path.lstat().st_uid, path.lstat().st_gid), path
    assert shop.plan() == []
    again = shop.cycle()
    assert (again.result, again.copied, set_aside(again), again.drift) == (Result.SUCCESS, {}, {}, {})
    assert again.tally.updated == 0


def test_a_folder_that_was_exchanged_in_the_mirror_is_set_aside_whole(neighbours: Workshop) -> None:
    shop = neighbours
    (shop.mirror / "public").rename(shop.mirror / "away")
    (shop.mirror / "private").rename(shop.mirror / "public")

    planned = [(each.action, each.path) for each in shop.plan() if each.action == "set_aside"]
    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert planned == [("set_aside", b"public")]
    reason = f"it is not the folder that was left there: the mirror's folder belongs to user {OWNER}, the source's to "
    assert set_aside(told) == {b"public": f"{reason}user {STRANGER}"}
    [event] = told.of(EntrySetAside)
    assert (shop.mirror / event.version / "letter").read_text() == SECRET
    assert (shop.mirror / event.version / "deep/more").read_text() == SECRET
    assert kept(shop)
    settled(shop)


def test_a_folder_below_one_that_was_left_is_judged_by_itself(neighbours: Workshop) -> None:
    shop = neighbours
    shop.write("public/shared/of-owner/letter", SECRET)
    shop.write("public/shared/of-stranger/file", "mine")
    own(shop.source / "public/shared/of-owner", OWNER, 0o700)
    own(shop.source / "public/shared/of-stranger", STRANGER, 0o755)
    shop.cycle()
    shared = shop.mirror / "public/shared"
    shutil.rmtree(shared / "of-stranger")
    (shared / "of-owner").rename(shared / "of-stranger")

    told = shop.cycle()

    assert list(set_aside(told)) == [b"public/shared/of-stranger"]
    settled(shop)


def test_a_folder_that_only_changed_its_owner_in_the_mirror_is_set_aside_with_all_that_is_below(
    neighbours: Workshop,
) -> None:
    shop = neighbours
    os.chown(shop.mirror / "public", OWNER, OWNER)

    told = shop.cycle()

    assert list(set_aside(told)) == [b"public"]
    assert {b"public/file", b"public/below/file"} <= told.copied.keys()
    settled(shop)


def test_an_empty_folder_of_another_user_is_replaced_without_a_word(neighbours: Workshop) -> None:
    shop = neighbours
    shutil.rmtree(shop.mirror / "public")
    (shop.mirror / "public").mkdir(mode=0o777)
    os.chown(shop.mirror / "public", OWNER, OWNER)

    told = shop.cycle()

    assert set_aside(told) == {}
    assert told.result is Result.SUCCESS
    settled(shop)


@pytest.mark.parametrize("lost", ["index", "all"])
def test_without_an_index_the_owner_decides(neighbours: Workshop, lost: str) -> None:
    shop = neighbours
    (shop.mirror / "public/removed").write_text("stays")
    os.chown(shop.mirror / "private", STRANGER, STRANGER)
    if lost == "index":
        (shop.state / "index.sqlite3").unlink()
    else:
        shutil.rmtree(shop.state)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert list(set_aside(told)) == [b"private"]
    assert (shop.mirror / "public/removed").read_text() == "stays"
    assert bool(told.of(StateFolderLost)) == (lost == "all")
    settled(shop)


def test_a_folder_of_ours_that_nothing_is_recorded_of_is_used_without_what_its_source_has_not(shop: Workshop) -> None:
    shop.write("music/song", "right")
    own(shop.source / "music", OWNER, 0o755)
    (shop.mirror / "music").mkdir()
    (shop.mirror / "music/song").write_text("right")
    (shop.mirror / "music/removed").write_text("of an older tool")
    (shop.mirror / "music").chmod(0o755)
    inode = (shop.mirror / "music").stat().st_ino

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert list(set_aside(told)) == [b"music/removed"]
    assert (shop.mirror / "music").stat().st_ino == inode
    assert told.copied == {}
    settled(shop)


def test_a_mirror_that_was_copied_to_another_place_is_used_as_it_is(neighbours: Workshop) -> None:
    shop = neighbours
    (shop.mirror / "public/removed").write_text("stays")
    own(shop.mirror / "public", STRANGER)
    shop.cycle()
    old = shop.mirror.rename(shop.base / "old")
    shutil.copytree(old, shop.mirror, symlinks=True)
    for path in [old, *old.rglob("*")]:
        new = shop.mirror / path.relative_to(old)
        os.chown(new, path.stat().st_uid, path.stat().st_gid)
        new.chmod(path.stat().st_mode & 0o7777)

    told = shop.cycle()

    assert (told.result, set_aside(told), told.copied) == (Result.SUCCESS, {}, {})
    assert (shop.mirror / "public/removed").read_text() == "stays"


def test_an_ordinary_user_uses_all_folders_of_theirs(open_shop: Workshop) -> None:
    shop = open_shop
    shop.write("one/file")
    shop.write("two/file")
    own(shop.source / "two", OWNER, 0o755)
    as_nobody(shop)
    (shop.mirror / "one").rename(shop.mirror / "three")
    (shop.mirror / "two").rename(shop.mirror / "one")
    (shop.mirror / "three").rename(shop.mirror / "two")

    told = as_nobody(shop)

    assert (told.result, set_aside(told)) == (Result.SUCCESS, {})
    assert (shop.mirror / "one").stat().st_uid == NOBODY


def test_what_cannot_be_set_aside_is_not_given_to_anybody(neighbours: Workshop) -> None:
    shop = neighbours
    shutil.rmtree(shop.mirror / "public")
    (shop.mirror / "private").rename(shop.mirror / "public")
    (shop.state / "versions").write_text("somebody's")

    told = shop.cycle()

    assert told.result is Result.PARTIAL
    assert b"public" in told.failed
    assert (shop.mirror / "public").stat().st_uid == OWNER
    assert (shop.mirror / "public/letter").read_text() == SECRET


@pytest.mark.one_process
@pytest.mark.parametrize("begun", ["first copy", "missing in the mirror"])
def test_what_an_interrupted_cycle_made_is_gone_on_with(shop: Workshop, begun: str) -> None:
    for name in ("one/file", "one/two/file", "one/two/three/file", "other/file"):
        shop.write(name)
    own(shop.source, OWNER)
    if begun != "first copy":
        shop.cycle()
        shutil.rmtree(shop.mirror / "one")

    for steps in range(0, 24, 2):
        shop.killed_cycle(steps)
    told = shop.cycle()

    assert (told.result, set_aside(told)) == (Result.SUCCESS, {})
    assert not (shop.state / "versions").exists()
    settled(shop)


# The state folder -----------------------------------------------------------------------------------------------------


def refused(told: Told) -> PairRefused:
    assert told.result is Result.REFUSED
    [event] = told.of(PairRefused)
    assert event.reason is Refusal.STATE_UNUSABLE
    return event


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_renamed_state_folder_is_refused_by_its_new_name(neighbours: Workshop, *, elsewhere: bool) -> None:
    shop = neighbours
    if elsewhere:
        shop.options["state_dir"] = str(shop.base / "elsewhere")
        shop.cycle()
    (shop.mirror / "public").rename(shop.mirror / "away")
    (shop.mirror / ".truecopy").rename(shop.mirror / "public")
    before = (shop.mirror / "public").stat()

    event = refused(shop.cycle())

    assert f"renamed to {shop.mirror}/public" in event.error
    assert f"mv {shop.mirror}/public {shop.mirror}/.truecopy" in event.hint
    assert (shop.mirror / "public").stat() == before
    (shop.mirror / "public").rename(shop.mirror / ".truecopy")
    assert shop.cycle().result is Result.SUCCESS
    settled(shop)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_state_folder_of_another_user_is_refused_with_both_owners(neighbours: Workshop, *, elsewhere: bool) -> None:
    shop = neighbours
    if elsewhere:
        shop.options["state_dir"] = str(shop.base / "elsewhere")
    (shop.mirror / ".truecopy").rename(shop.mirror / "hidden")
    (shop.mirror / ".truecopy").mkdir(mode=0o777)
    os.chown(shop.mirror / ".truecopy", STRANGER, STRANGER)

    event = refused(shop.cycle())

    assert f"{shop.mirror}/.truecopy belongs to user {STRANGER}; it must belong to root" in event.error
    assert f"mv {shop.mirror}/hidden {shop.mirror}/.truecopy" in event.hint
    assert list((shop.mirror / ".truecopy").iterdir()) == []


@pytest.mark.one_process
@pytest.mark.parametrize("elsewhere", [False, True])
def test_nothing_is_kept_in_a_state_folder_that_is_exchanged_in_mid_run(shop: Workshop, *, elsewhere: bool) -> None:
    if elsewhere:
        shop.options["state_dir"] = str(shop.base / "elsewhere")
    shop.write("private/d/letter", SECRET)
    shop.write("other")
    own(shop.source / "private", OWNER, 0o700)
    shop.cycle()
    shutil.rmtree(shop.source / "private/d")
    (shop.source / "private/d").write_text("a file")

    def exchange(context: PairContext) -> PairContext:
        (shop.mirror / ".truecopy").rename(shop.mirror / "hidden")
        (shop.mirror / ".truecopy/versions").mkdir(parents=True)
        own(shop.mirror / ".truecopy", STRANGER, 0o777)
        return context

    told = shop.cycle(changed(exchange))

    assert b"private/d" in told.failed
    [event] = [each for each in told.of(FileFailed) if each.path == b"private/d"]
    assert f"a folder of user {STRANGER}" in event.error
    assert "move it back to .truecopy" in event.error
    assert (shop.mirror / "private/d/letter").read_text() == SECRET
    assert list((shop.mirror / ".truecopy/versions").iterdir()) == []


@pytest.mark.one_process  # which has the bench of a test
@pytest.mark.parametrize("neighbours", [1], indirect=True)
def test_the_state_folder_is_no_ordinary_folder_even_if_it_is_renamed_in_mid_run(neighbours: Workshop) -> None:
    shop = neighbours
    (shop.source / "public/new").write_text("new")

    def rename(context: PairContext) -> PairContext:
        (shop.mirror / "public").rename(shop.mirror / "away")
        (shop.mirror / ".truecopy").rename(shop.mirror / "public")
        return context

    told = shop.cycle(changed(rename))

    assert b"public" in told.failed
    [event] = [each for each in told.of(FileFailed) if each.path == b"public"]
    assert "is Truecopy's own folder .truecopy" in event.error
    assert (shop.mirror / "public").stat().st_uid == 0
    assert (shop.mirror / "public/index.sqlite3").exists()


def test_folders_of_the_versions_that_others_may_enter_are_closed(neighbours: Workshop) -> None:
    shop = neighbours
    versions = shop.state / "versions"
    versions.mkdir(mode=0o755)
    shop.state.chmod(0o755)
    shutil.rmtree(shop.source / "private/deep")
    (shop.source / "private/deep").write_text("a file")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert SECRET in kept(shop).values()
