"""Which mirror folder may be used for which source folder, and which change of metadata lets in more users."""

import marshal
import stat
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.adoption import (
    FolderMatch,
    ProcessRights,
    inode_mark,
    is_as_created,
    match_folder,
    why_not_adopted,
    why_widened,
)

US, OWNER, STRANGER = 0, 1001, 1002
ROOT = ProcessRights(US, frozenset({0}), owners=True, modes=True)
ORDINARY = ProcessRights(OWNER, frozenset({OWNER, 50}), owners=False, modes=True)
FAT = ProcessRights(US, frozenset({0}), owners=False, modes=False)

numbers = st.integers(0, 2**64 - 1)


class ScanReply(NamedTuple):
    st_mode: int = 0o40755
    st_uid: int = OWNER
    st_gid: int = OWNER


def folder(mode: int, uid: int = OWNER, gid: int = OWNER) -> ScanReply:
    return ScanReply(stat.S_IFDIR | mode, uid, gid)


def stamp(inode: int, uid: int, *rest: int) -> bytes:
    return marshal.dumps((inode, 0o40755, uid, 0, *rest, 5), 2)


@given(inode=numbers, uid=st.integers(0, 2**32 - 1), before=numbers, after=numbers)
def test_a_folder_whose_times_moved_is_the_one_that_was_left(inode: int, uid: int, before: int, after: int) -> None:
    assert match_folder(stamp(inode, uid, before), stamp(inode, uid, after)) is FolderMatch.SAME
    assert inode_mark(stamp(inode, uid, before)) == inode_mark(stamp(inode, STRANGER, after))


@given(one=numbers, other=numbers, uid=st.integers(0, 2**32 - 1))
def test_another_inode_number_is_another_folder_and_another_owner_is_noticed(one: int, other: int, uid: int) -> None:
    if one != other:
        assert match_folder(stamp(one, uid, 1), stamp(other, uid, 1)) is FolderMatch.OTHER_FOLDER
        assert inode_mark(stamp(one, uid, 1)) != inode_mark(stamp(other, uid, 1))
    assert match_folder(stamp(one, uid, 1), stamp(one, uid + 1, 1)) is FolderMatch.OTHER_OWNER
    assert match_folder(None, stamp(one, uid, 1)) is FolderMatch.UNKNOWN


@given(recorded=st.binary(max_size=80))
def test_a_hostile_stamp_is_never_the_folder_that_was_left(recorded: bytes) -> None:
    now = stamp(7, OWNER, 1)
    found = match_folder(recorded, now)
    assert found is not FolderMatch.SAME or recorded.startswith(now[:10])


@pytest.mark.parametrize(
    ("left", "owner", "standing", "is_used"),
    [
        (FolderMatch.SAME, STRANGER, ROOT, True),
        (FolderMatch.UNKNOWN, OWNER, ROOT, True),
        (FolderMatch.OTHER_FOLDER, OWNER, ROOT, True),
        (FolderMatch.OTHER_OWNER, OWNER, ROOT, True),
        (FolderMatch.UNKNOWN, STRANGER, ROOT, False),
        (FolderMatch.OTHER_FOLDER, STRANGER, ROOT, False),
        (FolderMatch.OTHER_OWNER, STRANGER, ROOT, False),
        (FolderMatch.UNKNOWN, US, ROOT, True),
        (FolderMatch.OTHER_OWNER, US, ROOT, True),
        (FolderMatch.OTHER_FOLDER, US, ROOT, False),
        (FolderMatch.OTHER_FOLDER, STRANGER, ORDINARY, True),
        (FolderMatch.OTHER_FOLDER, STRANGER, FAT, True),
    ],
)
def test_a_folder_is_used_if_it_was_left_there_or_has_the_right_owner(
    left: FolderMatch, owner: int, standing: ProcessRights, *, is_used: bool
) -> None:
    why = why_not_adopted(left, folder(0o755, owner), folder(0o755), standing)

    assert (why == "") == is_used
    assert is_used or f"user {owner}" in why
    assert is_used or f"user {OWNER}" in why


@pytest.mark.parametrize(
    ("mirror", "source", "standing", "opens"),
    [
        (folder(0o755), folder(0o755), ROOT, False),
        (folder(0o755), folder(0o700), ROOT, False),
        (folder(0o700), folder(0o711), ROOT, True),
        (folder(0o700), folder(0o720), ROOT, True),
        (folder(0o750), folder(0o705), ROOT, True),
        (folder(0o700, OWNER), folder(0o700, STRANGER), ROOT, True),
        (folder(0o700, gid=50), folder(0o700, gid=60), ROOT, False),
        (folder(0o750, gid=50), folder(0o750, gid=60), ROOT, True),
        (folder(0o755), folder(0o775), ROOT, True),
        (folder(0o755), folder(0o1777), ROOT, False),
        (folder(0o700), folder(0o1777), ROOT, True),
        (folder(0o1777), folder(0o777), ROOT, True),
        (folder(0o1755), folder(0o755), ROOT, False),
        (folder(0o777), folder(0o1777), ROOT, False),
        (folder(0o700, OWNER), folder(0o700, STRANGER), ORDINARY, False),
        (folder(0o700), folder(0o755), ORDINARY, True),
        (folder(0o750), folder(0o750, gid=50), ORDINARY, True),
        (folder(0o700), folder(0o750, gid=60), ORDINARY, False),
        (folder(0o700), folder(0o755, gid=60), ORDINARY, True),
        (folder(0o777), folder(0o700, STRANGER), FAT, False),
        (folder(0o700), folder(0o777, STRANGER), FAT, False),
    ],
)
def test_what_lets_in_more_users_is_said(
    mirror: ScanReply, source: ScanReply, standing: ProcessRights, *, opens: bool
) -> None:
    assert bool(why_widened(mirror, source, standing, acl_differs=False)) == opens


def test_another_acl_may_let_in_more_users_where_modes_are_kept() -> None:
    assert why_widened(folder(0o750), folder(0o750), ROOT, acl_differs=True) == "its ACL changes"
    assert why_widened(folder(0o750), folder(0o750), FAT, acl_differs=True) == ""


def test_only_a_closed_folder_of_ours_looks_as_we_make_one() -> None:
    assert is_as_created(folder(0o700, US), US)
    assert is_as_created(folder(0o2700, US), US)
    assert not is_as_created(folder(0o750, US), US)
    assert not is_as_created(folder(0o700, OWNER), US)
