"""List one open folder as plain values, by lstat through the descriptor, and fingerprint the listing.

The scan needs no object per entry: a `Row` is a plain tuple with the fields of an `Entry`, in its order.
"""

import errno
import hashlib
import marshal
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from job.core.entry import STATE_FOLDER, TYPE_BITS, Entry, FileId
from job.core.file_systems import LeftOut
from job.core.outcome import Failure
from job.core.record import Stamp
from job.fs.dircursor import Folder, single

CHUNK = 16_384
"""Entries that are in memory at once. A folder with as many is huge: it is processed in parts."""
AT_ONCE = 1024
"""Entries that are examined at once: more of them do not fit the processor cache (0.6 of the time)."""
SHARE = 262_144
"""Entries of a huge folder in one share; several processes may scan shares of one folder."""

_MARSHAL_VERSION = 2
"""From version 3 on the bytes depend on reference counts."""
_FOLDER = stat.S_IFDIR
_REOPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

Row = tuple[bytes, int, int, int, int, int, int, int]
"""Name, inode, mode, uid, gid, size, mtime_ns, ctime_ns."""
Unreadable = list[tuple[bytes, OSError]]
"""Names that could be listed but not examined: unknown, never gone."""
Scope = Callable[[list[Row], list[bytes]], list[Row]]
"""Returns the rows in scope; its second argument has the names of the folders. The same list if all are in scope.

The rows of a folder that is not huge are sorted by name.
"""


class Huge(OSError):
    """A folder that is too large to hold in memory, and is processed in parts (`large_dir.py`)."""


class NameNotHeldError(OSError):
    """The mirror cannot hold this name, or treats it as equal to another one."""


class MirrorUnmountedError(OSError):
    """The file system that a folder's mirror lies on is not mounted."""


class MountMissingError(OSError):
    """A former mount point, now an empty folder of the file system above: the content of the mount is unknown."""

    failure = Failure.MOUNT_MISSING

    def __init__(self, kind: str) -> None:
        """`kind` is the type of the file system that was mounted."""
        was = f" ({kind} was)" if kind else ""
        text = f"nothing is mounted there any more{was} and it is empty: its mirror is left alone"
        super().__init__(errno.ENODEV, text)
        self.kind = kind

    def __reduce__(self) -> "tuple[type[MountMissingError], tuple[str]]":
        """Support pickling."""
        return MountMissingError, (self.kind,)


class Shared(NamedTuple):
    """Device and link count of a file with several hard links."""

    device: int
    """Of the file: mostly that of its folder, but the layers of an overlay have devices of their own."""
    names: int
    """Number of hard links."""


class Listing(NamedTuple):
    """One folder of a source: all entries in scope, sorted by name."""

    path: bytes
    entries: list[Entry]
    folders: list[bytes]
    """Names of the subfolders in scope."""
    folder: os.stat_result
    """The folder itself."""
    fingerprint: bytes
    """Equal only if neither the listing nor the folder itself changed, under the same rules."""
    unreadable: Unreadable
    linked: Mapping[bytes, Shared] = MappingProxyType({})
    """Names of files, symlinks and special files with several hard links; other names may be out of scope."""
    left_out: Sequence[LeftOut] = ()
    """The folder itself, or entries in it, left out for another reason than a pattern."""


class Found(NamedTuple):
    """Listing of an open folder."""

    entries: list[Entry]
    """Sorted by name."""
    unreadable: Unreadable
    linked: dict[bytes, Shared]
    """Names of files, symlinks and special files with several hard links; other names may be out of scope."""


class FolderScan(NamedTuple):
    """Scan of a folder, or of one share of a huge one."""

    fingerprint: bytes
    """That of the `Listing`, if there is only one share."""
    folders: list[bytes]
    """Names of the subfolders in scope."""
    entries: int
    """Number of entries in scope that are not folders."""
    bytes_before: int
    """Sum of their sizes, without those of `rows`."""
    unreadable: int
    shares: int = 1
    """Number of shares of the whole folder; set in the first one."""
    huge: bool = False
    """Whether the folder has more entries, in scope or not, than are held at once."""
    mount: str = ""
    """The type of the file system mounted at it, if that is in scope; empty for an ordinary folder."""
    left_out: Sequence[LeftOut] = ()
    """The folder itself, or entries in it, left out for another reason than a pattern."""
    rows: Sequence[Row] = ()
    """The rows that were hashed, unless the folder is huge: sizes of an unchanged folder are not needed."""
    salt: bytes = b""
    """Hashed before its entries: the rules, and the stat of the folder."""
    packed: bytes = b""
    """The rows as they were hashed, for `unpack_rows`, if a listing is made of nothing else; else empty."""

    @property
    def bytes(self) -> int:
        """Sum of their sizes."""
        return self.bytes_before + sum([row[5] for row in self.rows])


