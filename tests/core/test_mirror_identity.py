"""Which mirror a pair may use: the table row by row, clones, and what `truecopy adopt` accepts."""

from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.file_systems import FileSystemId
from job.core.mirror_identity import (
    CycleMark,
    MirrorFacts,
    MirrorFound,
    MirrorPlace,
    MirrorVerdict,
    classify,
    is_continued,
    is_made_since,
    judge_adoption,
    judge_mirror,
    needs_new_id,
    next_step,
)

MISSING, EMPTY, UNMARKED = MirrorFound.MISSING, MirrorFound.EMPTY, MirrorFound.UNMARKED
OWN, OTHER_PAIR, UNKNOWN = MirrorFound.OWN, MirrorFound.OTHER_PAIR, MirrorFound.UNKNOWN

facts_of = st.builds(MirrorFacts, st.sampled_from(MirrorFound), *[st.booleans()] * 6)


@pytest.mark.parametrize(
    ("found", "remembered", "on_layer", "verdict"),
    [
        (MISSING, False, False, "make"),
        (MISSING, False, True, "mirror_not_mounted"),
        (MISSING, True, False, "mirror_missing"),
        (MISSING, True, True, "mirror_not_mounted"),
        (EMPTY, False, False, "adopt"),
        (EMPTY, False, True, "mirror_not_mounted"),
        (EMPTY, True, False, "mirror_missing"),
        (EMPTY, True, True, "mirror_not_mounted"),
        (UNMARKED, False, False, "compare"),
        (UNMARKED, False, True, "mirror_not_mounted"),
        (UNMARKED, True, False, "mirror_unknown"),
        (UNMARKED, True, True, "mirror_not_mounted"),
        (OWN, False, False, "go_on"),
        (OWN, False, True, "go_on"),
        (OWN, True, False, "go_on"),
        (OWN, True, True, "go_on"),
        (OTHER_PAIR, False, False, "mirror_other"),
        (OTHER_PAIR, False, True, "mirror_other"),
        (OTHER_PAIR, True, False, "mirror_other"),
        (OTHER_PAIR, True, True, "mirror_other"),
        (UNKNOWN, False, False, "mirror_unknown"),
        (UNKNOWN, False, True, "mirror_unknown"),
        (UNKNOWN, True, False, "mirror_unknown"),
        (UNKNOWN, True, True, "mirror_unknown"),
    ],
)
def test_each_row_of_the_table(found: MirrorFound, remembered: bool, on_layer: bool, verdict: str) -> None:  # noqa: FBT001
    facts = MirrorFacts(found, remembered, on_layer)

    assert judge_mirror(facts) == verdict


def test_the_table_has_a_row_for_everything_that_can_be_found() -> None:
    for found, remembered, on_layer in product(MirrorFound, (False, True), (False, True)):
        judge_mirror(MirrorFacts(found, remembered, on_layer))


@given(facts_of)
def test_a_remembered_mirror_that_is_missing_or_empty_is_not_filled_but_in_a_new_folder(facts: MirrorFacts) -> None:
    if facts.remembered and (facts.found is MISSING or (facts.found is EMPTY and not facts.made_since)):
        assert judge_mirror(facts).refuses


@given(facts_of)
def test_nothing_without_an_own_identity_is_written_to_on_the_layer_of_a_container(facts: MirrorFacts) -> None:
    if facts.on_layer and facts.found is not OWN:
        assert judge_mirror(facts).refuses


@given(facts_of)
def test_every_refusal_names_a_next_step_and_a_command_that_asks_nothing(facts: MirrorFacts) -> None:
    if judge_mirror(facts).refuses:
        step = next_step(facts, "photos", "/backup/photos")

        assert "truecopy adopt photos" in step
        assert step[0].isupper()


@given(facts_of)
def test_adopting_succeeds_where_a_refusal_advises_it(facts: MirrorFacts) -> None:
    if judge_mirror(facts).refuses:
        step = next_step(facts, "photos", "/backup/photos")
        made = facts._replace(found=EMPTY) if facts.found is MISSING and "mkdir" in step else facts
        if made.found is not MISSING:
            assert not judge_adoption(made, take_over="--take-over" in step).refuses


