"""Read an open file through once and hash all of it; a large one is hashed in a second thread while the first goes on.

The interpreter lock is not held while a large chunk is read, written or hashed, so two cores are really used. Memory is
bounded by the ring of buffers, for which the reader waits.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from job.files.cache import MANNERLY_BYTES, Guest

BUFFER_BYTES = 1 << 20
OVERLAP_BYTES = 4 << 20
"""From this size on a thread is worth its start."""
_BUFFERS = 6


class Hash(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: memoryview, /) -> object:
        """Take in more content."""

    def hexdigest(self) -> str:
        """Give the digest."""


Take = Callable[[memoryview | bytes], object]
"""Is given every chunk in order, for as long as it runs; may raise to break the reading off."""


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

    def _hashing(self, digest: Hash, size: int) -> "_InLine | _Beside":
        wanted = _BUFFERS if size >= OVERLAP_BYTES else 1
        while len(self._ring) < wanted:
            self._ring.append(memoryview(bytearray(BUFFER_BYTES)))
        if size >= OVERLAP_BYTES:
            with suppress(RuntimeError):  # no thread to be had: a container may be short of them
                return _Beside(digest, self._ring)
        return _InLine(digest, self._ring[0])


class _InLine:
    """Hashes at once."""

    def __init__(self, digest: Hash, buffer: memoryview) -> None:
        self._digest = digest
        self._buffer = buffer

    def free(self) -> memoryview:
        return self._buffer

    def feed(self, buffer: memoryview, count: int) -> None:
        self._digest.update(buffer[:count])

    def end(self) -> None:
        pass

    def check(self) -> None:
        pass


class _Beside:
    """Hashes in a thread of its own, in the order of feeding. Raises `RuntimeError` where no thread can be started."""

    def __init__(self, digest: Hash, ring: list[memoryview]) -> None:
        self._digest = digest
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
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
        self._full.put((buffer, count))

    def end(self) -> None:
        """Wait until everything fed was hashed."""
        self._full.put(None)
        self._thread.join()

    def check(self) -> None:
        if self._faults:
            raise self._faults[0]

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            buffer, count = item
            try:
                if not self._faults:
                    self._digest.update(buffer[:count])
            except BaseException as error:  # noqa: BLE001  # it is the caller's, whatever it is
                self._faults.append(error)
            self._free.put(buffer)
