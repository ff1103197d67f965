"""A list of plain values that is compressed except for its end, so that a million folders need little memory.

A value is anything that `marshal` accepts. Consecutive paths are similar, so a compressed one takes a few bytes.
"""

import marshal
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

CHUNK = 2048
"""Values per chunk; at least so many stay uncompressed."""
_FAST = 1

Value = TypeVar("Value", bound=tuple[object, ...])


class CompressedList(Generic[Value]):
    """Values in order: appended and removed at the end, iterated from the beginning."""

    def __init__(self, values: Iterable[Value] = (), chunk: int = CHUNK) -> None:
        self._chunk = chunk
        self._tail: list[Value] = []
        self._chunks: deque[bytes] = deque()
        self._count = 0
        self.extend(values)

    def __len__(self) -> int:
        """Return the number of values."""
        return self._count

    def __iter__(self) -> Iterator[Value]:
        """Iterate from the first value; the list must not change during the iteration."""
        for compressed in self._chunks:
            yield from _decompress(compressed)
        yield from self._tail

    def append(self, value: Value) -> None:
        """Append one value."""
        self.extend((value,))

    def extend(self, values: Iterable[Value]) -> None:
        """Append several values, of which some at a time are uncompressed in memory."""
        waiting = iter(values)
        while some := [*islice(waiting, self._chunk)]:
            self._tail += some
            self._count += len(some)
            if len(self._tail) >= 2 * self._chunk:
                self._chunks.append(zlib.compress(marshal.dumps(self._tail[: self._chunk]), _FAST))
                del self._tail[: self._chunk]

    def pop(self) -> Value:
        """Remove and return the last value. Raises `IndexError` if the list is empty."""
        if not self._tail:
            self._fetch()
        value = self._tail.pop()
        self._count -= 1
        return value

    def take(self, step: int, most: int) -> list[Value]:
        """Remove and return every `step`-th value of the uncompressed end: up to `most`, and one if there is any."""
        self._fetch()
        some = slice(0, most * step, step)
        taken = self._tail[some]
        del self._tail[some]
        self._count -= len(taken)
        return taken

    def _fetch(self) -> None:
        if not self._tail and self._chunks:
            self._tail = _decompress(self._chunks.pop())


def _decompress(compressed: bytes) -> list[Value]:
    values: list[Value] = marshal.loads(zlib.decompress(compressed))  # noqa: S302  # made above, never left this process
    return values
