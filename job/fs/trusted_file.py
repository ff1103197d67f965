"""Read a file that controls this program, and list the other users that may change or read it.

Users that may change a file: its owner; others, its group and ACL entries with write permission; owners and writers of
each folder on its path, since they can replace it (writers of a sticky folder cannot); the owner of each link on the
path. Checks use the opened descriptors, so renames during the walk have no effect. A folder on a read-only mount, such
as the 0777 folder of a Kubernetes ConfigMap, counts as not writable.
"""

import errno
import os
import stat
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from job.core.acl import ACCESS_ACL, GROUP, USER, WRITE, parse_acl
from job.events.text import clean
from job.fs.dircursor import closing_fd
from job.fs.mounts import is_read_only
from job.fs.trusted_path import Walk

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._- ")
"""Characters that need no escape inside shell quotes."""


class Access(Enum):
    """The access that another user has."""

    OWN = "own"
    """As the owner."""
    WRITE = "write"
    """Write access by mode or ACL."""
    READ = "read"


class TrustIssue(NamedTuple):
    """Another user may change or read the file."""

    path: str
    """The file, or the folder or link on the way to it."""
    way: Access
    why: str
    """The user or group, and the right."""
    repair: str
    """The command that removes the right; empty for another owner, since changing the owner could do harm."""
    user: int
    """The owner for `Access.OWN`; otherwise -1."""

    def __str__(self) -> str:
        """Return the issue as one line."""
        return f"{clean(self.path)} {self.why}" + (f"; run `{self.repair}`" if self.repair else "")


class TrustedFile(NamedTuple):
    """Content and trust issues of a file."""

    content: bytes
    doubts: tuple[TrustIssue, ...]
    """Users that may change it."""
    exposed: TrustIssue | None
    """Set if it is world-readable."""


def read_trusted(path: str, most_bytes: int, owners: frozenset[int]) -> TrustedFile:
    """Read a whole regular file, and find users other than `owners` and root that may change it.

    Raises `OSError`, also for other file types and for more than `most_bytes`.
    """
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL character")
    way = _CheckedWalk(path if os.path.isabs(path) else os.path.join(os.getcwd(), path), owners | {0})
    with closing_fd(way.end()) as place:
        content = _read(place, most_bytes)
    return TrustedFile(content, tuple(dict.fromkeys(way.doubts)), way.exposed)


def _read(place: int, most_bytes: int) -> bytes:
    mode = os.fstat(place).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    # By /proc, this is exactly the file that was checked.
    with open(f"/proc/self/fd/{place}", "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes")
    return content


class _CheckedWalk(Walk):
    """The walk to a file; it collects trust issues."""

    to_file = True

    def __init__(self, path: str, owners: frozenset[int]) -> None:
        super().__init__(path)
        self.doubts: list[TrustIssue] = []
        self.exposed: TrustIssue | None = None
        self._owners = owners
        self._private = False
        """Whether a folder on the path is closed to others."""

    def pass_link(self, link: os.stat_result, shown: str) -> None:
        """Record a link of another user, and follow it, to find further issues."""
        if link.st_uid not in self._owners:
            self._doubt(shown, Access.OWN, f"is a link of user {link.st_uid}", user=link.st_uid)

    def enter(self, place: int, shown: str) -> None:
        """Record other users that may change a component."""
        status = os.fstat(place)
        shown = os.readlink(f"/proc/self/fd/{place}")  # the real path, independent of links
        what = "(a folder on the way to it) " if stat.S_ISDIR(status.st_mode) else ""
        if status.st_uid not in self._owners:
            self._doubt(shown, Access.OWN, f"{what}belongs to user {status.st_uid}", user=status.st_uid)
        if stat.S_ISDIR(status.st_mode):
            self._private = self._private or not status.st_mode & stat.S_IXOTH
            # In a sticky folder only the owners of the folder and of the entry may replace an entry.
            if status.st_mode & stat.S_ISVTX or is_read_only(place):
                return
        for why, command in _writers(place, status, self._owners):
            self._doubt(shown, Access.WRITE, f"{what}{why}", command)
        readable = stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH
        if readable and not self._private and not is_read_only(place):
            why = f"is readable by everybody (mode {stat.S_IMODE(status.st_mode):o})"
            self.exposed = TrustIssue(shown, Access.READ, why, _command("chmod o-r", shown), -1)

    def _doubt(self, path: str, way: Access, why: str, command: str = "", *, user: int = -1) -> None:
        self.doubts.append(TrustIssue(path, way, why, _command(command, path) if command else "", user))


def _command(command: str, path: str) -> str:
    from shlex import quote  # noqa: PLC0415  # rarely needed

    if path.isprintable():
        return f"{command} {quote(path)}"
    # ANSI-C quoting of bash and zsh: the only form that keeps arbitrary bytes.
    shown = (chr(byte) if chr(byte) in _PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f"{command} $'{''.join(shown)}'"


def _writers(place: int, status: os.stat_result, owners: frozenset[int]) -> Iterator[tuple[str, str]]:
    """Yield other writers, each with the command that removes the right."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        yield f"is writable by everybody (mode {mode:o})", "chmod o-w"
    if not mode & stat.S_IWGRP:
        return  # these bits are the mask of an ACL, so its entries grant no write either
    if not _is_their_own(status.st_gid, owners | {status.st_uid}):
        yield f"is writable by the group {status.st_gid} (mode {mode:o})", "chmod g-w"
    if named := sorted(_named_writers(place, owners)):
        yield f"is writable, by its access control list, by {', '.join(named)}", "setfacl -b"


def _is_their_own(group: int, users: frozenset[int]) -> bool:
    """Return whether a group has no other members: root's group, or the private group of one of these users.

    A private group has its user's number and name (as in pam_umask(8)), no other member, and is no other user's primary
    group. If user or group are unknown, as in a container, the number alone decides.
    """
    if group == 0:
        return True
    if group not in users:
        return False
    import grp  # noqa: PLC0415  # rarely needed
    import pwd  # noqa: PLC0415

    if any(each.pw_gid == group and each.pw_uid not in {0, group} for each in pwd.getpwall()):
        return False
    try:
        known = grp.getgrgid(group)
        name = pwd.getpwuid(group).pw_name
    except KeyError:
        return True
    return known.gr_name == name and set(known.gr_mem) <= {name}


def _named_writers(place: int, owners: frozenset[int]) -> Iterator[str]:
    try:
        acl = os.getxattr(f"/proc/self/fd/{place}", ACCESS_ACL)
    except OSError:
        return  # no ACL, or not supported
    for tag, rights, number in parse_acl(acl) or ():
        if rights & WRITE and tag == USER and number not in owners:
            yield f"user {number}"
        if rights & WRITE and tag == GROUP and not _is_their_own(number, owners):
            yield f"group {number}"
