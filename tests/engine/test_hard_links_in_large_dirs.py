"""Hard links in huge folders: parts wait until all names are known, as other folders do.

What counts as huge is made small here (`conftest.py`).
"""

import os

from job.core.outcome import Result
from tests.engine.large_dirs import MANY, assert_settled, summary
from tests.engine.test_hard_links import give_name, inodes, part
from tests.engine.workshop import Workshop

PAIRS = [(f"crowd/f-{number}", f"crowd/second-{number}") for number in range(0, MANY, 9)]
OUTSIDE = "elsewhere/f-1"


def with_names(shop: Workshop) -> Workshop:
    """Give every ninth file of the crowd another name in it, and one of the others a name in another folder."""
    for first, second in PAIRS:
        give_name(shop, first, second)
    give_name(shop, "crowd/f-1", OUTSIDE)
    return shop


def assert_linked(shop: Workshop) -> None:
    for first, second in [*PAIRS, ("crowd/f-1", OUTSIDE)]:
        assert len(inodes(shop.mirror, first, second)) == 1, first
    assert len(inodes(shop.mirror, *(first for first, _ in PAIRS))) == len(PAIRS)


def test_names_in_a_huge_folder_are_kept_from_the_beginning(huge_shop: Workshop) -> None:
    told = with_names(huge_shop).cycle()

    assert told.result is Result.SUCCESS
    assert (told.tally.copied, told.tally.skipped) == (MANY + 5 + len(PAIRS) + 1, 1)
    assert told.tally == told.committed
    assert summary(huge_shop).parts >= 32
    assert_linked(huge_shop)
    assert_settled(huge_shop)


def test_names_that_come_later_are_joined_and_no_content_is_copied(mirrored_huge: Workshop) -> None:
    told = with_names(mirrored_huge).cycle()

    assert (told.tally.copied, told.tally.bytes_copied) == (len(PAIRS) + 1, 0)
    assert_linked(mirrored_huge)
    assert_settled(mirrored_huge)


def test_one_edit_comes_to_both_names_and_to_nothing_else(huge_shop: Workshop) -> None:
    with_names(huge_shop).cycle()
    (huge_shop.source / "crowd" / "f-9").write_text("edited")

    told = huge_shop.cycle()

    assert set(told.copied) == {b"crowd/f-9", b"crowd/second-9"}
    assert_linked(huge_shop)
    assert_settled(huge_shop)


def test_a_parted_name_gets_a_file_of_its_own(huge_shop: Workshop) -> None:
    with_names(huge_shop).cycle()
    part(huge_shop.source / "crowd" / "second-9")

    assert set(huge_shop.cycle().copied) == {b"crowd/second-9"}

    assert len(inodes(huge_shop.mirror, "crowd/f-9", "crowd/second-9")) == 2
    assert_settled(huge_shop)


def test_a_lost_name_outside_is_linked_to_the_one_in_an_unchanged_huge_folder(
    huge_shop: Workshop,
) -> None:
    with_names(huge_shop).cycle()
    huge_shop.options["audit_interval"] = 10**6
    os.unlink(huge_shop.mirror / OUTSIDE)

    told = huge_shop.cycle()

    assert (set(told.copied), told.tally.bytes_copied) == ({OUTSIDE.encode()}, 0)
    assert_linked(huge_shop)
    huge_shop.options["audit_interval"] = 0
    assert huge_shop.cycle().tally.copied == 0
    assert_settled(huge_shop)
