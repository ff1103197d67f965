"""Sparse files: find holes, write with holes, and hash without reading zeros.

File systems have reported holes where data was not on the disk yet (ZFS up to 2.2.1, btrfs). So a file that was changed
within the last minute is synced first; on other than the reliable file systems its holes are used only after a minute
without change. The first, middle and last block of each hole are read in any case.

A file that is nearly all holes gets a checksum of its data blocks, because hashing 15 TiB of zeros takes hours: for
each block of 4096 bytes with anything but zeros its offset (eight bytes) and the block (the last one padded with zeros)
are hashed, and at the end the size of the file (eight bytes, big-endian all). Where the holes are makes no difference.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from job.errors import ChangedWhileReadError
from job.fs.mounts import mount_of
from job.fs.small_files import write_all

BLOCK = 4096
ZERO_BLOCK = bytes(BLOCK)
SECTOR = 512
"""Of st_blocks, whatever the file system's own blocks are."""
_WORTH_BYTES = 1 << 20
"""With less in holes a file is read whole, which is faster than to ask."""
_SMALL_HOLE = 64 << 10
"""Smaller holes are read like data: that is as fast as a look at their edges."""
_LONG_BYTES = 64 << 20
"""A caller that has got no piece for so long cannot notice a stop."""
_RELIABLE = {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay"}
"""Whose maps are right as soon as the file was synced. An overlay passes on what the file system below it says, which
is one of the others nearly always.
"""
_SETTLED_NS = 60_000_000_000
_READ_WHOLE_BYTES = 1 << 30
"""So much that takes no room is read where the map is not believed."""
_MOST_UNREPORTED_BYTES = 1 << 40
_MOST_COMPRESSED = 64
"""No file system packs data into less than this part of its size; what takes less room has holes."""


class Piece(NamedTuple):
    """A range of a file, from one multiple of `BLOCK` to another or to the end."""

    start: int
    end: int
    hole: bool


class HoleWithDataError(OSError):
    """A file system tells of a hole where the file has data. Nothing that it says of that file can be believed."""


class TooSparseError(OSError):
    """To read a file would take days, and its file system does not tell which parts of it are holes."""


class SparseLayout:
    """The pieces of a range of one open file. Its descriptor is moved about."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        """Take a range, which begins at a multiple of `BLOCK`."""
        self._descriptor = descriptor
        self._start = start
        self._size = end

    @classmethod
    def of(cls, descriptor: int, found: os.stat_result, *, ours: bool = False) -> "SparseLayout | None":
        """Give the layout of an open file; None if the file has hardly any holes, or has to be read whole.

        `ours` is what was written and synced by Truecopy. Raises `ChangedWhileReadError` for a huge file that was
        changed just now, on a file system that is not reliable then.
        """
        saved = found.st_size - allocated_bytes(found)
        if saved < _WORTH_BYTES:
            return None
        if ours or time.time_ns() - found.st_ctime_ns >= _SETTLED_NS:
            return cls(descriptor, 0, found.st_size)
        # Not remembered: in the life of a service another file system may get the same device number.
        mount = mount_of(descriptor)
        kind = mount.type if mount else ""
        if kind in _RELIABLE and _is_synced(descriptor):
            return cls(descriptor, 0, found.st_size)
        if saved < _READ_WHOLE_BYTES:
            return None
        raise ChangedWhileReadError(
            f"it was changed within the last minute, and what its file system ({kind or 'of an unknown type'}) says of "
            f"its {saved:,} bytes in holes is believed after a minute only; the next cycle reads it"
        )

    def pieces(self) -> Iterator[Piece]:
        """Give the pieces in order. Raises `OSError`, or `HoleWithDataError` where a hole turns out to be none."""
        at = self._start
        for start, end in self._data():
            if start > at:
                self._check(at, start)
                yield Piece(at, start, hole=True)
            yield Piece(start, end, hole=False)
            at = end
        if at < self._size:
            self._check(at, self._size)
            yield Piece(at, self._size, hole=True)

    def holes(self) -> Iterator[int]:
        """Give the lengths of the holes, as they are told; 0 between two ranges of data."""
        at = self._start
        for start, end in self._data():
            yield start - at
            at = end
        yield self._size - at

    def _data(self) -> Iterator[tuple[int, int]]:
        """Give the ranges of data, with small holes between them taken in, as long as they are not too many."""
        begun, ended = -1, 0
        for start, end in self._extents():
            if begun >= 0 and (start - ended > _SMALL_HOLE or ended - begun > _LONG_BYTES):
                yield begun, ended
                begun = -1
            begun, ended = (start if begun < 0 else begun), end
        if begun >= 0:
            yield begun, ended

    def _extents(self) -> Iterator[tuple[int, int]]:
        at = self._start
        while at < self._size:
            try:
                data = os.lseek(self._descriptor, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from there on
                    return
                if error.errno == errno.EINVAL:  # it does not tell
                    data = at
                else:
                    raise
            if data >= self._size:
                return
            end = self._size
            with suppress(OSError):
                end = os.lseek(self._descriptor, data, os.SEEK_HOLE)
            if not at <= data < end:
                raise OSError(errno.EIO, f"the file system tells of data from {data} to {end}")
            start, end = max(at, data // BLOCK * BLOCK), min(self._size, -(-end // BLOCK) * BLOCK)
            yield start, end
            at = end

    def _check(self, start: int, end: int) -> None:
        for place in {start, (start + end) // (2 * BLOCK) * BLOCK, (end - 1) // BLOCK * BLOCK}:
            block = os.pread(self._descriptor, min(BLOCK, end - place), place)
            if block != ZERO_BLOCK[: len(block)]:
                why = f"the file system tells of a hole at byte {place}, where the file has data; look at its version"
                raise HoleWithDataError(errno.EIO, why)


def _is_synced(descriptor: int) -> bool:
    try:
        os.fdatasync(descriptor)
    except OSError:
        return False  # what could not be written is data still
    return True


def allocated_bytes(found: os.stat_result) -> int:
    """Give the bytes that a file takes on its disk."""
    return found.st_blocks * SECTOR


def check_holes(found: os.stat_result, holes: int) -> None:
    """Raise `TooSparseError` if a file is nearly all holes, and its file system tells of so few that it has no end."""
    allocated = allocated_bytes(found)
    unreported = found.st_size - allocated - holes
    if unreported > _MOST_UNREPORTED_BYTES and unreported > _MOST_COMPRESSED * allocated:
        why = (
            f"it has {found.st_size:,} bytes in {allocated:,} on the disk, and its file system does not tell which "
            "of them are holes, so that all would have to be read; make it smaller or exclude it"
        )
        raise TooSparseError(errno.EFBIG, why)


_BLOCK = 4096
_PIECE = 16 * _BLOCK
_ZERO_PIECE = bytes(_PIECE)


class SparseWriter:
    """Writes one file from where it stands, passing over zeros. What ends with a hole has to be cut to its length."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def skip(self, count: int) -> None:
        """Leave a hole. Raises `OSError`."""
        os.lseek(self._descriptor, count, os.SEEK_CUR)

    def write(self, chunk: bytes | memoryview) -> None:
        """Write what comes next. Raises `OSError`."""
        for start in range(0, len(chunk), _PIECE):
            piece = bytes(chunk[start : start + _PIECE])
            if piece == _ZERO_PIECE[: len(piece)]:
                os.lseek(self._descriptor, len(piece), os.SEEK_CUR)
            else:
                self._write_blocks(piece)

    def _write_blocks(self, piece: bytes) -> None:
        begun = 0
        for start in range(0, len(piece), _BLOCK):
            block = piece[start : start + _BLOCK]
            if block != _ZERO_PIECE[: len(block)]:
                continue
            if begun < start:
                write_all(self._descriptor, piece[begun:start])
            os.lseek(self._descriptor, len(block), os.SEEK_CUR)
            begun = start + len(block)
        if begun < len(piece):
            write_all(self._descriptor, piece[begun:])


_ZEROS = memoryview(bytes(1 << 20))


class Hash(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: memoryview | bytes, /) -> object:
        """Take in more content."""

    def hexdigest(self) -> str:
        """Give the digest."""


class WholeDigest:
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


class SparseDigest:
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


def start_sparse_digest(start: Callable[[bytes], Hash], content: bytes) -> SparseDigest:
    """Begin a checksum of blocks that are not zeros with the first of the content."""
    digest = SparseDigest(start(b""))
    digest.update(content)
    return digest


def sparse_digests(start: Callable[[bytes], Hash]) -> Callable[[bytes], SparseDigest]:
    """Give what begins a checksum of blocks, made by another one."""
    return partial(start_sparse_digest, start)
