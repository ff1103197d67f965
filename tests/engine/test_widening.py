"""What left the source is never easier to read in the mirror than it was, whatever becomes of the folder it lay in."""

import os
import shutil
import stat
import struct
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.outcome import Result, Skip
from job.core.record import FolderDone
from job.engine.context import PairContext
from job.engine.volumes import Tools
from job.events.pair import EntrySetAside, FileFailed, FileSkipped
from job.fs.listing import Listing
from tests.engine.test_adoption import OWNER, SECRET, STRANGER, kept, own, set_aside, settled
from tests.engine.workshop import ListenedSync, Told, Workshop, changed, with_index, with_tools

pytestmark = pytest.mark.needs_root

READER = 64009
"""A group that the owner's folder may be given to."""


def readable(shop: Workshop, user: int) -> set[str]:
    """Give the contents below the mirror that a user gets at, who is in the group of readers too."""
    reached, told = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([READER])
            os.setgid(user)
            os.setuid(user)
            for folder, _, names in os.walk(shop.mirror):
                for name in names:
                    try:
                        with open(os.path.join(folder, name), "rb") as file:
                            os.write(told, file.read(200) + b"\0")
                    except OSError:
                        continue
        finally:
            os._exit(0)
    os.close(told)
    os.waitpid(child, 0)
    with os.fdopen(reached, "rb") as answer:
        return {text.decode() for text in answer.read().split(b"\0")[:-1]}


def entered(path: Path) -> None:
    """Let everybody through pytest's own folders."""
    for above in (path, *path.parents):
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)


@pytest.fixture
def private(shop: Workshop) -> Workshop:
    """A private folder of one user, with files and folders that everybody may read who gets there; mirrored."""
    for name in ("letter", "report", "deep/letter", "deep/report", "deep/er/letter", "gone/letter", "empty/letter"):
        shop.write(f"private/{name}", SECRET if name.endswith("letter") else "report")
    shop.write("beside/file")
    own(shop.source / "private", OWNER, 0o700)
    entered(shop.mirror)
    assert shop.cycle().result is Result.SUCCESS
    assert SECRET not in readable(shop, STRANGER)
    return shop


def clean(shop: Workshop) -> None:
    """Remove every letter, and a folder."""
    for letter in shop.source.rglob("letter"):
        letter.unlink()
    shutil.rmtree(shop.source / "private/gone")


LEFT = {b"private/letter", b"private/deep/letter", b"private/deep/er/letter", b"private/gone", b"private/empty/letter"}


def give_acl(path: Path, *entries: tuple[int, int, int]) -> None:
    """Set an access ACL of tags, rights and ids (acl(5))."""
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


NOBODY_ID = 0xFFFFFFFF


def acl_for_stranger(path: Path) -> None:
    give_acl(path, (1, 7, NOBODY_ID), (2, 5, STRANGER), (4, 0, NOBODY_ID), (16, 5, NOBODY_ID), (32, 0, NOBODY_ID))


def group_rights(path: Path) -> None:
    os.chown(path, OWNER, READER)
    path.chmod(0o750)


OPENINGS: dict[str, Callable[[Path], object]] = {
    "mode": lambda path: path.chmod(0o755),
    "search only": lambda path: path.chmod(0o711),
    "group": group_rights,
    "acl": acl_for_stranger,
    "owner": lambda path: own(path, STRANGER),
}


@pytest.mark.parametrize(("opening", "count"), [*((name, 1) for name in OPENINGS), ("mode", 3)])
def test_what_was_removed_is_set_aside_before_its_folder_opens(private: Workshop, opening: str, count: int) -> None:
    shop = private
    shop.options |= {"workers": count, "workers_from": 0}
    clean(shop)
    OPENINGS[opening](shop.source / "private")

    planned = {each.path for each in shop.plan() if each.action == "set_aside"}
    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert set_aside(told).keys() == planned == LEFT
    assert SECRET not in readable(shop, STRANGER)
    assert kept(shop).keys() >= {"private/letter", "private/deep/er/letter", "private/gone/letter"}
    settled(shop)


