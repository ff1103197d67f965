"""Checksums of files with holes: with their zeros, as any tool makes them, or of the blocks that are not zeros.

No checksum of 15 TiB can be made in less than hours, whatever they are. So a file that is holes nearly all over gets
one that passes over blocks of zeros: of each block of 4096 bytes that has anything else in it, its offset as eight
bytes and the block are hashed, the last one filled up with zeros, and in the end the size of the file as eight bytes
(big-endian all). It says as much of the content; where holes are makes no difference to it.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from job.fs.holes import BLOCK, ZERO_BLOCK

_ZEROS = memoryview(bytes(1 << 20))


class Hash(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: memoryview | bytes, /) -> object:
        """Take in more content."""

    def hexdigest(self) -> str:
        """Give the digest."""


class Filled:
    """A checksum of a whole content."""

    step = len(_ZEROS)
    """At most so many zeros are hashed by one call, so that a stop is noticed soon."""

    def __init__(self, digest: Hash) -> None:
        self._digest = digest
        self.update = digest.update
        self.hexdigest = digest.hexdigest

    def skip(self, count: int) -> None:
        """Take in zeros, at most `step` of them."""
        self._digest.update(_ZEROS[:count])


class Blocks:
    """A checksum of blocks that are not zeros."""

    step = 1 << 63
    """Holes of any length take no time."""

    def __init__(self, digest: Hash) -> None:
        self._digest = digest
        self._at = 0
        self._rest = b""

    def update(self, data: memoryview | bytes) -> None:
        """Take in more content."""
        content = self._rest + bytes(data)
        whole = len(content) - len(content) % BLOCK
        for start in range(0, whole, BLOCK):
            self._take(content[start : start + BLOCK])
        self._rest = content[whole:]

    def skip(self, count: int) -> None:
        """Take in zeros."""
        if self._rest:
            filling = min(count, BLOCK - len(self._rest))
            self.update(bytes(filling))
            count -= filling
        whole = count - count % BLOCK
        self._at += whole
        self._rest += bytes(count - whole)

    def _take(self, block: bytes) -> None:
        if block != ZERO_BLOCK:
            self._digest.update(self._at.to_bytes(8, "big"))
            self._digest.update(block)
        self._at += BLOCK

    def hexdigest(self) -> str:
        """Give the digest of all that was taken in; nothing may be taken in after it."""
        size, rest = self._at + len(self._rest), self._rest
        if rest:
            self._take(rest.ljust(BLOCK, b"\0"))
        self._digest.update(size.to_bytes(8, "big"))
        return self._digest.hexdigest()


def blocks_of(start: Callable[[bytes], Hash], content: bytes) -> Blocks:
    """Begin a checksum of blocks that are not zeros with the first of the content."""
    digest = Blocks(start(b""))
    digest.update(content)
    return digest


def of_blocks(start: Callable[[bytes], Hash]) -> Callable[[bytes], Blocks]:
    """Give what begins a checksum of blocks, made by another one."""
    return partial(blocks_of, start)
