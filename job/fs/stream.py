"""Read an open file through once and hash all of it; a large one is hashed in a second thread while the first goes on.

The interpreter lock is not held while a large chunk is read, written or hashed, so two cores are really used. Memory is
bounded by the ring of buffers, for which the reader waits.

Good manners in the page cache: a backup reads and writes everything once, and must not push out what others use.

Pages of a large file that were cached before it is read stay; those that reading brings in are dropped behind it. The
kernel tells what is cached only to root, to the file's owner and to who may write to it; for anybody else, as on file
systems that cannot map files, everything counts as cached and nothing is dropped. What is written may be dropped as
soon as the disk has it.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread

from job.fs.mounts import file_system_type
from job.fs.sparse import Hash, Piece, SparseDigest, WholeDigest

GUARDED_BYTES = 1 << 20
"""Smaller files are not worth the trouble."""

_STRETCH = 4 << 20
"""The cache is asked about so much at once, and two of these are read ahead."""
_REQUEST = 512 << 10
"""The kernel takes no larger wish for reading ahead than the disk's largest request."""
_WINDOW = 32 << 20
"""Written pages wait for the disk by so many bytes."""
_WRITE = 2
_WAIT_WRITE_WAIT = 7
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ESPIPE}

_LIBC = ctypes.CDLL(None, use_errno=True)
_FAILED = ctypes.c_void_p(-1).value
_CAN_MAP = sys.maxsize > 2**32  # elsewhere an offset does not fit the C library's mmap
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def cached_pages(descriptor: int, offset: int, length: int) -> bytes:
    """Tell for each page of a range of an open file whether it is cached: 1 or 0. `offset` is that of a page.

    Nothing is read or brought in. Empty where it cannot be told.
    """
    if not _CAN_MAP or not length:
        return b""
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    address = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, offset)
    if address == _FAILED:
        return b""
    told = _LIBC.mincore(address, length, pages) == 0
    _LIBC.munmap(address, length)
    return pages.raw if told else b""


def drop(descriptor: int, offset: int = 0, length: int = 0) -> None:
    """Let go of the cached pages of a range, to the end of the file if `length` is 0. Unwritten ones stay."""
    with suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


@lru_cache(maxsize=64)
def _can_drop(device: int) -> bool:
    # What lives in memory stays there, and asking about it costs more than about anything else.
    return file_system_type(device) not in {"tmpfs", "ramfs"}


class PageCacheGuard:
    """Reads one open file, or a range of it, in order, and leaves the cache as it found it."""

    def __init__(self, descriptor: int, size: int, start: int = 0) -> None:
        """Take an open file, which is read from `start` on."""
        self._descriptor = descriptor
        self._size = size
        # The cache is asked about whole pages.
        self._seen = start // _STRETCH * _STRETCH if _can_drop(os.fstat(descriptor).st_dev) else size
        self._ours: deque[tuple[int, int]] = deque()
        """Start and end of what was not cached when we came."""
        self._advise(0, 0, os.POSIX_FADV_SEQUENTIAL)

    def arrive(self, offset: int) -> None:
        """Say that the next read is at `offset`; what lies whole stretches behind is dropped."""
        while self._seen < min(self._size, offset + 2 * _STRETCH):
            self._look()
        behind = offset // _STRETCH * _STRETCH
        while self._ours and self._ours[0][1] <= behind:
            start, end = self._ours.popleft()
            drop(self._descriptor, start, end - start)

    def leave(self) -> None:
        """Drop the rest of what reading brought in."""
        for start, end in self._ours:
            drop(self._descriptor, start, end - start)
        self._ours.clear()

    def _look(self) -> None:
        start = self._seen
        length = min(_STRETCH, self._size - start)
        pages = cached_pages(self._descriptor, start, length)
        self._seen = start + length
        first = pages.find(b"\0")
        while first >= 0:
            after = pages.find(b"\1", first)
            last = len(pages) if after < 0 else after
            self._bring(start + first * mmap.PAGESIZE, start + last * mmap.PAGESIZE)
            first = pages.find(b"\0", last)

    def _bring(self, start: int, end: int) -> None:
        # The kernel's own reading ahead, as far as the disk is set up for, would pass for what was there before. So it
        # ends with the first page that is found missing, and exactly what is missing is asked for, in good time.
        self._advise(0, 0, os.POSIX_FADV_RANDOM)
        self._ours.append((start, end))
        for place in range(start, end, _REQUEST):
            self._advise(place, min(_REQUEST, end - place), os.POSIX_FADV_WILLNEED)

    def _advise(self, offset: int, length: int, advice: int) -> None:
        with suppress(OSError):
            os.posix_fadvise(self._descriptor, offset, length, advice)


