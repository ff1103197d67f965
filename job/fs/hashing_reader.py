"""Read an open file once and hash all of it; a large file is hashed in a second thread while the first one reads on.

The interpreter lock is not held while a large chunk is read, written or hashed, so two cores are used. The ring of
buffers, for which the reader waits, bounds the memory. Pages of large files are dropped from the page cache behind the
reader and, once they are on the disk, behind the writer: other programs need it more than a backup.
"""

import ctypes
import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread

from job.core.record import OF_BLOCKS
from job.fs.sparse import Hash, Piece, SparseDigest, WholeDigest, sparse_digests

GUARDED_BYTES = 1 << 20
"""Smaller files stay in the page cache."""

_DROP_STEP = 4 << 20
_WINDOW = 32 << 20
"""Bytes between two calls that start and await the write-back of pages."""
_WRITE = 2
_WAIT_WRITE_WAIT = 7
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ESPIPE}

_LIBC = ctypes.CDLL(None, use_errno=True)


def drop(descriptor: int, offset: int = 0, length: int = 0) -> None:
    """Drop the cached pages of a range, to the end of the file if `length` is 0. Dirty pages stay."""
    with suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


class PageCacheGuard:
    """Drops the pages of one large file behind its reader."""

    def __init__(self, descriptor: int, start: int = 0) -> None:
        """Guard an open file that is read from `start` on."""
        self._descriptor = descriptor
        self._dropped = start
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def arrive(self, offset: int) -> None:
        """Note that the next read is at `offset`; pages before it are dropped in steps."""
        if offset - self._dropped >= _DROP_STEP:
            drop(self._descriptor, self._dropped, offset - self._dropped)
            self._dropped = offset

    def leave(self) -> None:
        """Drop the remaining pages, those of the readahead included."""
        drop(self._descriptor, self._dropped)


class WritebackLimiter:
    """Starts the write-back of one open file while it is written, and drops its pages afterwards.

    Otherwise a file larger than the memory would fill the page cache before it is synced. It replaces no sync.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = 0
        self._sent = 0
        self._works = True

    def wrote(self, count: int) -> None:
        """Note that `count` more bytes were written. Raises `OSError` if the disk did not take earlier ones."""
        self._written += count
        while self._works and self._written - self._sent >= _WINDOW:
            self._flush(self._sent, _WRITE)
            if self._sent:
                # While the previous window is awaited, the disk writes this one.
                self._flush(self._sent - _WINDOW, _WAIT_WRITE_WAIT)
                drop(self._descriptor, self._sent - _WINDOW, _WINDOW)
            self._sent += _WINDOW

    def passed(self, count: int) -> None:
        """Note a hole of `count` bytes."""
        self._written += count
        if count >= _WINDOW:  # the sync writes earlier pages
            self._sent = self._written // _WINDOW * _WINDOW

    def _flush(self, offset: int, how: int) -> None:
        place, length = ctypes.c_int64(offset), ctypes.c_int64(_WINDOW)
        if self._works and _LIBC.sync_file_range(self._descriptor, place, length, how) != 0:
            number = ctypes.get_errno()
            if number not in _UNSUPPORTED:
                raise OSError(number, os.strerror(number))
            self._works = False


BUFFER_BYTES = 1 << 20
THREAD_BYTES = 4 << 20
"""From this size on a thread is worth its start."""
_BUFFERS = 6


OnChunk = Callable[[memoryview | bytes], object]
"""Is given every chunk in order, for as long as it runs; may raise to break the reading off."""
OnHole = Callable[[int], object]
"""Is given the lengths of holes, or of parts of them, in order with the chunks; may raise, too."""


def new_hash(algorithm: str) -> Callable[[bytes], Hash]:
    """Return a function that starts a checksum with the first bytes of a content: `sha256`, `blake3` or `md5`.

    After `sparse-` it is one that leaves out blocks of zeros.
    """
    if algorithm.startswith(OF_BLOCKS):
        return sparse_digests(new_hash(algorithm.removeprefix(OF_BLOCKS)))
    if algorithm == "blake3":
        from blake3 import blake3  # noqa: PLC0415  # imported only if it is configured

        return blake3
    return partial(getattr(hashlib, algorithm), usedforsecurity=False)


class HashingReader:
    """Reads files one after the other, with the same buffers."""

    def __init__(self) -> None:
        self._ring: list[memoryview] = []

    def read(self, descriptor: int, size: int, digest: Hash, take: OnChunk) -> int:
        """Read an open file of the expected `size` from its start to its end; returns the bytes read.

        A file that grows meanwhile has changed, and could be read for ever: reading ends one byte after `size`. Raises
        the errors of reading, hashing and `take`; no thread is left then.
        """
        hashing = self._hashing(digest, size)
        try:
            done = _read_range(descriptor, Piece(0, size + 1, hole=False), hashing, take)
        finally:
            hashing.end()
        hashing.check()
        return done

    def read_pieces(
        self,
        descriptor: int,
        pieces: Iterable[Piece],
        size: int,
        digest: WholeDigest | SparseDigest,
        take: OnChunk,
        skip: OnHole,
    ) -> tuple[int, int]:
        """Read the data of an open file of `size`, and pass over its holes; returns all bytes, and those in holes.

        Raises as `read` does.
        """
        hashing = self._hashing(digest, size)
        done = holes = 0
        try:
            for piece in pieces:
                done = piece.start
                while piece.hole and done < piece.end:
                    count = min(digest.step, piece.end - done)
                    hashing.pass_over(hashing.free(), count, digest.skip)
                    skip(count)
                    done += count
                    holes += count
                if not piece.hole:
                    os.lseek(descriptor, piece.start, os.SEEK_SET)
                    done = _read_range(descriptor, piece, hashing, take)
                if done < piece.end:
                    break
        finally:
            hashing.end()
        hashing.check()
        return done, holes

    def _hashing(self, digest: Hash, size: int) -> "_InlineHasher | _ThreadHasher":
        wanted = _BUFFERS if size >= THREAD_BYTES else 1
        while len(self._ring) < wanted:
            self._ring.append(memoryview(bytearray(BUFFER_BYTES)))
        if size >= THREAD_BYTES:
            with suppress(RuntimeError):  # a container may limit the number of threads
                return _ThreadHasher(digest, self._ring)
        return _InlineHasher(digest, self._ring[0])


def _read_range(descriptor: int, piece: Piece, hashing: "_InlineHasher | _ThreadHasher", take: OnChunk) -> int:
    """Read one range from the file's offset, its start; returns its end, which is earlier if the file ends there."""
    guard = PageCacheGuard(descriptor, piece.start) if piece.end - piece.start >= GUARDED_BYTES else None
    done = piece.start
    try:
        while done < piece.end:
            if guard is not None:
                guard.arrive(done)
            buffer = hashing.free()
            count = os.readv(descriptor, [buffer[: piece.end - done]])
            if not count:
                break
            hashing.feed(buffer, count)
            take(buffer[:count])
            done += count
    finally:
        if guard is not None:
            guard.leave()
    return done


