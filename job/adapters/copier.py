"""Copy one file by descriptors: read once, hash while reading, write to a temp beside the final name (invariants 1, 7).

The temp gets its metadata on the open descriptor and is not renamed here: the batch is synced first. A source that
changes while it is read is read again, and given up after `_TRIES` times; the old copy stays (invariant 10).
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from job.core.entry import Entry
from job.core.record import Copied
from job.errors import ChangedWhileReadError
from job.files.atomic import create, write_all
from job.files.listing import entry_of
from job.files.metadata import Keeper, user_xattrs
from job.files.room import check_room
from job.files.trail import open_name, single

BUFFER_BYTES = 1 << 20
_TRIES = 3


class Hash(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: memoryview, /) -> object:
        """Take in more content."""

    def hexdigest(self) -> str:
        """Give the digest."""


def new_hash(algorithm: str) -> Hash:
    """Start a checksum: `sha256`, `blake3` or `md5`."""
    if algorithm == "blake3":
        from blake3 import blake3  # noqa: PLC0415  # only who asks for it pays its import

        return blake3()
    return hashlib.new(algorithm, usedforsecurity=False)


class Copier:
    """Copies and hashes for one pair."""

    def __init__(self, algorithm: str, keeper: Keeper, pace: Callable[[int], None], *, sync_each: bool) -> None:
        """`pace` is told of every chunk of bytes, and may wait or raise to stop; `sync_each` where syncfs is void."""
        self._algorithm = algorithm
        self._keeper = keeper
        self._pace = pace
        self._sync_each = sync_each
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    def copy(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Copy the file `listed` of the open folder `source` to `temp` in the open folder `mirror`.

        Raises `OSError`, or `ChangedWhileReadError`; no temp is left then.
        """
        descriptor = open_file(listed, source)
        try:
            written = create(temp, mirror)
            try:
                return self._copy(listed.name, descriptor, written)
            finally:
                os.close(written)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp, dir_fd=mirror)
            raise
        finally:
            os.close(descriptor)

    def _copy(self, name: bytes, descriptor: int, written: int) -> Copied:
        for _ in range(_TRIES):
            before = os.fstat(descriptor)
            checksum = self._transfer(descriptor, written, before.st_size)
            xattrs = user_xattrs(descriptor)
            after = os.fstat(descriptor)
            seen = entry_of(name, before)
            if checksum.size == before.st_size and seen == entry_of(name, after):
                self._keeper.apply(written, before, xattrs)
                if self._sync_each:
                    os.fsync(written)
                check_room(written)
                made = _of_size(written, checksum.size)
                return Copied(seen, checksum.text, made.st_ino, made.st_mtime_ns)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.lseek(written, 0, os.SEEK_SET)
            os.ftruncate(written, 0)
        raise ChangedWhileReadError(f"it changed in each of {_TRIES} attempts to read it")

    def _transfer(self, descriptor: int, written: int, expected: int) -> "_Sum":
        digest, size = new_hash(self._algorithm), 0
        # What grows while it is read has changed; reading on could take for ever.
        while size <= expected and (count := os.readv(descriptor, [self._buffer])):
            chunk = self._buffer[:count]
            digest.update(chunk)
            write_all(written, chunk)
            size += count
            self._pace(count)
        return _Sum(f"{self._algorithm}:{digest.hexdigest()}", size)

    def copy_link(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Make a symlink with the same text at `temp`. Raises as `copy` does."""
        target = os.readlink(single(listed.name), dir_fd=source)
        seen = os.stat(listed.name, dir_fd=source, follow_symlinks=False)
        if not stat.S_ISLNK(seen.st_mode):
            raise ChangedWhileReadError("it is no symlink any more")
        os.symlink(target, single(temp), dir_fd=mirror)
        try:
            self._keeper.apply_to_link(temp, mirror, seen)
            made = os.stat(temp, dir_fd=mirror, follow_symlinks=False)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp, dir_fd=mirror)
            raise
        return Copied(entry_of(listed.name, seen), "", made.st_ino, made.st_mtime_ns)

    def checksum(self, listed: Entry, folder: int, algorithm: str | None = None) -> tuple[str, Entry]:
        """Hash a file where it lies; gives `algorithm:hex` and the file as it was before and after.

        Raises `OSError`, or `ChangedWhileReadError`.
        """
        algorithm = algorithm or self._algorithm
        descriptor = open_file(listed, folder)
        try:
            for _ in range(_TRIES):
                before = entry_of(listed.name, os.fstat(descriptor))
                found = self._read(descriptor, algorithm, before.size)
                if found.size == before.size and before == entry_of(listed.name, os.fstat(descriptor)):
                    return found.text, before
                os.lseek(descriptor, 0, os.SEEK_SET)
        finally:
            os.close(descriptor)
        raise ChangedWhileReadError(f"it changed in each of {_TRIES} attempts to read it")

    def _read(self, descriptor: int, algorithm: str, expected: int) -> "_Sum":
        digest, size = new_hash(algorithm), 0
        while size <= expected and (count := os.readv(descriptor, [self._buffer])):
            digest.update(self._buffer[:count])
            size += count
            self._pace(0)
        return _Sum(f"{algorithm}:{digest.hexdigest()}", size)

    def cold_checksum(self, temp: bytes, mirror: int) -> str:
        """Hash a synced temp as the disk has it: its pages are dropped from the cache first."""
        descriptor = open_name(temp, mirror)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return self._read(descriptor, self._algorithm, os.fstat(descriptor).st_size).text
        finally:
            os.close(descriptor)


def _of_size(written: int, size: int) -> os.stat_result:
    found = os.fstat(written)
    if found.st_size != size:
        raise OSError(errno.EIO, f"{size} bytes were written, but the file has {found.st_size}")
    return found


class _Sum(NamedTuple):
    text: str
    size: int


def open_file(listed: Entry, folder: int) -> int:
    """Open a listed regular file for reading: never a link, never blocking, and only if it is the one listed.

    Raises `OSError`, or `ChangedWhileReadError` if something else has the name now.
    """
    descriptor = open_name(listed.name, folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_ino != listed.inode:
        os.close(descriptor)
        raise ChangedWhileReadError("something else has its name now")
    os.set_blocking(descriptor, True)
    return descriptor
