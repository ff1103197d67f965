"""What a tree of a test may hold: not every file system keeps everything, and not every user may make it."""

import struct
from dataclasses import dataclass

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NOBODY_ID = 0xFFFFFFFF

SECOND = 10**9
YEAR_2038 = 2**31
YEAR_2200 = 7_258_118_400
YEAR_2445 = 15_000_000_000


@dataclass(frozen=True)
class Scope:
    """What to leave out, and how far to go."""

    owners: bool = True
    """Entries of other users and groups."""
    devices: bool = True
    unreadable: bool = True
    """Modes that shut out the owner, who has to be root then."""
    security: bool = True
    """Attributes that only root may give: capabilities and `trusted.*`."""
    earliest: int = -(2**31)
    latest: int = YEAR_2445
    """Seconds since 1970. Ext4 and XFS clamp what is before 1901; ext4 ends in 2446, XFS in 2486."""
    largest_attribute: int = 3000
    """Bytes of one extended attribute. Ext4 has one block of 4096 for all of a file together."""
    longest_target: int = 4000
    """Bytes of what a symlink says; 1023 on XFS."""

    def moments(self) -> list[int]:
        """Give times in nanoseconds that have been wrong in some program."""
        seconds = (self.earliest, -1, 0, YEAR_2038 - 1, YEAR_2038, 2**32, YEAR_2200, self.latest)
        between = (1, -1, -5, 1_234_567_890_123_456_789, YEAR_2200 * SECOND + 999_999_999)
        return [each * SECOND for each in seconds] + [*between, self.latest * SECOND + 123_456_789]


def acl(user: int, *, owner: int = 7, group: int = 5, mask: int = 7, groups: tuple[int, ...] = ()) -> bytes:
    """Give an ACL in the kernel's form: one more user may do what `user` says, and so may more `groups`."""
    entries = [
        (_USER_OBJ, owner, _NOBODY_ID),
        (_USER, user, 1234),
        (_GROUP_OBJ, group, _NOBODY_ID),
        *((_GROUP, 6, each) for each in groups),
        (_MASK, mask, _NOBODY_ID),
        (_OTHER, 0, _NOBODY_ID),
    ]
    return _packed(entries)


def plain_acl(owner: int, group: int, other: int) -> bytes:
    """Give an ACL that says what a mode could say; as a default one it still is more than nothing."""
    return _packed([(_USER_OBJ, owner, _NOBODY_ID), (_GROUP_OBJ, group, _NOBODY_ID), (_OTHER, other, _NOBODY_ID)])


def _packed(entries: list[tuple[int, int, int]]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
