"""Read a file that decides what this program does, and tell who else may change or read it.

Who may change a file may be: its owner; everybody, its group, or who is named in its access control list, where these
may write; the owner of each folder on the way, and whoever may write there, for they can put another file in its place
(in a sticky folder they cannot); and the owner of each link on the way. All of them are told at once.

What is looked at is what was opened, by the descriptor of the folder above it, so that exchanging names meanwhile
changes nothing. A folder on a mount that is read-only here, such as the 0777 folder of a Kubernetes ConfigMap, cannot
be written to, whatever its mode says.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from job.events.text import clean
from job.fs.trusted_path import Walk

_ACL = "system.posix_acl_access"
_ACL_HEAD, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP, _ACL_WRITE = 0x02, 0x08, 0x02
"""Of acl(5), as the kernel's posix_acl_xattr.h lays them out."""


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._- ")
"""What needs no escape between quotes of a shell."""


class Access(Enum):
    """What somebody else may do."""

    OWN = "own"
    """Change it as its owner."""
    WRITE = "write"
    """Change it because its mode or access control list says so."""
    READ = "read"
    """Read it."""


class TrustIssue(NamedTuple):
    """Somebody else may change or read what was read."""

    path: str
    """The file, or the folder or link on the way to it."""
    way: Access
    why: str
    """Who, and by which right."""
    repair: str
    """The command that mends it; empty where it has another owner: to take it from that user would do harm."""
    user: int
    """The owner, where that is who may change it; -1 if not."""

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{clean(self.path)} {self.why}" + (f"; run `{self.repair}`" if self.repair else "")


class TrustedFile(NamedTuple):
    """What was read."""

    content: bytes
    doubts: tuple[TrustIssue, ...]
    """Who else may change it."""
    exposed: TrustIssue | None
    """Set if everybody may read it."""


def read_trusted(path: str, most_bytes: int, owners: frozenset[int]) -> TrustedFile:
    """Read a whole regular file, and find out who but `owners` and root may change it.

    Raises `OSError`, also for what is no regular file or has more than `most_bytes`.
    """
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL character")
    way = _CheckedWalk(path if os.path.isabs(path) else os.path.join(os.getcwd(), path), owners | {0})
    place = way.end()
    try:
        content = _read(place, most_bytes)
    finally:
        os.close(place)
    return TrustedFile(content, tuple(dict.fromkeys(way.doubts)), way.exposed)


def _read(place: int, most_bytes: int) -> bytes:
    mode = os.fstat(place).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    # The very file that was looked at: nothing else can have its name here.
    with open(f"/proc/self/fd/{place}", "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes")
    return content


class _CheckedWalk(Walk):
    """The way to a file, which collects who may change what on it."""

    to_file = True

    def __init__(self, path: str, owners: frozenset[int]) -> None:
        super().__init__(path)
        self.doubts: list[TrustIssue] = []
        self.exposed: TrustIssue | None = None
        self._owners = owners
        self._private = False
        """Whether a folder on the way lets nobody else pass."""

    def pass_link(self, link: os.stat_result, shown: str) -> None:
        """Doubt a link of somebody else; it is followed all the same, to tell what else is wrong."""
        if link.st_uid not in self._owners:
            self._doubt(shown, Access.OWN, f"is a link of user {link.st_uid}", user=link.st_uid)

    def enter(self, place: int, shown: str) -> None:
        """Doubt what somebody else may change."""
        status = os.fstat(place)
        shown = os.readlink(f"/proc/self/fd/{place}")  # the same, by whatever way it was reached
        what = "(a folder on the way to it) " if stat.S_ISDIR(status.st_mode) else ""
        if status.st_uid not in self._owners:
            self._doubt(shown, Access.OWN, f"{what}belongs to user {status.st_uid}", user=status.st_uid)
        if stat.S_ISDIR(status.st_mode):
            self._private = self._private or not status.st_mode & stat.S_IXOTH
            # In a sticky folder only its owner, and whoever owns what is in it, may exchange that.
            if status.st_mode & stat.S_ISVTX or _read_only(place):
                return
        for why, command in _writers(place, status, self._owners):
            self._doubt(shown, Access.WRITE, f"{what}{why}", command)
        readable = stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH
        if readable and not self._private and not _read_only(place):
            why = f"is readable by everybody (mode {stat.S_IMODE(status.st_mode):o})"
            self.exposed = TrustIssue(shown, Access.READ, why, _command("chmod o-r", shown), -1)

    def _doubt(self, path: str, way: Access, why: str, command: str = "", *, user: int = -1) -> None:
        self.doubts.append(TrustIssue(path, way, why, _command(command, path) if command else "", user))


def _command(command: str, path: str) -> str:
    from shlex import quote  # noqa: PLC0415  # nobody else may change an ordinary configuration

    if path.isprintable():
        return f"{command} {quote(path)}"
    # As bash and zsh read it: nothing else gives the very bytes back.
    shown = (chr(byte) if chr(byte) in _PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f"{command} $'{''.join(shown)}'"


def _read_only(place: int) -> bool:
    return bool(os.fstatvfs(place).f_flag & os.ST_RDONLY)


def _writers(place: int, status: os.stat_result, owners: frozenset[int]) -> Iterator[tuple[str, str]]:
    """Tell who but the owner may write, and the command that ends it."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        yield f"is writable by everybody (mode {mode:o})", "chmod o-w"
    if not mode & stat.S_IWGRP:
        return  # nor may anybody whom an access control list names: these bits are its mask
    if not _is_their_own(status.st_gid, owners | {status.st_uid}):
        yield f"is writable by the group {status.st_gid} (mode {mode:o})", "chmod g-w"
    if named := sorted(_named_writers(place, owners)):
        yield f"is writable, by its access control list, by {', '.join(named)}", "setfacl -b"


def _is_their_own(group: int, users: frozenset[int]) -> bool:
    """Tell whether nobody but these users is in a group: root's, or a user's private one.

    A private group has the number and the name of its user (as for pam_umask(8)) and no other member, and is no other
    user's primary group. Where neither is known to the machine, as in a container, the number says so.
    """
    if group == 0:
        return True
    if group not in users:
        return False
    import grp  # noqa: PLC0415  # two more libraries to load, for the few whose groups may write
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
        acl = os.getxattr(f"/proc/self/fd/{place}", _ACL)
    except OSError:
        return  # there is none, or none can be had here
    entries = list(_ACL_ENTRY.iter_unpack(acl[_ACL_HEAD.size :]))
    for tag, rights, number in entries:
        if rights & _ACL_WRITE and tag == _ACL_USER and number not in owners:
            yield f"user {number}"
        if rights & _ACL_WRITE and tag == _ACL_GROUP and not _is_their_own(number, owners):
            yield f"group {number}"
