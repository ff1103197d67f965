"""Huge folders: visited in parts, by one process or several; however they grow and shrink, only what has to be is read.

What counts as huge is made small here (`conftest.py`).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.file_systems import Capabilities
from job.core.outcome import Drift, Result
from job.core.record import FolderDone
from job.events.pair import DriftFound
from job.store.codec import FOLDER
from tests.engine.interference import interfered
from tests.engine.large_dirs import MANY, Listened, assert_settled, fill, noted, summary, thin_out
from tests.engine.workshop import HOUR_NS, Workshop, changed, with_index


def test_a_huge_folder_is_copied_and_then_left_alone(huge_shop: Workshop) -> None:
    told = huge_shop.cycle()

    assert told.result is Result.SUCCESS
    assert (told.tally.copied, told.tally.skipped, told.tally.folders) == (MANY + 5, 1, 5)
    assert told.tally == told.committed
    assert summary(huge_shop).parts == 32
    assert_settled(huge_shop)


def test_a_huge_folder_with_little_in_scope_is_left_alone_once_it_is_mirrored(huge_shop: Workshop) -> None:
    huge_shop.options["exclude"] = ["crowd/f-?*", "!crowd/f-1*"]

    told = huge_shop.cycle()

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 16)
    assert Listened(huge_shop).asked == (0, 0)
    huge_shop.ahead_ns += 2 * HOUR_NS
    assert Listened(huge_shop).asked == (0, 0)


def test_one_edit_copies_one_file(mirrored_huge: Workshop) -> None:
    mirrored_huge.write("crowd/f-17", "edited")

    told = mirrored_huge.cycle()

    assert told.copied == {b"crowd/f-17": "size changed"}
    assert told.tally.skipped == MANY + 5
    assert_settled(mirrored_huge)


def test_new_files_come_and_old_ones_stay(mirrored_huge: Workshop) -> None:
    (mirrored_huge.source / "crowd" / "f-3").unlink()
    fill(mirrored_huge, 3, start=MANY)

    told = mirrored_huge.cycle()

    assert set(told.copied) == {b"crowd/f-100", b"crowd/f-101", b"crowd/f-102"}
    assert (mirrored_huge.mirror / "crowd" / "f-3").exists()
    assert_settled(mirrored_huge)


def test_a_folder_that_becomes_huge_is_not_read_anew(huge_shop: Workshop) -> None:
    thin_out(huge_shop, left=8)
    huge_shop.cycle()
    assert summary(huge_shop).parts == 1
    fill(huge_shop, MANY - 8, start=8)

    told = huge_shop.cycle()

    assert told.tally.copied == MANY - 8
    assert summary(huge_shop).parts == 32
    assert_settled(huge_shop)


def test_a_huge_folder_that_doubles_has_more_parts_and_reads_nothing_anew(mirrored_huge: Workshop) -> None:
    fill(mirrored_huge, MANY, start=MANY)
    hashed: list[Path] = []

    told = mirrored_huge.cycle(interfered(after_checksum=hashed.append))

    assert told.tally.copied == MANY
    assert hashed == []
    assert summary(mirrored_huge).parts == 64
    assert_settled(mirrored_huge)


@pytest.mark.parametrize("before", [8, MANY])
def test_what_the_mirror_cannot_hold_is_still_noted_of_old_files_when_there_are_more_parts(
    huge_shop: Workshop, before: int
) -> None:
    without = changed(lambda context: replace(context, mirror=Capabilities(xattrs=False)))
    thin_out(huge_shop, left=before)
    marked = {f"f-{number}".encode() for number in range(before)}
    for name in marked:
        os.setxattr(huge_shop.source / "crowd" / os.fsdecode(name), "user.colour", b"blue")
    huge_shop.cycle(without)
    parts = summary(huge_shop).parts
    assert noted(huge_shop) == {FOLDER, *marked}
    fill(huge_shop, 2 * MANY - before, start=before)

    told = huge_shop.cycle(without)

    assert told.tally.copied == 2 * MANY - before
    assert summary(huge_shop).parts > parts
    assert noted(huge_shop) == {FOLDER, *marked}


def test_a_huge_folder_that_shrinks_a_little_keeps_its_parts(mirrored_huge: Workshop) -> None:
    thin_out(mirrored_huge, left=5)

    told = mirrored_huge.cycle()

    assert (told.tally.copied, told.result) == (0, Result.SUCCESS)
    assert summary(mirrored_huge).parts == 32
    assert_settled(mirrored_huge)


def test_a_huge_folder_that_is_small_on_both_sides_is_ordinary_again(mirrored_huge: Workshop) -> None:
    thin_out(mirrored_huge, left=1)
    (mirrored_huge.source / "crowd" / "link").unlink()
    (mirrored_huge.mirror / "crowd" / "link").unlink()
    for path in (mirrored_huge.mirror / "crowd").glob("f-*"):
        if path.name != "f-0":
            path.unlink()

    told = mirrored_huge.cycle()

    assert (told.tally.copied, told.result) == (0, Result.SUCCESS)
    assert summary(mirrored_huge).parts == 1
    assert_settled(mirrored_huge)


def test_a_small_folder_with_a_huge_mirror_is_not_held_whole_either(mirrored_huge: Workshop) -> None:
    thin_out(mirrored_huge, left=1)
    (mirrored_huge.mirror / "crowd" / ".truecopy-tmp-left").write_text("left")

    told = mirrored_huge.cycle()

    assert (told.tally.copied, told.result) == (0, Result.SUCCESS)
    assert summary(mirrored_huge).parts == 32
    assert len(list((mirrored_huge.mirror / "crowd").iterdir())) == MANY + 2
    assert_settled(mirrored_huge)


def test_a_folder_that_grows_huge_after_the_look_is_copied_with_all_below_it(huge_shop: Workshop) -> None:
    thin_out(huge_shop, left=2)
    huge_shop.options["workers"] = 1

    def grow(_: Path) -> None:
        fill(huge_shop, MANY, start=2)
        huge_shop.write("crowd/new/below/x")
        for number in range(MANY):
            huge_shop.write(f"new/crowd/{number}")

    def once(_: Path, left: list[Callable[[Path], None]] = [grow]) -> None:  # noqa: B006  # emptied by its first call
        if left:
            left.pop()(_)

    told = huge_shop.cycle(interfered(before_copy=once))
    again = huge_shop.cycle()

    assert told.result is Result.SUCCESS
    assert {b"crowd/new/below/x", b"crowd/f-50"} <= set(told.copied)
    assert set(told.copied) | set(again.copied) >= {b"new/crowd/50"}
    huge_shop.cycle()
    assert_settled(huge_shop)


def test_names_that_vanish_between_the_split_and_their_part_are_nothing(huge_shop: Workshop) -> None:
    huge_shop.options["workers"] = 1
    victims = {f"f-{number}" for number in range(MANY)}
    gone: list[str] = []

    def vanish(now: Path) -> None:
        victims.discard(now.name)
        if now.parent.name == "crowd" and len(gone) < 5:
            gone.append(victims.pop())
            (huge_shop.source / "crowd" / gone[-1]).unlink()

    told = huge_shop.cycle(interfered(before_copy=vanish))

    assert told.result is Result.SUCCESS
    assert not {f"crowd/{name}".encode() for name in gone} & set(told.copied)
    assert summary(huge_shop).entries <= MANY + 2 - 4
    huge_shop.cycle()
    assert_settled(huge_shop)


def test_drift_in_a_huge_folder_is_found_by_its_stamp_and_healed(mirrored_huge: Workshop) -> None:
    (mirrored_huge.mirror / "crowd" / "f-7").unlink()

    told = mirrored_huge.cycle()

    assert told.drift == {Drift.MISSING: 1}
    assert set(told.copied) == {b"crowd/f-7"}
    assert_settled(mirrored_huge)


def test_drift_in_place_is_found_by_the_audit_and_healed(mirrored_huge: Workshop) -> None:
    (mirrored_huge.mirror / "crowd" / "f-7").write_text("other content")
    assert mirrored_huge.cycle().drift == {}
    mirrored_huge.ahead_ns += 2 * HOUR_NS

    told = mirrored_huge.cycle()

    assert told.drift == {Drift.CONTENT: 1}
    assert [event.path for event in told.of(DriftFound)] == [b"crowd/f-7"]
    assert_settled(mirrored_huge)


def test_what_is_changed_in_the_mirror_behind_a_finished_part_is_seen_by_the_audit(huge_shop: Workshop) -> None:
    huge_shop.options["workers"] = 1
    tampered: list[str] = []

    def tamper(folders: list[FolderDone]) -> None:
        done = sorted((huge_shop.mirror / "crowd").glob("f-*"))
        if not folders and done and not tampered:
            tampered.append(done[0].name)
            done[0].write_text("tampered")

    huge_shop.cycle(with_index(tamper))
    assert tampered
    huge_shop.ahead_ns += 2 * HOUR_NS

    told = huge_shop.cycle()

    assert told.drift == {Drift.CONTENT: 1}
    assert_settled(huge_shop)
