"""Folders that are exchanged or closed while a cycle works in them: nobody gets at anything by that."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from job.core.outcome import Failure, Result
from job.events.pair import FileFailed
from tests.engine.test_adoption import OWNER, SECRET, STRANGER, own, settled
from tests.engine.workshop import Workshop

pytestmark = [pytest.mark.needs_root, pytest.mark.one_process]


@dataclass
class Moment:
    """Does something once, as soon as a temp lies in a folder, or the folder is staged. A cycle asks it."""

    folder: Path
    deed: Callable[[], object]
    done: bool = False

    def __call__(self) -> bool:
        if self.done or not self.folder.is_dir():
            return False
        place = self.folder if any(self.folder.iterdir()) else self.folder.parent
        if any(place.glob(".truecopy-tmp-*")):
            self.done = True
            self.deed()
        return False


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def reads(user: int, path: Path) -> bool:
    """Tell whether a user can read a file."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            path.read_bytes()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def shop(open_shop: Workshop) -> Iterator[Workshop]:
    """A private folder beside another user's public one, in a folder where everybody may rename things."""
    shop = open_shop
    shop.write("shared/mine/file", "mine")
    shop.write("shared/priv/secret", SECRET)
    own(shop.source / "shared/mine", STRANGER, 0o755)
    own(shop.source / "shared/priv", OWNER, 0o700)
    for folder in (shop.source, shop.source / "shared"):
        folder.chmod(0o777)
    assert shop.cycle().result is Result.SUCCESS
    yield shop
    settled_after(shop)


def settled_after(shop: Workshop) -> None:
    """Insist that later cycles put everything right."""
    shop.cycle()
    assert shop.cycle().result is Result.SUCCESS
    settled(shop)


def test_a_mirror_folder_that_is_exchanged_before_the_commit_is_not_given_the_rights_of_the_visited_one(
    shop: Workshop,
) -> None:
    shop.write("shared/mine/more", "mine")
    own(shop.source / "shared/mine", STRANGER, 0o755)
    mine, priv = shop.mirror / "shared/mine", shop.mirror / "shared/priv"

    told = shop.cycle(stop=Moment(mine, lambda: exchange(mine, priv)))

    assert (mine / "secret").read_text() == SECRET
    assert not reads(STRANGER, mine / "secret")
    assert (mine.stat().st_uid, mine.stat().st_mode & 0o777) == (OWNER, 0o700)
    assert told.result is Result.PARTIAL
    assert "another folder has its name now" in told.of(FileFailed)[0].error


def test_a_mirror_folder_that_is_exchanged_before_names_are_linked_gets_none_of_them(shop: Workshop) -> None:
    shop.write("shared/priv/one", SECRET)
    os.link(shop.source / "shared/priv/one", shop.source / "shared/priv/two")
    shop.write("shared/zz/file", "any")
    own(shop.source / "shared/priv", OWNER, 0o700)
    mine, priv = shop.mirror / "shared/mine", shop.mirror / "shared/priv"

    told = shop.cycle(stop=Moment(shop.mirror / "shared/zz", lambda: exchange(mine, priv)))

    assert not (priv / "one").exists()
    assert told.result is Result.PARTIAL
    assert {event.path for event in told.of(FileFailed)} >= {b"shared/priv/one"}


def test_what_is_written_to_a_folder_after_it_was_closed_is_closed_in_the_mirror_too(shop: Workshop) -> None:
    for name in ("a", "b/c", "z"):
        shop.write(f"shared/mine/{name}", "x")
    own(shop.source / "shared/mine", STRANGER, 0o755)
    source, mirror = shop.source / "shared/mine", shop.mirror / "shared/mine"

    def close_and_write() -> None:
        source.chmod(0o700)
        for name in ("b/c", "z"):
            (source / name).write_text(SECRET)

    told = shop.cycle(stop=Moment(mirror, close_and_write))

    assert (mirror / "b/c").read_text() == (mirror / "z").read_text() == SECRET
    assert not reads(OWNER, mirror / "b/c")
    assert not reads(OWNER, mirror / "z")
    assert told.result is Result.SUCCESS


def test_a_folder_above_that_is_closed_in_mid_cycle_is_closed_before_anything_more_is_put_below_it(
    shop: Workshop,
) -> None:
    shop.write("shared/mine/deep/er/file", "x")
    own(shop.source / "shared/mine", STRANGER, 0o755)
    (shop.source / "shared/mine/deep/er/file").write_text(SECRET)

    shop.cycle(stop=Moment(shop.mirror / "shared/mine/deep/er", lambda: (shop.source / "shared").chmod(0o700)))

    assert (shop.mirror / "shared").stat().st_mode & 0o777 == 0o700


def test_source_folders_that_are_exchanged_in_mid_cycle_fail_and_open_nothing(shop: Workshop) -> None:
    shop.write("shared/mine/more", "mine")
    shop.write("shared/priv/more", SECRET)
    own(shop.source / "shared/mine", STRANGER, 0o755)
    own(shop.source / "shared/priv", OWNER, 0o700)
    mine, priv = shop.source / "shared/mine", shop.source / "shared/priv"

    told = shop.cycle(stop=Moment(shop.mirror / "shared/mine", lambda: exchange(mine, priv)))

    for path in (shop.mirror / "shared").rglob("*"):
        if path.is_file() and path.read_text() == SECRET:
            assert not reads(STRANGER, path)
    assert told.failed[b"shared/mine/more"] is Failure.CHANGED_DURING_COPY


def test_files_of_a_folder_that_vanishes_in_mid_cycle_are_no_failure(shop: Workshop) -> None:
    shop.write("shared/mine/more", "mine")
    own(shop.source / "shared/mine", STRANGER, 0o755)
    source = shop.source / "shared/mine"

    told = shop.cycle(stop=Moment(shop.mirror / "shared/mine", lambda: source.rename(shop.source / "moved")))

    assert told.result is Result.SUCCESS
    assert not (shop.mirror / "shared/mine/more").exists()
    assert (shop.mirror / "shared/mine/file").read_text() == "mine"