class WritebackLimiter:
    """Sends what is written to one open file to the disk all along, and drops it once it is there.

    Without this a file larger than the memory has the cache for itself before it is synced. It is no sync.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = 0
        self._sent = 0
        self._works = True

    def wrote(self, count: int) -> None:
        """Say that so many bytes more were written. Raises `OSError` if the disk did not take what came before."""
        self._written += count
        while self._works and self._written - self._sent >= _WINDOW:
            self._flush(self._sent, _WRITE)
            if self._sent:
                # Waiting for the window before leaves the disk with work meanwhile.
                self._flush(self._sent - _WINDOW, _WAIT_WRITE_WAIT)
                drop(self._descriptor, self._sent - _WINDOW, _WINDOW)
            self._sent += _WINDOW

    def passed(self, count: int) -> None:
        """Say that so many bytes were left out."""
        self._written += count
        if count >= _WINDOW:  # what was written before is left to the sync
            self._sent = self._written // _WINDOW * _WINDOW

    def _flush(self, offset: int, how: int) -> None:
        place, length = ctypes.c_int64(offset), ctypes.c_int64(_WINDOW)
        if self._works and _LIBC.sync_file_range(self._descriptor, place, length, how) != 0:
            number = ctypes.get_errno()
            if number not in _UNSUPPORTED:
                raise OSError(number, os.strerror(number))
            self._works = False


_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_NOT_HERE = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS}
_NOT_THIS = {errno.EINVAL, errno.EPERM, errno.ETXTBSY}


class Cloner:
    """Clones for one pair, and stops trying once it is known that it cannot be done there."""

    def __init__(self) -> None:
        self._wanted = True

    def clone(self, source: int, written: int) -> bool:
        """Give the empty open file `written` the content of `source`; False if it has to be copied instead.

        Raises `OSError` for what would keep a copy from being written, too.
        """
        if not self._wanted:
            return False
        try:
            fcntl.ioctl(written, _FICLONE, source)
        except OSError as error:
            if error.errno in _NOT_HERE:
                self._wanted = False
            elif error.errno not in _NOT_THIS:
                raise
            return False
        return True


BUFFER_BYTES = 1 << 20
THREAD_BYTES = 4 << 20
"""From this size on a thread is worth its start."""
_BUFFERS = 6


OnChunk = Callable[[memoryview | bytes], object]
"""Is given every chunk in order, for as long as it runs; may raise to break the reading off."""
OnHole = Callable[[int], object]
"""Is given the lengths of holes, or of parts of them, in order with the chunks; may raise, too."""


class HashingReader:
    """Reads files one after the other, with the same buffers."""

    def __init__(self) -> None:
        self._ring: list[memoryview] = []

    def read(self, descriptor: int, size: int, digest: Hash, take: OnChunk) -> int:
        """Read an open file, which is believed to be of `size`, from its start to its end; gives the bytes there were.

        What grows while it is read has changed, and reading on could take for ever: it ends soon after `size`. Raises
        what reading, hashing or `take` raises; no thread is left then.
        """
        guard = PageCacheGuard(descriptor, size) if size >= GUARDED_BYTES else None
        hashing = self._hashing(digest, size)
        done = 0
        try:
            while done <= size:
                if guard is not None:
                    guard.arrive(done)
                buffer = hashing.free()
                count = os.readv(descriptor, [buffer])
                if not count:
                    break
                hashing.feed(buffer, count)
                take(buffer[:count])
                done += count
        finally:
            hashing.end()
            if guard is not None:
                guard.leave()
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
        """Read the data of an open file of `size`, and pass over its holes; gives all bytes, and those in holes.

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
            with suppress(RuntimeError):  # no thread to be had: a container may be short of them
                return _ThreadHasher(digest, self._ring)
        return _InlineHasher(digest, self._ring[0])


def _read_range(descriptor: int, piece: Piece, hashing: "_InlineHasher | _ThreadHasher", take: OnChunk) -> int:
    """Read one range of data; gives where it ended, which is before its end if the file does."""
    guard = PageCacheGuard(descriptor, piece.end, piece.start) if piece.end - piece.start >= GUARDED_BYTES else None
    done = piece.start
    try:
        while done < piece.end:
            if guard is not None:
                guard.arrive(done)
            buffer = hashing.free()
            count = os.preadv(descriptor, [buffer[: piece.end - done]], done)
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
        """Wait for a buffer that was hashed; raises what hashing raised."""
        self.check()
        return self._free.get()

    def feed(self, buffer: memoryview, count: int) -> None:
        """Have a buffer hashed. The caller may go on reading from it until it asks for a free one."""
        self._full.put((buffer, count, None))

    def pass_over(self, buffer: memoryview, count: int, skip: OnHole) -> None:
        """Have a hole hashed by `skip`; the buffer, of which nothing is used, keeps holes from piling up."""
        self._full.put((buffer, count, skip))

    def end(self) -> None:
        """Wait until everything fed was hashed."""
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
            except BaseException as error:  # noqa: BLE001  # it is the caller's, whatever it is
                self._faults.append(error)
            self._free.put(buffer)
