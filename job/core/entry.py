"""Entry: what a listing says of one name. Kinds, permissions, reserved names, printable paths. Pure."""

import base64
import stat
from enum import StrEnum
from typing import NamedTuple

STATE_FOLDER = b".truecopy"
"""Truecopy's own folder at the root of a mirror (design 2.3)."""

TEMP_PREFIX = b".truecopy-tmp-"
"""Prefix of files being written; swept by the next cycle, refused in sources."""

LOST_FOUND = b"lost+found"
"""What `mkfs` makes at the root of a file system, and `fsck` puts pieces of damaged files into."""
NO_CONTENT = frozenset({STATE_FOLDER, LOST_FOUND, b".stfolder"})
"""Names at a root that do not mean that there is anything in it."""


class Kind(StrEnum):
    """What an entry is. Everything that is none of the first three is special and never opened."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    SPECIAL = "special"


class Entry(NamedTuple):
    """One name of a folder listing, by lstat.

    Times are nanoseconds since the epoch, `size` is in bytes, `mode` is the whole st_mode. For a subfolder only
    `name` and `mode`'s type bits count, the rest is 0: what it is itself belongs to its own listing.
    """

    name: bytes
    inode: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def kind(self) -> Kind:
        """Tell the kind from the mode."""
        return _KINDS.get(self[2] & TYPE_BITS, Kind.SPECIAL)


TYPE_BITS = 0o170000
"""Of an st_mode."""
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.SYMLINK}


def kind_of(mode: int) -> Kind:
    """Tell the kind of an entry from its st_mode."""
    return _KINDS.get(mode & TYPE_BITS, Kind.SPECIAL)


def kept_mode(mode: int, *, setuid: bool = False) -> int:
    """Give the permission bits the mirror is to have: setuid and setgid are carried over to files only if asked.

    A setuid program in a folder of copies is a way to become its owner; on folders setgid only hands down a group.
    """
    bits = stat.S_IMODE(mode)
    return bits if setuid or stat.S_ISDIR(mode) else bits & ~(stat.S_ISUID | stat.S_ISGID)


def is_reserved(path: bytes) -> bool:
    """Tell whether a path below a root uses a name that Truecopy keeps for itself."""
    if STATE_FOLDER not in path:
        return False
    return path == STATE_FOLDER or path.rpartition(b"/")[2].startswith(TEMP_PREFIX)


def permissions(mode: int) -> str:
    """Write permission bits the way logs show them: octal without a prefix, such as `644` or `2755`."""
    return f"{stat.S_IMODE(mode):03o}"


def printable(path: bytes) -> str:
    """Make a path safe to show: bytes that are not UTF-8, control and formatting characters become escapes.

    Reversible only together with `base64_of`; a printable path never holds a line end or a terminal sequence.
    """
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def base64_of(path: bytes) -> str | None:
    """Give the base64 form of a path whose printable form does not tell its bytes; None where it does."""
    return None if printable(path).encode() == path else base64.b64encode(path).decode("ascii")


class FileId(NamedTuple):
    """Identity of a file, or whatever it is, as long as it exists: device and inode, never one without the other.

    Neither is kept: many file systems get another device number each time they are mounted.
    """

    device: int
    inode: int


def inode_key(inode: int) -> bytes:
    """Give an inode number as SQLite keeps it: its own numbers have a sign, inodes have not."""
    return inode.to_bytes(8, "big")


def file_key(file: FileId) -> bytes:
    """Give the identity of a file as SQLite keeps it; `file_of_key` reads it."""
    return inode_key(file.device) + inode_key(file.inode)


def file_of_key(key: bytes) -> FileId:
    """Read what `file_key` wrote."""
    return FileId(int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big"))


def join(folder: bytes, name: bytes) -> bytes:
    """Join a folder's path below the root (empty for the root itself) with one name."""
    return folder + b"/" + name if folder else name