class Unlisted(NamedTuple):
    """A folder that could not be read; the content below it is unknown, never gone."""

    path: bytes
    error: OSError


def scan(folder: int) -> "AbstractContextManager[Iterator[os.DirEntry[str]]]":
    """List an open folder as it is now. Raises `OSError`.

    Some file systems (sshfs without its folder cache) list a folder once for each time it was opened, and show nothing
    after a rewind: so it is opened anew, unless this is the first listing by a descriptor of a `DirCursor`.
    """
    if isinstance(folder, Folder) and not folder.listed:
        folder.listed = True
        # A btrfs descriptor lists the folder as it was when opened, or last rewound.
        os.lseek(folder, 0, os.SEEK_SET)
        return os.scandir(folder)
    return _scan_anew(folder)


@contextmanager
def _scan_anew(folder: int) -> "Iterator[Iterator[os.DirEntry[str]]]":
    try:
        opened = os.open(".", _REOPEN, dir_fd=folder)
    except PermissionError:
        # To open by name needs the right to search, which the final mode of a mirror folder may lack.
        os.lseek(folder, 0, os.SEEK_SET)
        with os.scandir(folder) as found:
            yield found
        return
    try:
        with os.scandir(opened) as found:
            yield found
    finally:
        os.close(opened)  # only now: entries are examined by it


def read_rows(
    found: Iterable["os.DirEntry[str]"], unreadable: Unreadable, linked: dict[bytes, Shared] | None = None
) -> list[Row]:
    """Examine listed names by lstat; subfolders only by name and type (see `Entry`)."""
    rows: list[Row] = []
    for item in found:
        name = item.name.encode("utf-8", "surrogateescape")
        try:
            # The listing has the type: no lstat for a folder.
            seen = None if item.is_dir(follow_symlinks=False) else item.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append((name, error))
            continue
        if seen is None or (mode := seen.st_mode) & TYPE_BITS == _FOLDER:
            rows.append((name, 0, _FOLDER, 0, 0, 0, 0, 0))
        else:
            uid, gid, size = seen.st_uid, seen.st_gid, seen.st_size
            rows.append((name, seen.st_ino, mode, uid, gid, size, seen.st_mtime_ns, seen.st_ctime_ns))
            if linked is not None and seen.st_nlink > 1:
                linked[name] = Shared(seen.st_dev, seen.st_nlink)
    return rows


def entries_of(rows: Iterable[Row]) -> list[Entry]:
    """Convert rows to entries."""
    make = tuple.__new__
    return [make(Entry, row) for row in rows]


def list_entries(folder: int, scope: Scope | None = None) -> Found:
    """List the entries in scope of an open folder. Raises `Huge` or another `OSError`."""
    unreadable: Unreadable = []
    linked: dict[bytes, Shared] = {}
    with scan(folder) as found:
        rows, huge = _first_rows(found, unreadable, linked)
    if huge:
        raise Huge(errno.EFBIG, f"it has {CHUNK} entries or more")
    rows.sort()
    if scope:
        rows = scope(rows, _folders(rows))
    return Found(entries_of(rows), unreadable, linked)


def list_beside(folder: int, known: Mapping[bytes, Entry]) -> list[Entry]:
    """List an open folder, sorted by name; `known` entries with the same inode are not examined again.

    A change by another program is not noticed here, but differs from the record in the next cycle.
    """
    entries: list[Entry] = []
    others: list[os.DirEntry[str]] = []
    with scan(folder) as found:
        for item in found:
            entry = known.get(item.name.encode("utf-8", "surrogateescape"))
            if entry is not None and entry[1] == item.inode():
                entries.append(entry)
            else:
                others.append(item)
        entries += entries_of(read_rows(others, []))
    entries.sort()
    return entries


def row_of(name: bytes, seen: os.stat_result) -> Row:
    """Convert a stat to a row."""
    mode = seen.st_mode
    if mode & TYPE_BITS == _FOLDER:
        return name, 0, _FOLDER, 0, 0, 0, 0, 0
    return name, seen.st_ino, mode, seen.st_uid, seen.st_gid, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def entry_of(name: bytes, seen: os.stat_result) -> Entry:
    """Convert a stat to an entry."""
    return tuple.__new__(Entry, row_of(name, seen))