class _InlineHasher:
    """Hashes at once."""

    def __init__(self, digest: Hash, buffer: memoryview) -> None:
        self._digest = digest
        self._buffer = buffer

    def free(self) -> memoryview:
        return self._buffer

    def feed(self, buffer: memoryview, count: int) -> None:
        self._digest.update(buffer[:count])

    def pass_over(self, buffer: memoryview, count: int, skip: OnHole) -> None:
        del buffer
        skip(count)

    def end(self) -> None:
        pass

    def check(self) -> None:
        pass


class _ThreadHasher:
    """Hashes in a thread of its own, in the order of feeding. Raises `RuntimeError` where no thread can be started."""

    def __init__(self, digest: Hash, ring: list[memoryview]) -> None:
        self._digest = digest
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int, OnHole | None] | None] = SimpleQueue()
        self._faults: list[BaseException] = []
        for buffer in ring:
            self._free.put(buffer)
        self._thread = Thread(target=self._run, name="hashing")
        self._thread.start()

    def free(self) -> memoryview:
        """Wait for a buffer that was hashed; raises the errors of hashing."""
        self.check()
        return self._free.get()

    def feed(self, buffer: memoryview, count: int) -> None:
        """Submit a buffer for hashing. The caller may read from it until it asks for a free one."""
        self._full.put((buffer, count, None))

    def pass_over(self, buffer: memoryview, count: int, skip: OnHole) -> None:
        """Submit a hole, which `skip` hashes; the unused buffer limits the number of waiting holes."""
        self._full.put((buffer, count, skip))

    def end(self) -> None:
        """Wait until all submitted buffers are hashed."""
        self._full.put(None)
        self._thread.join()

    def check(self) -> None:
        if self._faults:
            raise self._faults[0]

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            buffer, count, skip = item
            try:
                if self._faults:
                    pass
                elif skip is None:
                    self._digest.update(buffer[:count])
                else:
                    skip(count)
            except BaseException as error:  # noqa: BLE001  # `check` raises it in the caller
                self._faults.append(error)
            self._free.put(buffer)