def test_the_reason_is_told_with_the_folder_that_opens(private: Workshop) -> None:
    shop = private
    (shop.source / "private/letter").unlink()
    (shop.source / "private").chmod(0o755)

    told = shop.cycle()

    reason = "it is not in the source, and private lets in more users, as its mode changes from 700 to 755"
    assert set_aside(told) == {b"private/letter": reason}
    [event] = told.of(EntrySetAside)
    assert (event.kind, (shop.mirror / event.version).read_text()) == ("file", SECRET)


def test_a_name_that_another_user_took_over_gives_nothing_of_the_first_one(private: Workshop) -> None:
    shop = private
    shutil.rmtree(shop.source / "private")
    shop.write("private/letter", "the stranger's own")
    shop.write("private/deep/other", "the stranger's own")
    own(shop.source / "private", STRANGER, 0o755)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert set_aside(told).keys() == {
        *(b"private/" + name for name in (b"report", b"gone", b"empty")),
        *(b"private/deep/" + name for name in (b"letter", b"report", b"er")),
    }
    assert SECRET not in readable(shop, STRANGER)
    settled(shop)


def test_what_left_an_open_folder_stays_where_it_is(private: Workshop) -> None:
    shop = private
    (shop.source / "private").chmod(0o755)
    shop.cycle()
    clean(shop)
    (shop.source / "private").chmod(0o700)

    told = shop.cycle()

    assert (told.result, set_aside(told)) == (Result.SUCCESS, {})
    assert (shop.mirror / "private/gone/letter").read_text() == SECRET
    settled(shop)


def test_folders_that_all_open_are_compared_once(private: Workshop) -> None:
    shop = private
    clean(shop)
    for folder in (shop.source / "private").rglob("*"):
        if folder.is_dir():
            folder.chmod(0o775)
    (shop.source / "private").chmod(0o755)

    told = shop.cycle()

    assert set_aside(told).keys() == LEFT
    settled(shop)


def nested(shop: Workshop, depth: int) -> list[Path]:
    """Make folders in one another, closed to others, and mirror them."""
    folders = [shop.source.joinpath(*["d"] * level) for level in range(1, depth + 1)]
    folders[-1].mkdir(parents=True)
    for folder in folders:
        folder.chmod(0o700)
        (folder / "file").write_text("content")
    assert shop.cycle().result is Result.SUCCESS
    return folders


def opened(shop: Workshop, folders: list[Path]) -> tuple[Told, int, int]:
    """Let others into folders, and count the syncs of the mirror and the listings of the source."""
    counts: Counter[str] = Counter()

    def counted(context: PairContext) -> PairContext:
        source = copy(context.source)

        def listed(path: bytes) -> Listing:
            counts.update(["listed"])
            return context.source.list(path)

        source.list = listed  # type: ignore[method-assign]

        def exchange(tools: Tools) -> Tools:
            return tools._replace(sync=ListenedSync(tools.sync, lambda: counts.update(["sync"])))

        return replace(with_tools(context, exchange), source=source)

    for folder in folders:
        folder.chmod(0o755)
    told = shop.cycle(changed(counted))
    return told, counts["sync"], counts["listed"]


@pytest.mark.one_process
def test_many_folders_in_one_another_open_with_as_few_syncs_as_few_do(tmp_path: Path) -> None:
    counts = []
    for depth in (5, 60):
        (base := tmp_path / str(depth)).mkdir()
        shop = Workshop(base)
        told, syncs, _ = opened(shop, nested(shop, depth))
        assert told.result is Result.SUCCESS
        settled(shop)
        counts.append(syncs)

    assert counts[0] == counts[1] <= 4


