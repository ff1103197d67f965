"""Whatever a mirror cannot have of a mode, owner or ACL: nobody gets a right by that, whoever it is."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from job.core.acl import Rights, acl_for_other_group, common_mode, grants_more, mode_for_other_group, mode_without_acl
from tests.faults.readability import Permissions, Person, may

OWNER, OTHER_OWNER, NAMED, NOBODY = 1001, 1002, 1003, 0xFFFFFFFF
GROUP, OTHER_GROUP, NAMED_GROUP = 2001, 2002, 2003
PEOPLE = [
    Person(uid, frozenset(gids))
    for uid in (OWNER, OTHER_OWNER, NAMED, 1009)
    for gids in ((), (GROUP,), (OTHER_GROUP,), (NAMED_GROUP,), (GROUP, NAMED_GROUP), (GROUP, OTHER_GROUP))
]
bits = st.integers(0, 7)


def acl_of(owner: int, group: int, other: int, mask: int, named: dict[tuple[int, int], int]) -> bytes:
    """Write an ACL as the kernel keeps it; `named` gives rights by tag (2 user, 8 group) and id."""
    entries = [
        (1, owner, NOBODY),
        *((2, rights, who) for (tag, who), rights in sorted(named.items()) if tag == 2),
        (4, group, NOBODY),
        *((8, rights, who) for (tag, who), rights in sorted(named.items()) if tag == 8),
        (16, mask, NOBODY),
        (32, other, NOBODY),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


@st.composite
def rights(draw: st.DrawFn) -> Rights:
    """Give any rights that a file can have; with an ACL, mode and ACL agree."""
    uid, gid = draw(st.sampled_from([OWNER, OTHER_OWNER])), draw(st.sampled_from([GROUP, OTHER_GROUP]))
    owner, group, other, mask = draw(bits), draw(bits), draw(bits), draw(bits)
    named = draw(
        st.dictionaries(
            st.sampled_from([(2, NAMED), (2, OTHER_OWNER), (8, NAMED_GROUP), (8, OTHER_GROUP)]), bits, max_size=3
        )
    )
    if not named:
        return Rights(uid, gid, owner << 6 | group << 3 | other)
    acl = acl_of(owner, group, other, mask, named)
    return Rights(uid, gid, owner << 6 | mask << 3 | other, acl)


def granted(of: Rights) -> dict[Person, int]:
    """Give what each person may do by rights, but for owners: they may change the mode at any time."""
    acl = () if of.acl is None else tuple(struct.iter_unpack("<HHI", of.acl[4:]))
    permissions = Permissions(of.uid, of.gid, of.mode, acl)
    return {
        person: sum(right for right in (1, 2, 4) if may(person, right, permissions))
        for person in PEOPLE
        if person.uid != of.uid
    }


def gained(before: Rights, after: Rights) -> dict[Person, int]:
    """Give what people may do after something that they might not before."""
    old, new = granted(before), granted(after)
    return {person: more for person in old.keys() & new.keys() if (more := new[person] & ~old[person])}


@given(rights())
def test_without_its_acl_nobody_may_do_more(of: Rights) -> None:
    assert gained(of, of._replace(mode=mode_without_acl(of.mode, of.acl), acl=None)) == {}


def test_the_group_bits_are_those_of_the_groups_entry_and_not_of_the_mask() -> None:
    acl = acl_of(6, 0, 0, 6, {(2, NAMED): 6})

    assert mode_without_acl(0o660, acl) == 0o600
    assert mode_without_acl(0o640, acl_of(6, 4, 0, 4, {(2, NAMED): 6})) == 0o640
    assert mode_without_acl(0o644, acl_of(6, 4, 4, 4, {(2, NAMED): 0})) == 0o600  # who is shut out by name


def test_an_acl_that_makes_no_sense_grants_nothing_to_others() -> None:
    assert mode_without_acl(0o664, b"\x03\0\0\0") == 0o600
    assert mode_without_acl(0o664, b"\x02\0\0\0\1") == 0o600


@given(rights())
def test_with_another_group_nobody_may_do_more(of: Rights) -> None:
    other = OTHER_GROUP if of.gid == GROUP else GROUP
    changed = None if of.acl is None else acl_for_other_group(of.acl, of.mode)
    if changed is None:
        after = of._replace(gid=other, mode=mode_for_other_group(mode_without_acl(of.mode, of.acl)), acl=None)
    else:
        acl, mode = changed
        after = of._replace(gid=other, mode=mode, acl=acl)

    assert gained(of, after) == {}


def test_a_group_that_was_shut_out_is_not_let_in_with_all_others() -> None:
    assert mode_for_other_group(0o604) == 0o600
    assert mode_for_other_group(0o640) == 0o600
    assert mode_for_other_group(0o664) == 0o644
    assert mode_for_other_group(0o2755) == 0o2755


@given(rights(), rights())
def test_what_both_sides_grant_is_no_more_than_either(found: Rights, wanted: Rights) -> None:
    narrowed = found._replace(mode=common_mode(found, wanted))

    assert gained(found, narrowed) == {}
    assert gained(wanted, narrowed) == {}


@given(rights(), rights())
def test_what_grants_more_is_known(found: Rights, wanted: Rights) -> None:
    if gained(found, wanted):
        assert grants_more(wanted, found)
