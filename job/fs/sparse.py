"""Sparse files: find holes, write with holes, and hash without reading zeros.

File systems have reported holes for data that was not on disk yet. A file changed within the last minute is therefore
synced first; on unreliable file systems holes are used only after a minute without change. The first, middle and last
block of each hole are always read.

A file that is nearly all holes gets a checksum of its data blocks, because hashing 15 TiB of zeros takes hours. Hashed
are the offset and content of each block of 4096 bytes that is not all zeros (the last one padded with zeros), then the
file size; numbers have eight bytes, big-endian. The checksum does not depend on the positions of the holes.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from job.errors import ChangedWhileReadError
from job.fs.dircursor import closing_fd, open_name
from job.fs.mounts import mount_of
from job.fs.own_files import write_all

BLOCK = 4096
ZERO_BLOCK = bytes(BLOCK)
SECTOR = 512
"""The unit of st_blocks on every file system."""
_WORTH_BYTES = 1 << 20
"""A file with fewer bytes in holes is read whole, which is faster than finding them."""
_PROBE_BYTES = 1 << 20
_SMALL_HOLE = 64 << 10
"""Smaller holes are read like data, which is as fast as checking them."""
_LONG_BYTES = 64 << 20
"""Maximum length of a data range, so that callers notice a stop soon."""
_RELIABLE = {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay"}
"""File systems with correct hole maps after a sync. An overlay uses the map of the file system below it."""
_SETTLED_NS = 60_000_000_000
_READ_WHOLE_BYTES = 1 << 30
"""Up to this many bytes in holes, a file with an unreliable map is read whole."""
_MOST_UNREPORTED_BYTES = 1 << 40
_MOST_COMPRESSED = 64
"""No file system compresses by a higher factor; a file with less allocated space has holes."""


class Piece(NamedTuple):
    """A range of a file, from one multiple of `BLOCK` to another or to the end."""

    start: int
    end: int
    hole: bool


class HoleWithDataError(OSError):
    """A file system reports a hole where the file has data, so its hole map of this file is wrong."""


class SparseLayout:
    """The pieces of a range of one open file. Changes the file offset."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        """`start` is a multiple of `BLOCK`."""
        self._descriptor = descriptor
        self._start = start
        self._size = end

    @classmethod
    def of(cls, descriptor: int, found: os.stat_result, *, ours: bool = False) -> "SparseLayout | None":
        """Return the layout of an open file; None if it has few holes or must be read whole.

        `ours`: the file was written and synced by Truecopy. Raises `ChangedWhileReadError` for a huge, recently changed
        file on an unreliable file system.
        """
        saved = found.st_size - allocated_bytes(found)
        if saved < _WORTH_BYTES:
            return None
        if ours or time.time_ns() - found.st_ctime_ns >= _SETTLED_NS:
            return cls(descriptor, 0, found.st_size)
        # Not cached: another file system may get the same device number while the service runs.
        mount = mount_of(descriptor)
        kind = mount.type if mount else ""
        if kind in _RELIABLE:
            with suppress(OSError):  # unwritten data may be reported as a hole
                os.fdatasync(descriptor)
                return cls(descriptor, 0, found.st_size)
        if saved < _READ_WHOLE_BYTES:
            return None
        raise ChangedWhileReadError(
            f"it was changed within the last minute, and what its file system ({kind or 'of an unknown type'}) says of "
            f"its {saved:,} bytes in holes is believed after a minute only; the next cycle reads it"
        )

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces in order. Raises `OSError`, and `HoleWithDataError` for a hole with data."""
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
        """Yield the reported lengths of the holes; 0 between adjacent ranges of data."""
        at = self._start
        for start, end in self._data():
            yield start - at
            at = end
        yield self._size - at

    def _data(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of data, merged across small holes up to `_LONG_BYTES`."""
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
                if error.errno == errno.ENXIO:  # a hole up to the end
                    return
                if error.errno == errno.EINVAL:  # not supported
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


def is_all_zeros(name: bytes, folder: int) -> bool:
    """Return whether a file of an open folder has bytes, and all are zeros. Its first byte mostly tells."""
    with suppress(OSError), closing_fd(open_name(name, folder)) as descriptor:
        at, size = 0, os.fstat(descriptor).st_size
        while at < size:
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    break
            content = os.pread(descriptor, _PROBE_BYTES if at else BLOCK, at)
            if content.strip(b"\0"):
                return False
            at += len(content) or size
        return size > 0
    return False


def allocated_bytes(found: os.stat_result) -> int:
    """Return the bytes allocated to a file."""
    return found.st_blocks * SECTOR


def check_holes(found: os.stat_result, holes: int) -> None:
    """Raise `OSError` (EFBIG) if a file is nearly all holes, but too few of them are reported to read the rest."""
    allocated = allocated_bytes(found)
    unreported = found.st_size - allocated - holes
    if unreported > _MOST_UNREPORTED_BYTES and unreported > _MOST_COMPRESSED * allocated:
        why = (
            f"it has {found.st_size:,} bytes in {allocated:,} on the disk, and its file system does not tell which "
            "of them are holes, so that all would have to be read; make it smaller or exclude it"
        )
        raise OSError(errno.EFBIG, why)


_PIECE = 16 * BLOCK
_ZERO_PIECE = bytes(_PIECE)


class SparseWriter:
    """Writes one file from its offset, leaving holes for zeros. The caller sets the length of a file ending in one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def skip(self, count: int) -> None:
        """Leave a hole. Raises `OSError`."""
        os.lseek(self._descriptor, count, os.SEEK_CUR)

    def write(self, chunk: bytes | memoryview) -> None:
        """Write a chunk, blocks of zeros as holes. Raises `OSError`."""
        for start in range(0, len(chunk), _PIECE):
            piece = bytes(chunk[start : start + _PIECE])
            if piece == _ZERO_PIECE[: len(piece)]:
                os.lseek(self._descriptor, len(piece), os.SEEK_CUR)
            else:
                self._write_blocks(piece)

    def _write_blocks(self, piece: bytes) -> None:
        begun = 0
        for start in range(0, len(piece), BLOCK):
            block = piece[start : start + BLOCK]
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
    """The common interface of hashlib and blake3."""

    def update(self, data: memoryview | bytes, /) -> object:
        """Add content."""

    def hexdigest(self) -> str:
        """Return the digest."""


class WholeDigest:
    """A checksum of the whole content."""

    step = len(_ZEROS)
    """Maximum `count` of `skip`, so that a stop is noticed soon."""

    def __init__(self, digest: Hash) -> None:
        self._digest = digest
        self.update = digest.update
        self.hexdigest = digest.hexdigest

    def skip(self, count: int) -> None:
        """Add zeros, at most `step` of them."""
        self._digest.update(_ZEROS[:count])


class SparseDigest:
    """A checksum of the blocks that are not all zeros."""

    step = 1 << 63
    """Holes of any length take no time."""

    def __init__(self, digest: Hash) -> None:
        self._digest = digest
        self._at = 0
        self._rest = b""

    def update(self, data: memoryview | bytes) -> None:
        """Add content."""
        content = self._rest + bytes(data)
        whole = len(content) - len(content) % BLOCK
        for start in range(0, whole, BLOCK):
            self._take(content[start : start + BLOCK])
        self._rest = content[whole:]

    def skip(self, count: int) -> None:
        """Add zeros."""
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
        """Return the digest; nothing may be added after it."""
        size, rest = self._at + len(self._rest), self._rest
        if rest:
            self._take(rest.ljust(BLOCK, b"\0"))
        self._digest.update(size.to_bytes(8, "big"))
        return self._digest.hexdigest()


def sparse_digests(start: Callable[[bytes], Hash]) -> Callable[[bytes], SparseDigest]:
    """Return a function that starts a `SparseDigest`, on a hash made by `start`, with the first content."""

    def start_with(content: bytes) -> SparseDigest:
        digest = SparseDigest(start(b""))
        digest.update(content)
        return digest

    return start_with
