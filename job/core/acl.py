"""POSIX ACLs as values: what they grant, and which mode bits grant no more than they do. Pure.

Formats are those of acl(5) and of the kernel's posix_acl_xattr.h. Linux looks at an ACL only if its mask, which shows
as the group bits of the mode, has any right: without one, users and groups that it names get the rights of all others.
"""

import struct
from typing import NamedTuple

ACCESS_ACL = b"system.posix_acl_access"
"""The attribute that holds who may access a file or folder."""

_USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 2, 4, 8, 16, 32
_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_ALL = 7
_BITS = 0o777
_GROUP_BITS, _OTHER_BITS = 0o070, 0o007


class Rights(NamedTuple):
    """What decides about access to one file or folder."""

    uid: int
    gid: int
    mode: int
    """The whole st_mode, or its permission bits."""
    acl: bytes | None = None
    """Value of its access ACL; None if it has none."""


def mode_without_acl(mode: int, acl: bytes | None) -> int:
    """Give the mode for something that cannot have its ACL: with it nobody has a right that the ACL does not grant.

    The group gets its own entry, limited by the mask, for the group bits show the mask. A named user may be a member of
    the group, and whoever is named may get less than all others: so neither gets more than they do.
    """
    if acl is None or not mode & _GROUP_BITS:
        return mode
    entries = _entries(acl)
    if entries is None:
        return mode & ~(_GROUP_BITS | _OTHER_BITS)
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _ALL)
    group, other = mode >> 3 & mask, mode
    for tag, rights, _ in entries:
        if tag in {_GROUP_OBJ, _USER}:
            group &= rights & mask
        if tag in {_GROUP, _USER}:
            other &= rights & mask
    return mode & ~(_GROUP_BITS | _OTHER_BITS) | (group & _ALL) << 3 | other & _ALL


def mode_for_other_group(mode: int) -> int:
    """Give the mode for something that belongs to another group than it is to.

    Its members had the rights of all others, and the members of the group that it is to belong to are others now: both
    get what both had.
    """
    both = mode >> 3 & mode & _ALL
    return mode & ~(_GROUP_BITS | _OTHER_BITS) | both << 3 | both


def acl_for_other_group(acl: bytes, mode: int) -> tuple[bytes, int] | None:
    """Give ACL and mode for something that belongs to another group than it is to; None if the ACL is not understood.

    Rights of users and groups that are named hold whatever the group is; but members of the group that has it now may
    be members of those that are named, too, and get no more than these.
    """
    entries = _entries(acl)
    if entries is None or not mode & _GROUP_BITS:
        return None
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _ALL)
    both = mode & mask & _ALL
    for tag, rights, _ in entries:
        if tag in {_GROUP_OBJ, _GROUP}:
            both &= rights
    changed = [(tag, both if tag in {_GROUP_OBJ, _OTHER} else rights, who) for tag, rights, who in entries]
    value = _VERSION.to_bytes(4, "little") + b"".join(_ENTRY.pack(*each) for each in changed)
    return value, mode & ~_OTHER_BITS | both


def common_mode(found: Rights, wanted: Rights) -> int:
    """Give the permission bits with which something that is as it was `found` grants nobody more than `wanted` does.

    Nobody gets a right either. The owner's bits stay: an owner can set them at any time.
    """
    kept = found.mode & ~(_GROUP_BITS | _OTHER_BITS)
    if found[:2] == wanted[:2] and found.acl == wanted.acl:
        return kept | found.mode & wanted.mode & (_GROUP_BITS | _OTHER_BITS)
    old, new = mode_without_acl(found.mode, found.acl), mode_without_acl(wanted.mode, wanted.acl)
    bits = old & new
    if found[:2] != wanted[:2]:
        # Whoever was of the one class is of another one now, perhaps.
        bits = mode_for_other_group(bits)
    if found.acl is not None:
        bits &= ~_GROUP_BITS  # they would be the mask of an ACL that is not wanted
    return kept | bits & (_GROUP_BITS | _OTHER_BITS)


def grants_more(wanted: Rights, found: Rights) -> bool:
    """Tell whether `wanted` grants anybody anything that `found` does not, as far as that is known for sure."""
    if found[:2] != wanted[:2] or found.acl != wanted.acl:
        return True
    return bool(wanted.mode & ~found.mode & _BITS)


def _entries(acl: bytes) -> list[tuple[int, int, int]] | None:
    """Read the tag, rights and id of each entry; None if that makes no sense."""
    if len(acl) % _ENTRY.size != len(_VERSION.to_bytes(4, "little")) or int.from_bytes(acl[:4], "little") != _VERSION:
        return None
    return list(_ENTRY.iter_unpack(acl[4:]))
