"""Adoption: whether a mirror folder may be used for a source folder, and whether that gives more users access. Pure.

Users who can write to the parent may have replaced a folder of the mirror, and the name in the source may belong to
another user now. Neither may give anyone access to the content of a folder.
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
    """Comparison of a mirror folder with its index record."""

    SAME = 0
    """The recorded inode number and owner."""
    UNKNOWN = 1
    """Nothing is recorded."""
    OTHER_FOLDER = 2
    """Another inode number."""
    OTHER_OWNER = 3
    """The recorded inode number, and another owner."""
    MISSING = 4
    """Recorded, and does not exist."""


class ProcessRights(NamedTuple):
    """What the user that Truecopy runs as can change on folders of a mirror."""

    user: int
    groups: frozenset[int]
    """Groups that this user may give folders to."""
    owners: bool
    """Whether folders can be given to any user and group."""
    modes: bool
    """Whether the file system keeps modes."""


class StatResult(Protocol):
    """The used part of `os.stat_result`, as this room does not import os."""

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
    """Compare the stamp of a mirror folder with the recorded one: hostile bytes, or empty for none."""
    if not recorded:
        return FolderMatch.UNKNOWN
    if recorded == now:
        return FolderMatch.SAME
    (inode, owner), (inode_now, owner_now) = _inode_and_owner(recorded), _inode_and_owner(now)
    if inode != inode_now:
        return FolderMatch.OTHER_FOLDER
    return FolderMatch.SAME if owner == owner_now else FolderMatch.OTHER_OWNER


def _inode_and_owner(stamp: Stamp) -> tuple[bytes, bytes]:
    """Return the marshalled inode number and owner; `marshal` must not read hostile bytes."""
    inode = _number_at(stamp, _HEADER)
    mode = _number_at(stamp, _HEADER + len(inode))
    return inode, _number_at(stamp, _HEADER + len(inode) + len(mode))


def inode_mark(stamp: Stamp) -> bytes:
    """Return the part of a stamp that identifies the folder."""
    return _number_at(stamp, _HEADER)


def _number_at(stamp: Stamp, at: int) -> bytes:
    if stamp[at : at + 1] == bytes((_SHORT,)):
        return stamp[at : at + _HEADER]
    if stamp[at : at + 1] == bytes((_LONG,)):
        digits = abs(int.from_bytes(stamp[at + 1 : at + _HEADER], "little", signed=True))
        return stamp[at : at + _HEADER + 2 * digits]
    return b""


def why_not_adopted(left: FolderMatch, mirror: StatResult, source: StatResult, rights: ProcessRights) -> str:
    """Return why a mirror folder with content must not be used for a source folder; empty if it may be."""
    owner = mirror.st_uid
    if left is FolderMatch.SAME or not rights.owners or owner == source.st_uid:
        return ""
    # This user's folder comes from an interrupted cycle or the administrator. Entries that are not in the source are
    # set aside before it gets its owner.
    if left is not FolderMatch.OTHER_FOLDER and owner == rights.user:
        return ""
    why = {
        FolderMatch.UNKNOWN: "nothing is recorded of it",
        FolderMatch.OTHER_FOLDER: "it is not the folder that was left there",
        FolderMatch.OTHER_OWNER: "its owner changed",
        FolderMatch.MISSING: "it was missing",
    }[left]
    return f"{why}: the mirror's folder belongs to user {owner}, the source's to user {source.st_uid}"


def why_widened(mirror: StatResult, source: StatResult, rights: ProcessRights, *, acl_differs: bool) -> str:
    """Return which change of metadata would give more users access to a mirror folder; empty for none."""
    if not (rights.modes or rights.owners):
        return ""  # the mount determines the rights
    if rights.owners and mirror.st_uid != source.st_uid:
        return f"its owner changes from user {mirror.st_uid} to user {source.st_uid}"
    if acl_differs:
        return "its ACL changes"
    before, after = mirror.st_mode, source.st_mode
    kept = mirror.st_gid == source.st_gid
    given = not kept and (rights.owners or source.st_gid in rights.groups)
    if given and after & stat.S_IRWXG:
        return f"its group changes from {mirror.st_gid} to {source.st_gid}"
    # Where the group cannot be given, neither are its rights.
    bits = _OTHERS if kept or given else stat.S_IRWXO
    if after & stat.S_ISVTX:
        bits &= ~_WRITE  # with the sticky bit, write access removes no entries of others
    if after & ~before & bits:
        return f"its mode changes from {stat.S_IMODE(before):03o} to {stat.S_IMODE(after):03o}"
    if before & ~after & stat.S_ISVTX and after & _WRITE:
        return "it is no longer sticky, so all who may write to it may remove entries of others"
    return ""


def is_as_created(mirror: StatResult, user: int) -> bool:
    """Return whether a mirror folder has the owner and mode with which Truecopy creates one."""
    return mirror.st_uid == user and stat.S_IMODE(mirror.st_mode) & 0o777 == stat.S_IRWXU
