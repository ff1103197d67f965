"""Read, sum up and partition the names of a huge folder, without holding its listing in memory.

Names are read in chunks. The index has one sum over the rows of a huge mirror folder, because sums of parts, which
several processes compute in any order, add up to the sum of the whole folder.

Names are divided into parts by their checksum alone. The number of parts is a power of two: with twice as many, each
part divides in two, so part `p` of `n` has all names of the parts of a larger number that equal `p` modulo `n`.
"""

import errno
import hashlib
import marshal
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import add
from typing import Any, TypeAlias
from zlib import crc32

from job.core.entry import STATE_FOLDER, TEMP_PREFIX
from job.fs.dircursor import open_folder
from job.fs.listing import AT_ONCE, CHUNK, Row, Shared, Unreadable, read_rows, row_of, scan
from job.fs.rights import in_writable

_MARSHAL_VERSION = 2

Sums: TypeAlias = tuple[int, ...]
"""Sums over rows in any order: number of rows, sum of checksums, sum of each number."""
NO_ROWS: Sums = (0,) * 9


def names_in(folder: int) -> Iterator[list[bytes]]:
    """Yield the names in an open folder, in chunks. Raises `OSError`."""
    with scan(folder) as found:
        while names := [item.name.encode("utf-8", "surrogateescape") for item in islice(found, CHUNK)]:
            yield names


