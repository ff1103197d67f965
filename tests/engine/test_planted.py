"""A file of the mirror that another user put there is copied anew: that user may still be able to write to it."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from job.core.outcome import Drift, Result
from tests.engine.test_adoption import OWNER, STRANGER, settled
from tests.engine.workshop import Workshop

pytestmark = pytest.mark.needs_root

CONTENT, CHANGED = b"the owner's program", b"a stranger's program"[:19]


@pytest.fixture(params=[1, 3], ids=["alone", "with workers"])
def shared(shop: Workshop, request: pytest.FixtureRequest) -> Workshop:
    """A folder that everybody may write to, with a set-ID program of one user in it; mirrored."""
    shop.options |= {"workers": request.param, "workers_from": 0, "keep_setuid": True}
    shop.write("shared/program", CONTENT.decode())
    (shop.source / "shared").chmod(0o777)
    give(shop.source / "shared/program")
    assert shop.cycle().result is Result.SUCCESS
    return shop


def give(program: Path, mode: int = 0o4755) -> None:
    os.chown(program, OWNER, OWNER)
    program.chmod(mode)


def plant(path: Path, content: bytes = CONTENT) -> int:
    """Put a stranger's file in the place of one of the mirror; gives the descriptor by which it is written to later."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(descriptor, content)
    os.fchown(descriptor, STRANGER, STRANGER)
    return descriptor


def write_late(descriptor: int) -> None:
    """Write as the planter does who has the file mapped, for whom no set-ID bit is cleared."""
    os.pwrite(descriptor, CHANGED, 0)
    os.close(descriptor)


def test_a_file_that_another_user_planted_is_copied_anew_though_its_content_is_equal(shared: Workshop) -> None:
    shop, program = shared, shared.mirror / "shared/program"
    planted = plant(program)
    inode = program.stat().st_ino

    planned = {each.path: each.action for each in shop.plan()}
    told = shop.cycle()
    write_late(planted)

    assert (told.result, planned) == (Result.SUCCESS, {b"shared/program": "copy"})
    reason = f"the mirror's file belongs to user {STRANGER} and is not the one that was left there"
    assert told.copied == {b"shared/program": reason}
    assert told.drift == {Drift.REPLACED: 1}
    assert program.stat().st_ino != inode
    assert (program.read_bytes(), stat.S_IMODE(program.stat().st_mode)) == (CONTENT, 0o4755)
    settled(shop)


def test_the_recorded_file_that_belongs_to_another_user_now_is_taken_for_another_one(shared: Workshop) -> None:
    shop, program = shared, shared.mirror / "shared/program"
    os.chown(program, STRANGER, STRANGER)
    planted = os.open(program, os.O_RDWR)

    told = shop.cycle()
    write_late(planted)

    assert told.copied.keys() == {b"shared/program"}
    assert program.read_bytes() == CONTENT
    settled(shop)


def test_without_an_index_a_file_of_neither_owner_is_copied_anew_too(shared: Workshop) -> None:
    shop, program = shared, shared.mirror / "shared/program"
    planted = plant(program)
    (shop.state / "index.sqlite3").unlink()

    told = shop.cycle()
    write_late(planted)

    assert told.copied.keys() == {b"shared/program"}
    assert program.read_bytes() == CONTENT
    settled(shop)


def test_of_a_file_with_several_names_none_stands_for_what_was_planted(shared: Workshop) -> None:
    shop = shared
    for name in ("second", "third"):
        os.link(shop.source / "shared/program", shop.source / f"shared/{name}")
    shop.cycle()
    planted = plant(shop.mirror / "shared/program")
    for name in ("second", "third"):
        (shop.mirror / f"shared/{name}").unlink()
        os.link(shop.mirror / "shared/program", shop.mirror / f"shared/{name}")

    told = shop.cycle()
    write_late(planted)

    assert told.result is Result.SUCCESS
    assert {(shop.mirror / f"shared/{name}").read_bytes() for name in ("program", "second", "third")} == {CONTENT}
    assert (shop.mirror / "shared/program").stat().st_nlink == 3
    settled(shop)


def test_a_fifo_that_another_user_planted_is_made_anew(shop: Workshop) -> None:
    shop.options["specials"] = "recreate"
    shop.source.chmod(0o777)
    os.mkfifo(shop.source / "pipe")
    os.chown(shop.source / "pipe", OWNER, OWNER)
    shop.cycle()
    (shop.mirror / "pipe").unlink()
    os.mkfifo(shop.mirror / "pipe")
    os.chown(shop.mirror / "pipe", STRANGER, STRANGER)
    inode = (shop.mirror / "pipe").lstat().st_ino
    held = os.open(shop.mirror / "pipe", os.O_RDWR | os.O_NONBLOCK)

    told = shop.cycle()
    os.close(held)

    assert told.copied.keys() == {b"pipe"}
    assert (shop.mirror / "pipe").lstat().st_ino != inode
    settled(shop)


# Ordinary use ---------------------------------------------------------------------------------------------------------


def test_a_source_file_that_changed_its_owner_is_mended_in_place(shared: Workshop) -> None:
    shop, program = shared, shared.mirror / "shared/program"
    inode = program.stat().st_ino
    os.chown(shop.source / "shared/program", STRANGER, STRANGER)

    told = shop.cycle()

    assert (told.copied, told.tally.updated) == ({}, 1)
    assert (program.stat().st_ino, program.stat().st_uid) == (inode, STRANGER)
    settled(shop)


@pytest.mark.parametrize("lost", ["nothing", "index"])
def test_a_mirror_that_was_copied_with_its_owners_is_used_as_it_is(shared: Workshop, lost: str) -> None:
    shop = shared
    old = shop.mirror.rename(shop.base / "old")
    assert os.waitstatus_to_exitcode(os.system(f"cp -a {old} {shop.mirror}")) == 0
    if lost == "index":
        (shop.state / "index.sqlite3").unlink()

    told = shop.cycle()

    assert (told.result, told.copied) == (Result.SUCCESS, {})
    settled(shop)


@pytest.mark.parametrize("owner", [0, OWNER], ids=["all root's", "with owners"])
def test_the_mirror_that_another_tool_made_as_root_is_used_as_it_is(shop: Workshop, owner: int) -> None:
    shop.write("program", CONTENT.decode())
    give(shop.source / "program", 0o755)
    shutil.copy2(shop.source / "program", shop.mirror / "program")
    os.chown(shop.mirror / "program", owner, owner)

    told = shop.cycle()

    assert (told.result, told.copied) == (Result.SUCCESS, {})
    settled(shop)
