"""Go through a huge folder without holding it: by names in chunks, then name by name; added up where order would cost.

What the index knows of a huge mirror folder is a sum over its rows: parts of the folder, visited by different processes
one after the other, add up to the same as one pass over the whole, in whatever order the names come.

Parts: the names of a huge folder, cut into heaps that can be seen to one after the other, in any process.

Which part a name belongs to is told by the name alone. With twice as many parts each one falls in two: so what is known
of part `p` of few is also known of the parts of more that give `p` when divided by the few.
"""

import errno
import hashlib
import marshal
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import add
from typing import Any, TypeAlias
from zlib import crc32

from job.core.entry import STATE_FOLDER, TEMP_PREFIX
from job.fs.listing import AT_ONCE, CHUNK, Row, Shared, Unreadable, read_rows, row_of, scan

_MARSHAL_VERSION = 2

Sums: TypeAlias = tuple[int, ...]
"""Rows added up, whatever their order: their number, their checksums, and each of their numbers."""
NOTHING: Sums = (0,) * 9


def names_in(folder: int) -> Iterator[list[bytes]]:
    """Give the names in an open folder, some at a time. Raises `OSError`."""
    with scan(folder) as found:
        while names := [item.name.encode("utf-8", "surrogateescape") for item in islice(found, CHUNK)]:
            yield names


def has_name(folder: int, name: bytes) -> bool:
    """Tell whether an open folder has a name; if that cannot be found out, it is taken to have it."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def count_in(folder: int) -> int:
    """Count the names in an open folder. Raises `OSError`."""
    with scan(folder) as found:
        return sum(1 for _ in found)


def rows_named(
    folder: int, names: Iterable[bytes], unreadable: Unreadable, linked: dict[bytes, Shared] | None = None
) -> list[Row]:
    """Examine names of an open folder by lstat, as a listing does; those that are not there are left out.

    `linked` takes the names that share their file with others.
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


def sums_of(rows: Sequence[Row]) -> Sums:
    """Add up rows or entries of a mirror folder; our own state folder is left out, as it changes with every cycle."""
    plain: list[Any] = [tuple(row) for row in rows if row[0] != STATE_FOLDER]
    if not plain:
        return NOTHING
    _, *numbers = zip(*plain, strict=True)
    checksums = sum([crc32(marshal.dumps(row, _MARSHAL_VERSION)) for row in plain])
    return (len(plain), checksums, *map(sum, numbers))


def added(one: Sums, other: Sums) -> Sums:
    """Add what two parts of a folder add up to."""
    return tuple(map(add, one, other))


def whole_sums(folder: int) -> Sums | None:
    """Add up an open mirror folder; None if a name in it could not be examined. Raises `OSError`."""
    total, unreadable = NOTHING, Unreadable()
    with scan(folder) as found:
        while items := list(islice(found, AT_ONCE)):
            total = added(total, sums_of(read_rows(items, unreadable)))
    return None if unreadable else total


def fingerprint_of_sums(sums: Sums) -> bytes:
    """Hash what a mirror folder adds up to; 16 bytes."""
    return hashlib.blake2b(marshal.dumps(sums, _MARSHAL_VERSION), digest_size=16).digest()


def sweep_temps(folder: int) -> bool:
    """Remove the temps in an open mirror folder; True if there were any. Raises `OSError`."""
    prefix = os.fsdecode(TEMP_PREFIX)
    with scan(folder) as found:
        temps = [each.name for each in found if each.name.startswith(prefix) and not each.is_dir(follow_symlinks=False)]
    for name in temps:
        os.unlink(name, dir_fd=folder)
    return bool(temps)


Names: TypeAlias = tuple[bytes, ...]
"""Names of one part, packed: a few bytes each."""

_MOST = 1 << 16
"""As the index has it."""
_FEWEST = 2
"""One part would be an ordinary folder, whose mirror is remembered in another way."""
_BETWEEN = b"/"
_PIECE_BYTES = 8 << 10
_FAST = 1


def parts_for(names: int, known: int) -> int:
    """Tell how many parts a folder of so many names is to have, if it had `known` before; a power of two."""
    parts = _FEWEST
    while parts < _MOST and (parts * (CHUNK // 4) < names or parts < known):
        parts *= 2
    return parts


class Sorter:
    """Sorts names into parts, and packs them as they come."""

    def __init__(self, parts: int, key: Callable[[bytes], bytes] | None = None) -> None:
        """`key` is equal for names that have to be in one part."""
        self._key = key
        self._near = [bytearray() for _ in range(parts)]
        self._packed: list[list[bytes]] = [[] for _ in range(parts)]

    def add(self, names: Iterable[bytes]) -> None:
        """Take names in."""
        near, mask, checksum = self._near, len(self._near) - 1, zlib.crc32
        key = self._key
        for name in names:
            heap = near[checksum(key(name) if key else name) & mask]
            heap += name
            heap += _BETWEEN
        for number, heap in enumerate(near):
            if len(heap) >= _PIECE_BYTES:
                self._pack(number, heap)

    def parts(self) -> list[Names]:
        """Give all parts; nothing can be added any more."""
        for number, heap in enumerate(self._near):
            if heap:
                self._pack(number, heap)
        return [tuple(pieces) for pieces in self._packed]

    def _pack(self, number: int, heap: bytearray) -> None:
        self._packed[number].append(zlib.compress(heap, _FAST))
        heap.clear()


def names_of(part: Names) -> list[bytes]:
    """Unpack the names of a part, sorted, each of them once."""
    names: set[bytes] = set()
    for piece in part:
        names.update(zlib.decompress(piece).split(_BETWEEN))
    names.discard(b"")
    return sorted(names)


def heaps(source: int, mirror: int, sorter: Sorter, checkpoint: Callable[[], None], expected: int = 0) -> list[Names]:
    """Sort the names of an open source folder, `expected` to have so many, and of its mirror into parts.

    `checkpoint` is called now and then; what it raises ends it. Raises `OSError`.
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
        # What is on both sides is there already; and nearly all of it is.
        sorter.add([name for name in names if name != STATE_FOLDER and not has_name(source, name)])
    return sorter.parts()
