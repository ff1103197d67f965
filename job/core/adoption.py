"""Adoption: whether a mirror folder may be used as the mirror of a source folder, and whether more users get into it.

Pure. A folder of the mirror may have been exchanged for another one by whoever may write to the folder above it, and
the source may have given its name to another user. Nobody may get at the content of a folder by that.
"""

import stat
from enum import IntEnum
from typing import NamedTuple, Protocol

from job.core.record import Stamp

_SHORT, _LONG = ord("i"), ord("l")
_HEADER = 5
"""Bytes of a stamp before its first number, and of a short number."""
_OTHERS = 0o077
_WRITE = stat.S_IWGRP | stat.S_IWOTH


class FolderMatch(IntEnum):
    """How a mirror folder compares with the one that the index speaks of."""

    SAME = 0
    """It has the inode number and the owner that are recorded."""
    UNKNOWN = 1
    """Nothing is recorded."""
    OTHER_FOLDER = 2
    """It has another inode number."""
    OTHER_OWNER = 3
    """It has the inode number that is recorded, and another owner."""
    MISSING = 4
    """It does not exist, and is recorded."""


class ProcessRights(NamedTuple):
    """What the user that Truecopy runs as can do to folders of a mirror."""

    user: int
    groups: frozenset[int]
    """Groups that this user may give folders to."""
    owners: bool
    """Whether folders can be given to any user and group."""
    modes: bool
    """Whether the file system keeps modes."""


class StatResult(Protocol):
    """What is used of a stat result."""

    @property
    def st_mode(self) -> int:
        """Kind and permissions."""

    @property
    def st_uid(self) -> int:
        """Owner."""

    @property
    def st_gid(self) -> int:
        """Group."""


def match_folder(recorded: Stamp | None, now: Stamp) -> FolderMatch:
    """Compare the stamp of a mirror folder with the recorded one, which may be hostile bytes, or empty for none."""
    if not recorded:
        return FolderMatch.UNKNOWN
    if recorded == now:
        return FolderMatch.SAME
    (inode, owner), (inode_now, owner_now) = _inode_and_owner(recorded), _inode_and_owner(now)
    if inode != inode_now:
        return FolderMatch.OTHER_FOLDER
    return FolderMatch.SAME if owner == owner_now else FolderMatch.OTHER_OWNER


def _inode_and_owner(stamp: Stamp) -> tuple[bytes, bytes]:
    """Give the marshalled inode number and owner of a stamp; `marshal` itself must not read hostile bytes."""
    inode = _number_at(stamp, _HEADER)
    mode = _number_at(stamp, _HEADER + len(inode))
    return inode, _number_at(stamp, _HEADER + len(inode) + len(mode))


def inode_mark(stamp: Stamp) -> bytes:
    """Give what two stamps of one folder have in common as long as it is the same folder."""
    return _number_at(stamp, _HEADER)


def _number_at(stamp: Stamp, at: int) -> bytes:
    if stamp[at : at + 1] == bytes((_SHORT,)):
        return stamp[at : at + _HEADER]
    if stamp[at : at + 1] == bytes((_LONG,)):
        digits = abs(int.from_bytes(stamp[at + 1 : at + _HEADER], "little", signed=True))
        return stamp[at : at + _HEADER + 2 * digits]
    return b""


def why_not_adopted(left: FolderMatch, mirror: StatResult, source: StatResult, we: ProcessRights) -> str:
    """Say why a mirror folder, which is not empty, must not be used for a source folder; empty if it may be."""
    owner = mirror.st_uid
    if left is FolderMatch.SAME or not we.owners or owner == source.st_uid:
        return ""
    # A folder of our own was made by a cycle that was interrupted, or was put there by the administrator. What it holds
    # and its source does not is set aside before it gets its owner.
    if left is not FolderMatch.OTHER_FOLDER and owner == we.user:
        return ""
    why = {
        FolderMatch.UNKNOWN: "nothing is recorded of it",
        FolderMatch.OTHER_FOLDER: "it is not the folder that was left there",
        FolderMatch.OTHER_OWNER: "its owner changed",
        FolderMatch.MISSING: "it was missing",
    }[left]
    return f"{why}: the mirror's folder belongs to user {owner}, the source's to user {source.st_uid}"


def why_widened(mirror: StatResult, source: StatResult, we: ProcessRights, *, acl_differs: bool) -> str:
    """Say by what a mirror folder, once it is as its source, lets in more users than now; empty if it does not."""
    if not (we.modes or we.owners):
        return ""  # everybody gets what the mount gives
    if we.owners and mirror.st_uid != source.st_uid:
        return f"its owner changes from user {mirror.st_uid} to user {source.st_uid}"
    if acl_differs:
        return "its ACL changes"
    before, after = mirror.st_mode, source.st_mode
    kept = mirror.st_gid == source.st_gid
    given = not kept and (we.owners or source.st_gid in we.groups)
    if given and after & stat.S_IRWXG:
        return f"its group changes from {mirror.st_gid} to {source.st_gid}"
    # Where the group cannot be given, neither are its rights.
    bits = _OTHERS if kept or given else stat.S_IRWXO
    if after & stat.S_ISVTX:
        bits &= ~_WRITE  # whoever may write to it may not remove what others have in it
    if after & ~before & bits:
        return f"its mode changes from {stat.S_IMODE(before):03o} to {stat.S_IMODE(after):03o}"
    if before & ~after & stat.S_ISVTX and after & _WRITE:
        return "whoever may write to it may remove what others have in it, too, as it is not sticky any more"
    return ""


def is_as_created(mirror: StatResult, user: int) -> bool:
    """Tell whether a mirror folder looks as Truecopy makes one: for its user alone."""
    return mirror.st_uid == user and stat.S_IMODE(mirror.st_mode) & 0o777 == stat.S_IRWXU