def file_at(name: bytes, folder: int) -> FileId | None:
    """Return the file that a name in an open folder has now; None if there is none.

    Raises `OSError`, and `ValueError` if it is no single name.
    """
    try:
        seen = os.stat(single(name), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return FileId(seen.st_dev, seen.st_ino)


def stamp_of(folder: os.stat_result) -> Stamp:
    """Return the stamp of a folder from its stat."""
    kept = folder.st_ino, folder.st_mode, folder.st_uid, folder.st_gid, folder.st_mtime_ns, folder.st_ctime_ns
    return marshal.dumps(kept, _MARSHAL_VERSION)


def fingerprint_of(rows: Sequence[Row | Entry], salt: bytes = b"") -> bytes:
    """Hash the rows or entries of a folder that is not huge, sorted; 16 bytes."""
    plain = [row if type(row) is tuple else tuple(row) for row in rows]
    return _hash(plain, salt)


def _hash(rows: Any, salt: bytes) -> bytes:
    return hash_packed(marshal.dumps(rows, _MARSHAL_VERSION), salt)


def hash_packed(packed: bytes, salt: bytes) -> bytes:
    """Hash packed rows as `fingerprint_of` hashes them before they are packed."""
    return hashlib.blake2b(salt + packed, digest_size=16).digest()


def unpack_rows(packed: bytes) -> list[Row]:
    """Return rows that were packed by `scan_folder`, in this process or a worker of it."""
    rows: list[Row] = marshal.loads(packed)  # noqa: S302  # it never left our processes
    return rows


def scan_folder(folder: int, salt: bytes, scope: Scope, share: int = 0) -> FolderScan:
    """Scan an open folder, or one share of a huge one. Raises `OSError`.

    A huge folder is hashed in the order in which it is listed, which no file system changes while the folder stays as
    it is; sorting it would need all of it in memory.
    """
    unreadable: Unreadable = []
    linked: dict[bytes, Shared] = {}
    with scan(folder) as found:
        if share:
            next(islice(found, share * SHARE - 1, None), None)
            return _scan_rest([], islice(found, SHARE), (salt, scope), unreadable)
        rows, huge = _first_rows(found, unreadable, linked)
        if huge:
            first = scope(rows, _folders(rows))
            seen = _scan_rest(first, islice(found, SHARE - CHUNK), (salt, scope), unreadable)
            return seen._replace(shares=1 + -(-sum(1 for _ in found) // SHARE))
    rows.sort()
    folders = _folders(rows)
    inside = scope(rows, folders)
    if inside is not rows:
        rows, folders = inside, _folders(inside)
    packed = marshal.dumps(rows, _MARSHAL_VERSION)
    return FolderScan(
        hash_packed(packed, salt),
        folders,
        len(rows) - len(folders),
        0,
        len(unreadable),
        rows=rows,
        salt=salt,
        packed=b"" if linked or unreadable else packed,
    )


def _folders(rows: list[Row]) -> list[bytes]:
    return [row[0] for row in rows if row[2] == _FOLDER]


def _first_rows(
    found: "Iterator[os.DirEntry[str]]", unreadable: Unreadable, linked: dict[bytes, Shared] | None = None
) -> tuple[list[Row], bool]:
    """Examine all of a folder, or its first `CHUNK` entries; True if it has that many."""
    items = list(islice(found, AT_ONCE))
    rows, read = read_rows(items, unreadable, linked), len(items)
    while len(items) == AT_ONCE and read < CHUNK:
        items = list(islice(found, AT_ONCE))
        rows += read_rows(items, unreadable, linked)
        read += len(items)
    return rows, read >= CHUNK


def _scan_rest(
    rows: list[Row], found: "Iterator[os.DirEntry[str]]", hashing: tuple[bytes, Scope], unreadable: Unreadable
) -> FolderScan:
    """Scan the rest of a huge folder, after `rows`."""
    salt, scope = hashing
    digest = hashlib.blake2b(salt, digest_size=16)
    folders: list[bytes] = []
    entries = size = 0
    more = True
    while more:
        digest.update(marshal.dumps(rows, _MARSHAL_VERSION))
        below = _folders(rows)
        folders += below
        entries += len(rows) - len(below)
        size += sum([row[5] for row in rows])
        items = list(islice(found, AT_ONCE))
        read = read_rows(items, unreadable)
        more, rows = bool(items), scope(read, _folders(read))
    return FolderScan(digest.digest(), folders, entries, size, len(unreadable), huge=True, salt=salt)


def whole_fingerprint(shares: Sequence[bytes]) -> bytes:
    """Join the fingerprints of all shares of a folder, in order."""
    return shares[0] if len(shares) == 1 else _hash(list(shares), b"")


def _without_state(rows: list[Row], _: list[bytes]) -> list[Row]:
    return [row for row in rows if row[0] != STATE_FOLDER]


def mirror_fingerprint_of(folder: int) -> bytes | None:
    """Hash the listing of an open mirror folder, without the state folder, which changes with every cycle.

    None if a name in it could not be examined. Raises `OSError`.
    """
    shares = [scan_folder(folder, b"", _without_state)]
    shares += [scan_folder(folder, b"", _without_state, share) for share in range(1, shares[0].shares)]
    return None if any(each.unreadable for each in shares) else whole_fingerprint([each.fingerprint for each in shares])


def mirror_fingerprint(entries: Sequence[Entry]) -> bytes:
    """Hash the listing of a mirror folder that is not huge, without the state folder."""
    return fingerprint_of([entry for entry in entries if entry.name != STATE_FOLDER])
