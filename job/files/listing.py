"""List one open folder as plain values, by lstat through the descriptor."""

import hashlib
import marshal
import os
import stat
from typing import NamedTuple

from job.core.entry import STATE_FOLDER, Entry
from job.core.record import Stamp

_MARSHAL_VERSION = 2
"""From version 3 on the bytes depend on reference counts."""


class Listing(NamedTuple):
    """One folder of a source: everything in scope in it, sorted by name."""

    path: bytes
    entries: list[Entry]
    folders: list[bytes]
    """Names of the subfolders to go on with."""
    folder: os.stat_result
    """The folder itself."""
    fingerprint: bytes
    """Equal only if nothing in the listing and nothing of the folder itself moved, under the same rules."""
    unreadable: list[tuple[bytes, OSError]]
    """Names that could be listed but not examined: unknown, never gone."""


class Unlisted(NamedTuple):
    """A folder that could not be read; what is below it is unknown, never gone."""

    path: bytes
    error: OSError


def list_entries(folder: int) -> tuple[list[Entry], list[tuple[bytes, OSError]]]:
    """List an open folder, sorted by name; subfolders only by name, inode and type (see `Entry`)."""
    entries: list[Entry] = []
    unreadable: list[tuple[bytes, OSError]] = []
    with os.scandir(folder) as found:
        for item in found:
            name = os.fsencode(item.name)
            try:
                seen = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                unreadable.append((name, error))
                continue
            entries.append(entry_of(name, seen))
    entries.sort()
    return entries, unreadable


def entry_of(name: bytes, seen: os.stat_result) -> Entry:
    """Make an entry of an lstat."""
    mode = seen.st_mode
    if stat.S_ISDIR(mode):
        return Entry(name, seen.st_ino, stat.S_IFDIR, 0, 0, 0, 0, 0)
    return Entry(name, seen.st_ino, mode, seen.st_uid, seen.st_gid, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def stamp_of(folder: os.stat_result) -> Stamp:
    """Make the stamp of a folder's own stat."""
    of_itself = folder.st_ino, folder.st_mode, folder.st_uid, folder.st_gid, folder.st_mtime_ns, folder.st_ctime_ns
    return b"%d %d %d %d %d %d" % of_itself


def fingerprint_of(entries: list[Entry], salt: bytes = b"") -> bytes:
    """Hash a sorted listing, 16 bytes."""
    digest = hashlib.blake2b(salt, digest_size=16)
    digest.update(marshal.dumps([tuple(entry) for entry in entries], _MARSHAL_VERSION))
    return digest.digest()


def mirror_fingerprint(entries: list[Entry]) -> bytes:
    """Hash a mirror listing, our own state folder left out: it changes with every cycle."""
    return fingerprint_of([entry for entry in entries if entry.name != STATE_FOLDER])