def test_a_filled_mirror_whose_state_folder_was_deleted_is_compared_on_the_same_disk_only() -> None:
    assert judge_mirror(MirrorFacts(UNMARKED, remembered=True, same_disk=True)) is MirrorVerdict.COMPARE
    assert judge_mirror(MirrorFacts(UNMARKED, remembered=True)) is MirrorVerdict.UNKNOWN
    assert judge_mirror(MirrorFacts(EMPTY, remembered=True, same_disk=True)) is MirrorVerdict.MISSING


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (MirrorFacts(EMPTY, remembered=True, made_since=True), "adopt"),
        (MirrorFacts(EMPTY, remembered=True, made_since=True, on_layer=True), "mirror_not_mounted"),
        (MirrorFacts(EMPTY, remembered=True), "mirror_missing"),
        (MirrorFacts(MISSING, remembered=True, made_since=True), "mirror_missing"),
        (MirrorFacts(UNMARKED, remembered=True, made_since=True), "mirror_unknown"),
        (MirrorFacts(UNKNOWN, remembered=True, made_since=True), "mirror_unknown"),
        (MirrorFacts(OTHER_PAIR, remembered=True, made_since=True), "mirror_other"),
    ],
)
def test_only_an_empty_folder_that_was_made_anew_is_adopted_in_place_of_a_remembered_mirror(
    facts: MirrorFacts, verdict: str
) -> None:
    assert judge_mirror(facts) == verdict
    assert needs_new_id(facts) or facts.found is UNKNOWN


DISK, OTHER_DISK = FileSystemId("uuid 1", "8:1 /dev/sda1"), FileSystemId("uuid 2", "8:1 /dev/sda1")
KNOWN = MirrorPlace(DISK, 1, 10, "a", "/mirror")
MADE = KNOWN._replace(inode=11, generation="b")
CYCLE_ENDED, LATER = 1000, 2000


@pytest.mark.parametrize(
    ("found", "changed_ns", "known", "made"),
    [
        pytest.param(MADE, LATER, KNOWN, True, id="rm -r and mkdir"),
        pytest.param(KNOWN._replace(generation="b"), LATER, KNOWN, True, id="the inode number was used again"),
        pytest.param(KNOWN, LATER, KNOWN, False, id="emptied in place"),
        pytest.param(MADE, CYCLE_ENDED, KNOWN, False, id="as old as the last cycle"),
        pytest.param(MADE, CYCLE_ENDED - 1, KNOWN, False, id="an old mount point"),
        pytest.param(MADE._replace(file_system=OTHER_DISK), LATER, KNOWN, False, id="a blank disk"),
        pytest.param(
            MADE._replace(file_system=DISK._replace(place="8:17 /dev/sdb1")), LATER, KNOWN, False, id="attached anew"
        ),
        pytest.param(MADE._replace(location="/mnt"), LATER, KNOWN, False, id="a lost bind mount"),
        pytest.param(
            MADE._replace(location=""), LATER, KNOWN._replace(location=""), False, id="the location is unknown"
        ),
        pytest.param(MADE._replace(generation=""), LATER, KNOWN, False, id="the generation is unknown"),
        pytest.param(MADE, LATER, KNOWN._replace(generation=""), False, id="that of the mirror was unknown"),
    ],
)
def test_a_folder_was_made_anew_only_if_all_proves_it(
    found: MirrorPlace, changed_ns: int, known: MirrorPlace, *, made: bool
) -> None:
    assert is_made_since(found, changed_ns, [(known, CYCLE_ENDED)]) is made


def test_a_folder_was_made_after_the_last_cycle_on_each_mirror_that_had_its_place() -> None:
    elsewhere = (KNOWN._replace(file_system=OTHER_DISK, inode=2), LATER + 1)
    second = KNOWN._replace(inode=12)

    assert is_made_since(MADE, LATER, [(KNOWN, CYCLE_ENDED), elsewhere])
    assert not is_made_since(MADE, LATER, [elsewhere])
    assert not is_made_since(MADE, LATER, [])
    assert not is_made_since(MADE, LATER, [(KNOWN, CYCLE_ENDED), (second, LATER)])
    assert not is_made_since(KNOWN, LATER, [(KNOWN, CYCLE_ENDED), (second, CYCLE_ENDED)])


