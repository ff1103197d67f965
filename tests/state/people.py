"""Three people and root on one machine: what each of them does, and what each of them can read.

Each thing is done with the identity of who does it, so the kernel decides what is allowed, not a model of it.
"""

import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

ALICE, BOB, EVE = PEOPLE = (64001, 64002, 64003)
TEAM = 64009
"""A group of Alice and Bob."""
GROUPS = {ALICE: [TEAM], BOB: [TEAM], EVE: []}

SECRET = re.compile(rb"<<[0-9]+>>")
"""What each file holds is like no other file's."""
_NAME = re.compile(rb"name-[0-9]+")
"""So is the name of each file."""

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_OWNER, _USER, _OWNING_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF

Given = TypeVar("Given")


@contextmanager
def being(user: int) -> Iterator[None]:
    """Be one of the people for a while. The real identity stays root's, so that it can be taken back."""
    groups = os.getgroups()
    os.setgroups(GROUPS[user])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def attempt(user: int, deed: Callable[[], object]) -> bool:
    """Have somebody try something; tell whether the system let it happen."""
    with being(user):
        try:
            deed()
        except OSError:
            return False
    return True


def acl(user: int, rights: int, *, group: int = 0, other: int = 0) -> bytes:
    """Give the attribute of an access list that gives `rights` to one user besides the owner, who has all.

    The layout is that of the kernel's include/uapi/linux/posix_acl_xattr.h, version 2.
    """
    entries = [
        (_OWNER, 7, _NO_ID),
        (_USER, rights, user),
        (_OWNING_GROUP, group, _NO_ID),
        (_MASK, rights | group, _NO_ID),
        (_OTHER, other, _NO_ID),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def readable(user: int, roots: Iterable[Path]) -> set[bytes]:
    """Give every secret, of content and of name, that somebody can read below some folders. Links are not followed."""
    found: set[bytes] = set()
    with being(user):
        for root in roots:
            _look(os.fsencode(root), found)
    return found


def _look(path: bytes, found: set[bytes]) -> None:
    with suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                content = file.read()
            found.update(SECRET.findall(content))
            found.update(_NAME.findall(content))
        elif stat.S_ISLNK(mode):
            found.update(_NAME.findall(os.readlink(path)))
        elif stat.S_ISDIR(mode):
            names = [b"a", b"b", b"c", b".truecopy", b"versions"]
            """Who cannot list a folder may still enter it, and know a name that is there."""
            with suppress(OSError):
                names = os.listdir(path)
            found.update(name for name in names if _NAME.fullmatch(name))
            for name in names:
                _look(path + b"/" + name, found)
