"""POSIX ACLs as values: their rights, and mode bits that grant no more. Pure.

Formats: acl(5) and the kernel's posix_acl_xattr.h. The group bits of the mode are the mask of an ACL. If they are all
zero, Linux ignores the ACL, and its named users and groups have the rights of others.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

ACCESS_ACL = b"system.posix_acl_access"
"""The extended attribute of the access ACL."""

USER, _GROUP_OBJ, GROUP, _MASK, _OTHER = 2, 4, 8, 16, 32
"""The tags of entries, besides that of the owner; those of `USER` and `GROUP` have an id."""
WRITE = 2
_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_ALL = 7
_BITS = 0o777
_GROUP_BITS, _OTHER_BITS = 0o070, 0o007


class Rights(NamedTuple):
    """Owner, group, mode and ACL of a file or folder."""

    uid: int
    gid: int
    mode: int
    """The whole st_mode, or its permission bits."""
    acl: bytes | None = None
    """Value of its access ACL; None if it has none."""


def mode_without_acl(mode: int, acl: bytes | None) -> int:
    """Return the mode for an entry that cannot have its ACL: it grants no right that the ACL does not.

    The group bits become the group's own entry limited by the mask. Named users may be in the group, and may have fewer
    rights than others, so group and others get no more than they have.
    """
    if acl is None or not mode & _GROUP_BITS:
        return mode
    entries = parse_acl(acl)
    if entries is None:
        return mode & ~(_GROUP_BITS | _OTHER_BITS)
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _ALL)
    group, other = mode >> 3 & mask, mode
    for tag, rights, _ in entries:
        if tag in {_GROUP_OBJ, USER}:
            group &= rights & mask
        if tag in {GROUP, USER}:
            other &= rights & mask
    return mode & ~(_GROUP_BITS | _OTHER_BITS) | (group & _ALL) << 3 | other & _ALL


def mode_for_other_group(mode: int) -> int:
    """Return the mode for an entry whose group cannot be set.

    Members of the present group were others, and those of the wanted group are others now: both get what both had.
    """
    both = mode >> 3 & mode & _ALL
    return mode & ~(_GROUP_BITS | _OTHER_BITS) | both << 3 | both


def acl_for_other_group(acl: bytes, mode: int) -> tuple[bytes, int] | None:
    """Return ACL and mode for an entry whose group cannot be set; None if the ACL is invalid.

    Named users and groups keep their rights. Members of the present group may be in these, and get no more rights.
    """
    entries = parse_acl(acl)
    if entries is None or not mode & _GROUP_BITS:
        return None
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _ALL)
    both = mode & mask & _ALL
    for tag, rights, _ in entries:
        if tag in {_GROUP_OBJ, GROUP}:
            both &= rights
    changed = [(tag, both if tag in {_GROUP_OBJ, _OTHER} else rights, holder_id) for tag, rights, holder_id in entries]
    return pack_acl(changed), mode & ~_OTHER_BITS | both


def common_mode(found: Rights, wanted: Rights) -> int:
    """Return the permission bits for an entry with owner, group and ACL as `found` that grant no more than `wanted`.

    No right is added. The owner's bits stay, as an owner can set them at any time.
    """
    kept = found.mode & ~(_GROUP_BITS | _OTHER_BITS)
    if found[:2] == wanted[:2] and found.acl == wanted.acl:
        return kept | found.mode & wanted.mode & (_GROUP_BITS | _OTHER_BITS)
    old, new = mode_without_acl(found.mode, found.acl), mode_without_acl(wanted.mode, wanted.acl)
    bits = old & new
    if found[:2] != wanted[:2]:
        # Users may have changed between the classes group and others.
        bits = mode_for_other_group(bits)
    if found.acl is not None:
        bits &= ~_GROUP_BITS  # they would be the mask of an ACL that is not wanted
    return kept | bits & (_GROUP_BITS | _OTHER_BITS)


def grants_more(wanted: Rights, found: Rights) -> bool:
    """Return whether `wanted` may grant a right that `found` does not; True if that cannot be excluded."""
    if found[:2] != wanted[:2] or found.acl != wanted.acl:
        return True
    return bool(wanted.mode & ~found.mode & _BITS)


def pack_acl(entries: Iterable[tuple[int, int, int]]) -> bytes:
    """Return the ACL with these entries: tag, rights and id of each."""
    return _VERSION.to_bytes(4, "little") + b"".join(_ENTRY.pack(*each) for each in entries)


def parse_acl(acl: bytes) -> list[tuple[int, int, int]] | None:
    """Read tag, rights and id of each entry; None if the ACL is invalid."""
    if len(acl) % _ENTRY.size != len(_VERSION.to_bytes(4, "little")) or int.from_bytes(acl[:4], "little") != _VERSION:
        return None
    return list(_ENTRY.iter_unpack(acl[4:]))