@pytest.mark.one_process
def test_of_folders_in_one_another_that_stay_closed_each_is_compared_once(shop: Workshop) -> None:
    folders = nested(shop, 40)
    (folders[-1] / "file").unlink()
    (shop.state / "versions").write_text("somebody's")

    told, _, listings = opened(shop, folders)

    assert len(told.failed) == 40
    assert listings <= 6 * 40
    (shop.state / "versions").unlink()
    assert shop.cycle().result is Result.SUCCESS
    settled(shop)


def test_the_roots_of_a_mirror_are_no_exception(private: Workshop) -> None:
    shop = private
    shop.source.chmod(0o700)
    shop.write("letter", SECRET)
    shop.cycle()
    (shop.source / "letter").unlink()
    (shop.mirror / "lost+found").mkdir(mode=0o700)
    shop.source.chmod(0o755)

    told = shop.cycle()

    assert set_aside(told) == {
        b"letter": "it is not in the source, and the mirror's root lets in more users, "
        "as its mode changes from 700 to 755"
    }
    assert (shop.mirror / "lost+found").exists()
    settled(shop)


def test_old_content_that_could_not_be_replaced_keeps_its_folder_closed(private: Workshop) -> None:
    shop = private
    (shop.source / "private/deep/letter").write_text("the secret is out of it")
    (shop.source / "private").chmod(0o755)
    (shop.mirror / "private/deep/letter").unlink()
    (shop.mirror / "private/deep/letter").mkdir()
    (shop.mirror / "private/deep/letter/inside").write_text(SECRET)
    (shop.state / "versions").write_text("somebody's")

    told = shop.cycle()

    assert told.failed.keys() == {b"private", b"private/deep/letter"}
    [event] = [each for each in told.of(FileFailed) if each.path == b"private"]
    assert "stays as closed as it was: private/deep/letter could not be brought up to date; mend what" in event.error
    assert event.error.endswith("that entry failed for, or exclude it, and the next cycle opens the folder")
    assert stat.S_IMODE((shop.mirror / "private").stat().st_mode) == 0o700
    (shop.state / "versions").unlink()
    assert shop.cycle().result is Result.SUCCESS
    settled(shop)


def become_fifo(letter: Path) -> None:
    if letter.is_dir():
        shutil.rmtree(letter)
    else:
        letter.unlink()
    os.mkfifo(letter)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("before", ["letter", "deep"], ids=["a file", "a folder"])
def test_what_became_a_special_file_that_is_not_copied_is_set_aside_too(
    private: Workshop, before: str, count: int
) -> None:
    shop = private
    shop.options |= {"workers": count, "workers_from": 0}
    become_fifo(shop.source / "private" / before)
    assert shop.cycle().result is Result.SUCCESS
    (shop.source / "private").chmod(0o755)

    planned = {each.path: each.action for each in shop.plan()}
    told = shop.cycle()

    path = b"private/" + before.encode()
    reason = (
        "the source has something else of that name, which this mirror does not get, and private lets in more users"
    )
    assert told.result is Result.SUCCESS
    assert (planned, told.failed) == ({path: "set_aside"}, {})
    assert set_aside(told) == {path: f"{reason}, as its mode changes from 700 to 755"}
    assert stat.S_IMODE((shop.mirror / "private").stat().st_mode) == 0o755
    assert not (shop.mirror / "private" / before).exists()
    assert SECRET in kept(shop).values()
    assert (shop.plan(), set_aside(shop.cycle())) == ([], {})
    (shop.source / "private" / before).unlink()
    shop.cycle()
    settled(shop)


def test_a_special_of_a_mirror_that_gets_none_any_more_is_set_aside_and_one_that_is_got_stays(
    private: Workshop,
) -> None:
    shop = private
    shop.options["specials"] = "recreate"
    os.mkfifo(shop.source / "private/pipe")
    shop.cycle()
    (shop.source / "private").chmod(0o750)
    got = shop.cycle()
    shop.options["specials"] = "skip"
    (shop.source / "private").chmod(0o755)
    skipped = shop.cycle()

    assert (got.result, skipped.result) == (Result.SUCCESS, Result.SUCCESS)
    assert (set_aside(got), [*set_aside(skipped)]) == ({}, [b"private/pipe"])
    assert not (shop.mirror / "private/pipe").exists()


