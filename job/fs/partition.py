"""Parts: the names of a huge folder, cut into heaps that can be seen to one after the other, in any process.

Which part a name belongs to is told by the name alone. With twice as many parts each one falls in two: so what is known
of part `p` of few is also known of the parts of more that give `p` when divided by the few.
"""

import errno
import zlib
from collections.abc import Callable, Iterable
from typing import TypeAlias

from job.core.entry import STATE_FOLDER
from job.fs.large_dir import has_name, names_in
from job.fs.listing import CHUNK

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


def heaps(source: int, mirror: int, sorter: Sorter, breathe: Callable[[], None], expected: int = 0) -> list[Names]:
    """Sort the names of an open source folder, `expected` to have so many, and of its mirror into parts.

    `breathe` is called now and then; what it raises ends it. Raises `OSError`.
    """
    found = 0
    for names in names_in(source):
        breathe()
        found += len(names)
        sorter.add(names)
    if expected and not found:
        raise OSError(errno.EIO, f"its listing is empty now, though it had {expected} names a moment ago")
    for names in names_in(mirror):
        breathe()
        # What is on both sides is there already; and nearly all of it is.
        sorter.add([name for name in names if name != STATE_FOLDER and not has_name(source, name)])
    return sorter.parts()