def has_name(folder: int, name: bytes) -> bool:
    """Return whether an open folder has a name. Raises `OSError` if that cannot be found out."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def name_exists(folder: int, name: bytes) -> bool:
    """Return whether an open folder has a name; True if that cannot be found out."""
    try:
        return has_name(folder, name)
    except OSError:
        return True


def count_names(folder: int) -> int:
    """Count the names in an open folder. Raises `OSError`."""
    with scan(folder) as found:
        return sum(1 for _ in found)


def stat_names(
    folder: int, names: Iterable[bytes], unreadable: Unreadable, linked: dict[bytes, Shared] | None = None
) -> list[Row]:
    """Return rows of names in an open folder by lstat, as a listing does; missing names are left out.

    `linked` gets the names of files with several hard links.
    """
    rows: list[Row] = []
    for name in names:
        try:
            seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
            row = row_of(name, seen)
            rows.append(row)
            if linked is not None and seen.st_nlink > 1 and row[1]:
                linked[name] = Shared(seen.st_dev, seen.st_nlink)
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append((name, error))
    return rows


def sum_rows(rows: Sequence[Row]) -> Sums:
    """Sum rows or entries of a mirror folder, without the state folder, which changes with every cycle."""
    plain: list[Any] = [tuple(row) for row in rows if row[0] != STATE_FOLDER]
    if not plain:
        return NO_ROWS
    _, *numbers = zip(*plain, strict=True)
    checksums = sum([crc32(marshal.dumps(row, _MARSHAL_VERSION)) for row in plain])
    return (len(plain), checksums, *map(sum, numbers))


def add_sums(one: Sums, other: Sums) -> Sums:
    """Add the sums of two parts."""
    return tuple(map(add, one, other))


def sum_folder(folder: int) -> Sums | None:
    """Sum an open mirror folder; None if a name in it could not be examined. Raises `OSError`."""
    total, unreadable = NO_ROWS, Unreadable()
    with scan(folder) as found:
        while items := list(islice(found, AT_ONCE)):
            total = add_sums(total, sum_rows(read_rows(items, unreadable)))
    return None if unreadable else total


def fingerprint_of_sums(sums: Sums) -> bytes:
    """Hash the sums of a mirror folder to 16 bytes."""
    return hashlib.blake2b(marshal.dumps(sums, _MARSHAL_VERSION), digest_size=16).digest()


_TEMP = re.compile(re.escape(TEMP_PREFIX) + rb"[0-9a-f]{8}-[0-9a-f]{1,16}")


def is_temp_name(name: bytes) -> bool:
    """Return whether a name is that of a temp or of a staged folder."""
    return _TEMP.fullmatch(name) is not None


def staged_prefix(cycle_id: str) -> bytes:
    """Return the beginning of the names of all folders that are staged in a cycle, by any of its processes."""
    return b"%s%s-" % (TEMP_PREFIX, hashlib.blake2b(cycle_id.encode(), digest_size=4).hexdigest().encode())


def remove_temps(folder: int) -> bool:
    """Remove the temps in an open mirror folder; True if there were any. Raises `OSError`."""
    prefix = os.fsdecode(TEMP_PREFIX)
    with scan(folder) as found:
        temps = [each.name for each in found if each.name.startswith(prefix) and not each.is_dir(follow_symlinks=False)]
    for name in temps:
        os.unlink(name, dir_fd=folder)
    return bool(temps)


def remove_staged(name: bytes, parent: int, inode: int, *, mixed: bool = False) -> bool:
    """Remove the staged folder `name` with this inode number, and the files in it; False if it is another folder.

    Nothing is removed from one that holds what no staged folder does, unless `mixed`: then its files are, and `OSError`
    is raised for the rest. Raises `OSError`.
    """
    if not is_temp_name(name):
        return False
    folder = open_folder(name, parent)
    try:
        with scan(folder) as found:
            entries = {each.name: each.is_file(follow_symlinks=False) for each in found}
        if os.fstat(folder).st_ino != inode or not (mixed or all(entries.values())):
            return False
        for file in [each for each, is_file in entries.items() if is_file]:
            os.unlink(file, dir_fd=folder)
    finally:
        os.close(folder)
    in_writable(parent, partial(os.rmdir, name, dir_fd=parent))
    return True


PackedNames: TypeAlias = tuple[bytes, ...]
"""Names of one part, compressed to a few bytes each."""

_MAX_PARTITIONS = 1 << 16
"""The same limit as in the index."""
_MIN_PARTITIONS = 2
"""One part would be an ordinary folder, whose mirror fingerprint is computed differently."""
_SEPARATOR = b"/"
_PIECE_BYTES = 8 << 10
_ZLIB_LEVEL = 1


def partition_count(names: int, known: int) -> int:
    """Return the number of parts for a folder of so many names that had `known` parts before; a power of two."""
    partitions = _MIN_PARTITIONS
    while partitions < _MAX_PARTITIONS and (partitions * (CHUNK // 4) < names or partitions < known):
        partitions *= 2
    return partitions


class Partitioner:
    """Divides names into parts and compresses them."""

    def __init__(self, partitions: int, key: Callable[[bytes], bytes] | None = None) -> None:
        """`key` is equal for names that must be in one part."""
        self._key = key
        self._open_pieces = [bytearray() for _ in range(partitions)]
        self._packed: list[list[bytes]] = [[] for _ in range(partitions)]

    def add(self, names: Iterable[bytes]) -> None:
        """Add names."""
        pieces, mask, checksum = self._open_pieces, len(self._open_pieces) - 1, zlib.crc32
        key = self._key
        for name in names:
            piece = pieces[checksum(key(name) if key else name) & mask]
            piece += name
            piece += _SEPARATOR
        for number, piece in enumerate(pieces):
            if len(piece) >= _PIECE_BYTES:
                self._pack(number, piece)

    def partitions(self) -> list[PackedNames]:
        """Return all parts; no name can be added afterwards."""
        for number, piece in enumerate(self._open_pieces):
            if piece:
                self._pack(number, piece)
        return [tuple(pieces) for pieces in self._packed]

    def _pack(self, number: int, piece: bytearray) -> None:
        self._packed[number].append(zlib.compress(piece, _ZLIB_LEVEL))
        piece.clear()


def unpack_names(part: PackedNames) -> list[bytes]:
    """Return the names of a part, sorted, without duplicates."""
    names: set[bytes] = set()
    for piece in part:
        names.update(zlib.decompress(piece).split(_SEPARATOR))
    names.discard(b"")
    return sorted(names)


def partition_names(
    source: int, mirror: int, sorter: Partitioner, checkpoint: Callable[[], None], expected: int = 0
) -> list[PackedNames]:
    """Divide the names of an open source folder, `expected` to have so many, and of its mirror into parts.

    `checkpoint` is called regularly, and may raise to stop. Raises `OSError`.
    """
    found = 0
    for names in names_in(source):
        checkpoint()
        found += len(names)
        sorter.add(names)
    if expected and not found:
        raise OSError(errno.EIO, f"its listing is empty now, though it had {expected} names a moment ago")
    for names in names_in(mirror):
        checkpoint()
        # Names on both sides, which are nearly all, are added already.
        sorter.add([name for name in names if name != STATE_FOLDER and not name_exists(source, name)])
    return sorter.partitions()
