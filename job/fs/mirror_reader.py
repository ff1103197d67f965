"""Read a mirror file beside its source and compare their bytes, so that the mirror need not be hashed."""

import os
from collections.abc import Callable
from contextlib import suppress

from job.core.entry import Entry
from job.errors import ChangedWhileReadError
from job.fs.dircursor import open_listed, unmoved
from job.fs.hashing_reader import BUFFER_BYTES, GUARDED_BYTES, PageCacheGuard
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from job.fs.sparse import Piece, SparseLayout

_CLOSED = -1
_ZEROS = bytes(BUFFER_BYTES)


class MirrorReader:
    """Reads one mirror file after the other. A file that cannot be read differs; no error is raised."""

    def __init__(self, metadata_writer: MetadataWriter) -> None:
        self._metadata_writer = metadata_writer
        self._buffer = bytearray()
        self._descriptor = _CLOSED
        self._cache_guard: PageCacheGuard | None = None
        self._same = False

    def open(self, listed: Entry, folder: int) -> None:
        """Begin with a mirror file."""
        self._name, self._cache_guard, self._same = listed.name, None, False
        with suppress(OSError, ChangedWhileReadError):
            self._descriptor, self._before = open_listed(listed, folder)
            self._begin()

    def _begin(self) -> None:
        size = self._before.st_size
        if size >= GUARDED_BYTES:
            self._cache_guard = PageCacheGuard(self._descriptor)
        self._same, self._done = True, 0

    def rewind(self) -> None:
        """Begin again with the same file."""
        if self._descriptor == _CLOSED:
            return
        if self._cache_guard is not None:
            self._cache_guard.leave()
        self._same = False
        with suppress(OSError):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._before = os.fstat(self._descriptor)
            self._begin()

    def close(self) -> None:
        """End with it."""
        if self._descriptor == _CLOSED:
            return
        if self._cache_guard is not None:
            self._cache_guard.leave()
        os.close(self._descriptor)
        self._descriptor = _CLOSED

    def take(self, chunk: memoryview | bytes) -> None:
        """Compare the next chunk of the source; `bytes` are its whole content."""
        if not self._same:
            return
        try:
            if isinstance(chunk, bytes):
                self._same = os.read(self._descriptor, len(chunk) + 1) == chunk
            else:
                self._same = self._matches(chunk)
            self._done += len(chunk)
        except OSError:
            self._same = False

    def skip(self, count: int, checkpoint: Callable[[int], object]) -> None:
        """Compare the next `count` bytes with zeros; `checkpoint` is called meanwhile."""
        if not self._same:
            return
        start, end = self._done, self._done + count
        try:
            # The mirror file was synced before it got its name, so its holes are reliable.
            pieces = SparseLayout(self._descriptor, start, end).pieces()
            self._same = all(piece.hole or self._is_zero(piece, checkpoint) for piece in pieces)
            os.lseek(self._descriptor, end, os.SEEK_SET)
            self._done = end
        except OSError:
            self._same = False
        if self._cache_guard is not None:
            self._cache_guard.leave()
            self._cache_guard = PageCacheGuard(self._descriptor, end)

    def _is_zero(self, piece: Piece, checkpoint: Callable[[int], object]) -> bool:
        for start in range(piece.start, piece.end, BUFFER_BYTES):
            checkpoint(0)
            wanted = min(BUFFER_BYTES, piece.end - start)
            if os.pread(self._descriptor, wanted, start) != _ZEROS[:wanted]:
                return False
        return True

    def _matches(self, chunk: memoryview) -> bool:
        if not self._buffer:
            self._buffer = bytearray(BUFFER_BYTES)
        if self._cache_guard is not None:
            self._cache_guard.arrive(self._done)
        wanted, got = memoryview(self._buffer)[: len(chunk)], 0
        while got < len(chunk):
            count = os.readv(self._descriptor, [wanted[got:]])
            if not count:
                return False
            got += count
        # A bytearray is compared by memcmp, a memoryview item by item.
        return self._buffer == chunk if got == BUFFER_BYTES else self._buffer[:got] == chunk

    def same(self) -> bool:
        """Return at the end whether the contents are equal and the mirror did not change meanwhile."""
        if not self._same:
            return False
        try:
            after = os.fstat(self._descriptor)
        except OSError:
            return False
        return self._done == after.st_size and unmoved(self._before, after)

    def alike(self, wanted: os.stat_result, xattrs: dict[bytes, bytes]) -> Entry | None:
        """Return the mirror file as it was read, if its metadata are those of the source, too."""
        found, writer = self._before, self._metadata_writer
        try:
            is_alike = writer.suits(found, wanted) and writer.attributes_of(self._descriptor) == xattrs
        except OSError:
            return None
        return entry_of(self._name, found) if is_alike else None
