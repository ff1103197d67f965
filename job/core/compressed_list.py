"""Packed: a long list of plain values of which only a little lies unpacked, so that a million folders take little room.

A value is anything `marshal` takes: bytes, numbers, tuples of them. Paths that follow each other are much alike, so a
packed one takes a few bytes.
"""

import marshal
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

NEAR = 2048
"""Values that stay unpacked at least."""
_FAST = 1

Value = TypeVar("Value", bound=tuple[object, ...])


class CompressedList(Generic[Value]):
    """Values in order; appended and taken off at the end, or gone through from the beginning."""

    def __init__(self, values: Iterable[Value] = ()) -> None:
        self._near: list[Value] = []
        self._far: deque[bytes] = deque()
        self._count = 0
        self.extend(values)

    def __len__(self) -> int:
        """Count the values."""
        return self._count

    def __iter__(self) -> Iterator[Value]:
        """Go through all, the first one first; nothing may be appended or taken meanwhile."""
        for packed in self._far:
            yield from _unpacked(packed)
        yield from self._near

    def append(self, value: Value) -> None:
        """Add one at the end."""
        self._near.append(value)
        self._count += 1
        if len(self._near) >= 2 * NEAR:
            self._far.append(zlib.compress(marshal.dumps(self._near[:NEAR]), _FAST))
            del self._near[:NEAR]

    def extend(self, values: Iterable[Value]) -> None:
        """Add several at the end."""
        for value in values:
            self.append(value)

    def pop(self) -> Value:
        """Take the last one off. Raises `IndexError` if there is none."""
        self._fetch()
        value = self._near.pop()
        self._count -= 1
        return value

    def take(self, step: int, most: int) -> list[Value]:
        """Take off every `step`-th of those near the end, but at most so many; at least one if there is any."""
        self._fetch()
        some = slice(0, most * step, step)
        taken = self._near[some]
        del self._near[some]
        self._count -= len(taken)
        return taken

    def _fetch(self) -> None:
        if not self._near and self._far:
            self._near = _unpacked(self._far.pop())


def _unpacked(packed: bytes) -> list[Value]:
    values: list[Value] = marshal.loads(zlib.decompress(packed))  # noqa: S302  # made above, never left this process
    return values
