"""Read an open file through once and hash all of it; a large one is hashed in a second thread while the first goes on.

The interpreter lock is not held while a large chunk is read, written or hashed, so two cores are really used. Memory is
bounded by the ring of buffers, for which the reader waits.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from job.fs.digests import Blocks, Filled, Hash
from job.fs.holes import Piece
from job.fs.page_cache import MANNERLY_BYTES, Guest

BUFFER_BYTES = 1 << 20
OVERLAP_BYTES = 4 << 20
"""From this size on a thread is worth its start."""
_BUFFERS = 6


Take = Callable[[memoryview | bytes], object]
"""Is given every chunk in order, for as long as it runs; may raise to break the reading off."""
Skip = Callable[[int], object]
"""Is given the lengths of holes, or of parts of them, in order with the chunks; may raise, too."""


class Stream:
    """Reads files one after the other, with the same buffers."""

    def __init__(self) -> None:
        self._ring: list[memoryview] = []

    def read(self, descriptor: int, size: int, digest: Hash, take: Take) -> int:
        """Read an open file, which is believed to be of `size`, from its start to its end; gives the bytes there were.

        What grows while it is read has changed, and reading on could take for ever: it ends soon after `size`. Raises
        what reading, hashing or `take` raises; no thread is left then.
        """
        guest = Guest(descriptor, size) if size >= MANNERLY_BYTES else None
        hashing = self._hashing(digest, size)
        done = 0
        try:
            while done <= size:
                if guest is not None:
                    guest.arrive(done)
                buffer = hashing.free()
                count = os.readv(descriptor, [buffer])
                if not count:
                    break
                hashing.feed(buffer, count)
                take(buffer[:count])
                done += count
        finally:
            hashing.end()
            if guest is not None:
                guest.leave()
        hashing.check()
        return done

    def read_pieces(
        self, descriptor: int, pieces: Iterable[Piece], size: int, digest: Filled | Blocks, take: Take, skip: Skip
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
                    done = _through(descriptor, piece, hashing, take)
                if done < piece.end:
                    break
        finally:
            hashing.end()
        hashing.check()
        return done, holes

    def _hashing(self, digest: Hash, size: int) -> "_InLine | _Beside":
        wanted = _BUFFERS if size >= OVERLAP_BYTES else 1
        while len(self._ring) < wanted:
            self._ring.append(memoryview(bytearray(BUFFER_BYTES)))
        if size >= OVERLAP_BYTES:
            with suppress(RuntimeError):  # no thread to be had: a container may be short of them
                return _Beside(digest, self._ring)
        return _InLine(digest, self._ring[0])


def _through(descriptor: int, piece: Piece, hashing: "_InLine | _Beside", take: Take) -> int:
    """Read one range of data; gives where it ended, which is before its end if the file does."""
    guest = Guest(descriptor, piece.end, piece.start) if piece.end - piece.start >= MANNERLY_BYTES else None
    done = piece.start
    try:
        while done < piece.end:
            if guest is not None:
                guest.arrive(done)
            buffer = hashing.free()
            count = os.preadv(descriptor, [buffer[: piece.end - done]], done)
            if not count:
                break
            hashing.feed(buffer, count)
            take(buffer[:count])
            done += count
    finally:
        if guest is not None:
            guest.leave()
    return done


class _InLine:
    """Hashes at once."""

    def __init__(self, digest: Hash, buffer: memoryview) -> None:
        self._digest = digest
        self._buffer = buffer

    def free(self) -> memoryview:
        return self._buffer

    def feed(self, buffer: memoryview, count: int) -> None:
        self._digest.update(buffer[:count])

    def pass_over(self, buffer: memoryview, count: int, skip: Skip) -> None:
        del buffer
        skip(count)

    def end(self) -> None:
        pass

    def check(self) -> None:
        pass


class _Beside:
    """Hashes in a thread of its own, in the order of feeding. Raises `RuntimeError` where no thread can be started."""

    def __init__(self, digest: Hash, ring: list[memoryview]) -> None:
        self._digest = digest
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int, Skip | None] | None] = SimpleQueue()
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

    def pass_over(self, buffer: memoryview, count: int, skip: Skip) -> None:
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