def test_where_a_folder_stays_closed_the_next_step_is_told(private: Workshop) -> None:
    shop = private
    (shop.source / "private/letter").unlink()
    (shop.source / "private").chmod(0o755)
    (shop.state / "versions").write_text("somebody's")

    told = shop.cycle()

    [event] = told.of(FileFailed)
    assert event.error.endswith("; mend that, and the next cycle opens the folder")


def test_a_folder_loses_rights_at_once_that_it_is_not_to_have(private: Workshop) -> None:
    shop = private
    (shop.source / "private").chmod(0o750)
    shop.cycle()
    (shop.source / "private").chmod(0o705)
    modes = []

    def look(_: list[FolderDone]) -> None:
        modes.append(stat.S_IMODE((shop.mirror / "private").stat().st_mode))

    told = shop.cycle(with_index(look))

    assert told.result is Result.SUCCESS
    assert modes[0] == 0o700
    settled(shop)


@pytest.mark.one_process
def test_a_first_copy_gives_each_folder_its_metadata_once(shop: Workshop) -> None:
    for folder in ("a", "a/b", "a/b/c", "d", "d/e/f"):
        for name in ("one", "two"):
            shop.write(f"{folder}/{name}")
    os.link(shop.source / "a/one", shop.source / "d/e/f/three")
    own(shop.source / "a", OWNER, 0o755)
    done: list[bytes] = []

    told = shop.cycle(with_index(lambda folders: done.extend(each.path for each in folders)))

    assert told.result is Result.SUCCESS
    assert sorted(done) == sorted({*done})
    assert len(done) == 7
    settled(shop)


@pytest.mark.one_process
@pytest.mark.parametrize("opening", ["mode", "owner"])
def test_killed_at_any_moment_it_shows_nothing_and_heals(private: Workshop, opening: str) -> None:
    shop = private
    clean(shop)
    OPENINGS[opening](shop.source / "private")
    for steps in range(0, 40, 3):
        shop.killed_cycle(steps)
        assert SECRET not in readable(shop, STRANGER), steps

    assert shop.cycle().result is Result.SUCCESS
    assert SECRET not in readable(shop, STRANGER)
    settled(shop)


def test_a_huge_folder_is_no_exception(mirrored_huge: Workshop) -> None:
    shop = mirrored_huge
    entered(shop.mirror)
    crowd = shop.source / "crowd"
    crowd.chmod(0o700)
    shop.write("crowd/letter", SECRET)
    shop.write("crowd/below/letter", SECRET)
    own(crowd, OWNER)
    assert shop.cycle().result is Result.SUCCESS
    for letter in crowd.rglob("letter"):
        letter.unlink()
    shop.cycle()
    crowd.chmod(0o755)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert set_aside(told).keys() == {b"crowd/letter", b"crowd/below/letter"}
    assert SECRET not in readable(shop, STRANGER)
    assert stat.S_IMODE((shop.mirror / "crowd").stat().st_mode) == 0o755
    assert shop.cycle().copied == {}
    settled(shop)


def test_entries_that_are_never_copied_are_counted_once_in_a_widened_folder(private: Workshop) -> None:
    os.mkfifo(private.source / "private" / "pipe")
    (private.source / "private").chmod(0o755)

    told = private.cycle()

    assert told.result is Result.SUCCESS
    assert stat.S_IMODE((private.mirror / "private").stat().st_mode) == 0o755
    assert told.tally.skipped_by[Skip.SPECIAL_FILE] == len(told.of(FileSkipped)) == 1
    assert told.tally.entries == sum(not path.is_dir() for path in private.source.rglob("*"))