def test_a_clone_beside_its_original_is_refused_and_gets_an_id_of_its_own_when_it_is_adopted() -> None:
    clone = MirrorFacts(OWN, remembered=True, duplicated=True)

    assert judge_mirror(clone) is MirrorVerdict.OTHER
    assert judge_adoption(clone) is MirrorVerdict.COMPARE
    assert needs_new_id(clone)
    assert "Unmount the clone" in next_step(clone, "photos", "/backup")


def test_a_clone_in_place_of_its_original_is_refused_once_one_of_both_was_written_to() -> None:
    left = MirrorFacts(OWN, remembered=True, continued=False)

    assert judge_mirror(left) is MirrorVerdict.UNKNOWN
    assert judge_adoption(left) is MirrorVerdict.COMPARE
    assert not needs_new_id(left)


@pytest.mark.parametrize(
    ("on_mirror", "remembered", "continued"),
    [
        (CycleMark(3, "c"), CycleMark(3, "c"), True),
        (CycleMark(3, "c"), CycleMark(3, "c", upcoming="d"), True),  # killed before the mirror got the new mark
        (CycleMark(4, "d"), CycleMark(3, "c", upcoming="d"), True),  # killed after it
        (CycleMark(2, "b"), CycleMark(3, "c"), False),  # an older clone
        (CycleMark(4, "x"), CycleMark(3, "c", upcoming="d"), False),  # another instance wrote
        (CycleMark(3, ""), CycleMark(3, "c"), False),
        (None, CycleMark(3, "c"), False),
        (CycleMark(3, "c"), None, True),  # the memory was lost
        (None, None, True),
    ],
)
def test_a_mirror_has_to_be_as_the_last_remembered_cycle_left_it(
    on_mirror: CycleMark | None, remembered: CycleMark | None, *, continued: bool
) -> None:
    assert is_continued(on_mirror, remembered) is continued


class Sight(NamedTuple):
    """What is at the path, and what is remembered."""

    mirror_id: str | None = None
    content: bool | None = True
    names_source: bool = True
    never_written: bool = False
    adopted: tuple[str, ...] = ()
    of_others: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("sight", "found"),
    [
        (Sight(content=None), MISSING),
        (Sight(content=False, adopted=("a",)), EMPTY),
        (Sight(adopted=("a",)), UNMARKED),
        (Sight("a", adopted=("a", "b")), OWN),
        (Sight("b", content=False, adopted=("a", "b")), OWN),
        (Sight("a"), OWN),  # the memory was lost
        (Sight("c", adopted=("a",)), UNKNOWN),
        (Sight("c", content=False, adopted=("a",)), UNKNOWN),
        (Sight("c", never_written=True, adopted=("a",)), UNKNOWN),
        (Sight("c", content=False, never_written=True, adopted=("a",)), EMPTY),  # killed while it was adopted
        (Sight("a", content=False, never_written=True, adopted=("a",)), OWN),
        (Sight("a", content=False, never_written=True), OWN),
        (Sight("c", content=False, never_written=True, names_source=False, adopted=("a",)), OTHER_PAIR),
        (Sight("c", adopted=("a",), of_others=("c",)), OTHER_PAIR),
        (Sight("a", names_source=False, adopted=("a",)), OTHER_PAIR),  # lists re-ordered, or the source moved
        (Sight("c", names_source=False), OTHER_PAIR),
    ],
)
def test_what_is_found_is_classified(sight: Sight, found: MirrorFound) -> None:
    assert (
        classify(
            sight.mirror_id,
            holds_content=sight.content,
            names_source=sight.names_source,
            never_written=sight.never_written,
            adopted=sight.adopted,
            of_others=sight.of_others,
        )
        is found
    )


def test_disks_that_take_turns_are_all_own() -> None:
    for plugged in ("a", "b", "c"):
        found = classify(
            plugged,
            holds_content=True,
            names_source=True,
            never_written=False,
            adopted=("a", "b", "c"),
            of_others=(),
        )

        assert judge_mirror(MirrorFacts(found, remembered=True)) is MirrorVerdict.GO_ON


@given(facts_of)
def test_the_mirror_of_another_pair_is_taken_over_only_when_that_is_said(facts: MirrorFacts) -> None:
    if facts.found is OTHER_PAIR:
        assert judge_adoption(facts) is MirrorVerdict.OTHER
        assert judge_adoption(facts, take_over=True) is MirrorVerdict.COMPARE
        assert needs_new_id(facts)
