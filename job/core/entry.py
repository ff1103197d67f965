"""An entry of a folder listing: kinds, permissions, reserved names, printable paths. Pure."""

import base64
import stat
from enum import StrEnum
from typing import NamedTuple

STATE_FOLDER = b".truecopy"
"""Truecopy's own folder at the root of a mirror."""

TEMP_PREFIX = b".truecopy-tmp-"
"""Prefix of files and folders being written; refused in sources."""

LOST_FOUND = b"lost+found"
"""Created by `mkfs` at the root of a file system, for files recovered by `fsck`."""
NO_CONTENT = frozenset({STATE_FOLDER, LOST_FOUND, b".stfolder"})
"""Names at a root that do not count as content."""


class Kind(StrEnum):
    """The kind of an entry. FIFOs, sockets and devices are SPECIAL and never opened."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    SPECIAL = "special"


class Entry(NamedTuple):
    """One name of a folder listing, by lstat.

    Times are nanoseconds since the epoch, `size` is in bytes, `mode` is the whole st_mode. For a subfolder only
    `name` and the type bits of `mode` are set, the rest is 0: its own listing has its metadata.
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
        """The kind, from the mode."""
        return _KINDS.get(self[2] & TYPE_BITS, Kind.SPECIAL)


TYPE_BITS = 0o170000
"""The type bits of an st_mode."""
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.SYMLINK}


def kind_of(mode: int) -> Kind:
    """Return the kind for an st_mode."""
    return _KINDS.get(mode & TYPE_BITS, Kind.SPECIAL)


def kept_mode(mode: int, *, setuid: bool = False) -> int:
    """Return the permission bits for the mirror: files keep setuid and setgid only if `setuid`.

    A copied setuid program runs with its owner's rights; on folders, setgid only passes on a group.
    """
    bits = stat.S_IMODE(mode)
    return bits if setuid or stat.S_ISDIR(mode) else bits & ~(stat.S_ISUID | stat.S_ISGID)


def is_reserved(path: bytes) -> bool:
    """Return whether a path below a root has a name reserved for Truecopy."""
    if STATE_FOLDER not in path:
        return False
    return path == STATE_FOLDER or path.rpartition(b"/")[2].startswith(TEMP_PREFIX)


def permissions(mode: int) -> str:
    """Format permission bits for logs: octal without a prefix, such as `644` or `2755`."""
    return f"{stat.S_IMODE(mode):03o}"


def printable(path: bytes) -> str:
    """Return a path with escapes for bytes that are not UTF-8, control and formatting characters.

    It has no line end or terminal sequence. Reversible only with `base64_of`.
    """
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def base64_of(path: bytes) -> str | None:
    """Return the base64 form of a path if `printable` changes it, otherwise None."""
    return None if printable(path).encode() == path else base64.b64encode(path).decode("ascii")


class FileId(NamedTuple):
    """Device and inode: the identity of a file while it exists.

    Never stored: many file systems get another device number with each mount.
    """

    device: int
    inode: int


def inode_key(inode: int) -> bytes:
    """Return an inode number as bytes for SQLite, whose integers are signed."""
    return inode.to_bytes(8, "big")


def file_key(file: FileId) -> bytes:
    """Return a file id as bytes for SQLite; `file_of_key` is the inverse."""
    return inode_key(file.device) + inode_key(file.inode)


def file_of_key(key: bytes) -> FileId:
    """Return the file id of a `file_key`."""
    return FileId(int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big"))


def parent_of(path: bytes) -> bytes:
    """Return the path of the folder above; empty for the root and what lies in it."""
    return path.rpartition(b"/")[0]


def join(folder: bytes, name: bytes) -> bytes:
    """Join a folder's path below the root (empty for the root itself) with one name."""
    return folder + b"/" + name if folder else name
