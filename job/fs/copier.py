"""Copy one file by descriptors: read once, hash while reading, write to a temp beside the final name (invariants 1, 7).

The temp gets its metadata on the open descriptor and is not renamed here: the batch is synced first. A source that
changes while it is read is read again, and given up after `_TRIES` times; the old copy stays (invariant 10).
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic_ns

from job.core.entry import Entry
from job.core.record import OF_BLOCKS, Compared, Copied, Record
from job.errors import ChangedWhileReadError
from job.fs.dircursor import open_listed, open_name, unmoved
from job.fs.free_space import FreeSpace, check_space
from job.fs.hashing_reader import (
    BUFFER_BYTES,
    GUARDED_BYTES,
    HashingReader,
    OnChunk,
    OnHole,
    WritebackLimiter,
    drop,
    new_hash,
)
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from job.fs.mirror_reader import MirrorReader
from job.fs.own_files import NEW_FILE, write_all
from job.fs.small_copies import CHECK_NS, SMALL_BYTES, PlainCopier, copy_link, copy_special, read_both
from job.fs.sparse import (
    SECTOR,
    Hash,
    HoleWithDataError,
    SparseDigest,
    SparseLayout,
    SparseWriter,
    WholeDigest,
    allocated_bytes,
    check_holes,
)
from job.fs.xattrs import for_new

_WRITEBACK_BYTES = 64 << 20
_TRIES = 3
_HOLES_TO_DATA = 8
"""Zeros up to so many times what a file takes on the disk are always hashed; see also `zeros_left`."""
_ZEROS = bytes(BUFFER_BYTES)
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_NO_CLONES = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS}
_NO_CLONE_OF_THIS = {errno.EINVAL, errno.EPERM, errno.ETXTBSY}


class Copier:
    """Copies and hashes for one pair."""

    def __init__(
        self,
        algorithm: str,
        metadata_writer: MetadataWriter,
        on_chunk: Callable[[int], None],
        *,
        sync_each: bool,
        reflink: bool = False,
        sparse: bool = True,
    ) -> None:
        """`on_chunk` is called with the length of each chunk, see also `report_bytes`, and may wait or raise to stop.

        `sync_each` is for mirrors where syncfs does nothing. With `reflink` contents are cloned where the file system
        can; `sparse` leaves holes where the source has some.
        """
        self._sparse = sparse
        self._algorithm = algorithm
        self._metadata_writer = metadata_writer
        self._on_chunk = on_chunk
        self._sync_each = sync_each
        self.report_bytes = 0
        """Small files are reported by one call of `on_chunk` once they add up to so many bytes, or by `checkpoint`."""
        self._unreported = 0
        """Bytes of small files for which `on_chunk` was not called yet."""
        self._free_space = FreeSpace()
        self._stream = HashingReader()
        self._mirror_reader = MirrorReader(metadata_writer)
        self._reflink = reflink
        self.zeros_left = 16 << 30
        """Bytes of other zeros that are still hashed: seconds. A user makes a file of them at no cost."""
        self._hashes: dict[str, Callable[[bytes], Hash]] = {}

    def copy(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Copy the file `listed` of the open folder `source` to `temp` in the open folder `mirror`.

        Raises `OSError`, or `ChangedWhileReadError`; no temp is left then.
        """
        descriptor, found = open_listed(listed, source)
        try:
            written = os.open(temp, NEW_FILE, 0o600, dir_fd=mirror)
            try:
                try:
                    return self._copy(listed.name, descriptor, found, (written, mirror))
                finally:
                    os.close(written)  # may be the first call that reports a full disk
            except BaseException:
                with suppress(OSError):
                    os.unlink(temp, dir_fd=mirror)
                raise
        finally:
            os.close(descriptor)

    def _copy(self, name: bytes, descriptor: int, before: os.stat_result, temp: tuple[int, int]) -> Copied:
        """Copy an open file to an open temp, given with its folder."""
        written, folder = temp
        for _ in range(_TRIES):
            checksum, size, holes = self._transfer(descriptor, written, before)
            xattrs = self._metadata_writer.of_source(descriptor)
            after = os.fstat(descriptor)
            if size == before.st_size and unmoved(before, after):
                made = self._finish(written, before, xattrs, folder)
                return Copied(entry_of(name, before), checksum, made.st_ino, made.st_mtime_ns, holes)
            before = after
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.lseek(written, 0, os.SEEK_SET)
            os.ftruncate(written, 0)
        raise ChangedWhileReadError(f"it changed in each of {_TRIES} attempts to read it")

    def _transfer(self, descriptor: int, written: int, found: os.stat_result) -> tuple[str, int, int]:
        """Read and hash an open file and write it to an open temp; returns checksum, size, and bytes in holes."""
        size, algorithm = found.st_size, self._algorithm
        has_holes = found.st_blocks * SECTOR < size
        if size <= SMALL_BYTES and not has_holes and not self._reflink:
            content = os.read(descriptor, size + 1)
            if len(content) == size:
                digest = (self._hashes.get(algorithm) or self._start(algorithm))(content)
                if content and (done := os.write(written, content)) < size:
                    write_all(written, memoryview(content)[done:])
                self._unreported += size
                if self._unreported >= self.report_bytes:
                    self.checkpoint()
                return f"{algorithm}:{digest.hexdigest()}", size, 0
            os.lseek(descriptor, 0, os.SEEK_SET)
        # A clone has the content that is read, if nothing changes between the fstat before and the one after.
        cloned = self._reflink and self._clone(descriptor, written)
        taker = (self._count, self._ignore) if cloned else self._writer(written, found, has_holes=has_holes)
        checksum, size, holes = self._read(descriptor, algorithm, found, taker)
        if has_holes and self._sparse and size == found.st_size:
            os.ftruncate(written, size)  # it may end with a hole
        return checksum, size, holes

    def _clone(self, source: int, written: int) -> bool:
        """Clone `source` to the empty file `written`, or return False. Raises `OSError` if a copy would fail, too."""
        try:
            fcntl.ioctl(written, _FICLONE, source)
        except OSError as error:
            if error.errno in _NO_CLONES:
                self._reflink = False
            elif error.errno not in _NO_CLONE_OF_THIS:
                raise
            return False
        return True

    def use_all_space(self) -> None:
        """Keep no reserve for an index: what is written to is no mirror."""
        self._free_space = FreeSpace(keeps_reserve=False)

    def plain(self, now_ns: Callable[[], int]) -> PlainCopier:
        """Return a copier of plain files with the same checksums and free space."""
        return PlainCopier(self._algorithm, self._start(self._algorithm), self._free_space, now_ns)

    def checkpoint(self, plain_bytes: int = 0) -> None:
        """Call `on_chunk` for the small files that were copied since its last call, and for bytes of plain files."""
        count, self._unreported = self._unreported + plain_bytes, 0
        self._on_chunk(count)

    def _writer(self, written: int, found: os.stat_result, *, has_holes: bool) -> tuple[OnChunk, OnHole]:
        writeback = WritebackLimiter(written) if found.st_size >= _WRITEBACK_BYTES else None
        holes = SparseWriter(written) if has_holes and self._sparse else None
        put = partial(write_all, written) if holes is None else holes.write

        def write(chunk: memoryview | bytes) -> None:
            put(chunk)
            if writeback is not None:
                writeback.wrote(len(chunk))
            self._on_chunk(len(chunk))

        if not has_holes:
            return write, self._ignore
        if holes is None:
            check_space(written, found.st_size)  # before the disk is full of zeros
            return write, partial(_write_zeros, write)
        os.ftruncate(written, found.st_size)  # fails now if the file system cannot hold so large a file
        return write, self._skipper(holes, writeback)

    def _skipper(self, holes: SparseWriter, writeback: WritebackLimiter | None) -> OnHole:
        def skip(count: int) -> None:
            holes.skip(count)
            if writeback is not None:
                writeback.passed(count)
            self._on_chunk(0)

        return skip

    def _count(self, chunk: memoryview | bytes) -> None:
        self._on_chunk(len(chunk))

    def _finish(self, written: int, wanted: os.stat_result, xattrs: dict[bytes, bytes], folder: int) -> os.stat_result:
        if type(xattrs) is not dict:
            xattrs = for_new(xattrs)
        if self._sync_each:
            # On a server, chown and chmod may change times: use the safe order of `apply`.
            self._metadata_writer.apply(written, wanted, xattrs)
            os.fsync(written)
            made = os.fstat(written)
        else:
            made = self._metadata_writer.set_initial(written, wanted, xattrs)
        if made.st_size != wanted.st_size:
            raise OSError(errno.EIO, f"{wanted.st_size} bytes were written, but the file has {made.st_size}")
        self._free_space.take(written, made, folder)
        return made

    def _read(
        self,
        descriptor: int,
        algorithm: str,
        found: os.stat_result,
        taker: tuple[OnChunk, OnHole],
        *,
        ours: bool = False,
    ) -> tuple[str, int, int]:
        """Read an open file with the stat `found` to its end; returns checksum, size, and bytes in holes.

        `ours`: the file was just written and synced here, and its checksum has this algorithm.
        """
        start, size, (take, skip) = self._start(algorithm), found.st_size, taker
        if size <= SMALL_BYTES:
            content = os.read(descriptor, size + 1)
            if len(content) == size:
                digest = start(content)
                take(content)
                return f"{algorithm}:{digest.hexdigest()}", size, 0
            os.lseek(descriptor, 0, os.SEEK_SET)
        layout = SparseLayout.of(descriptor, found, ours=ours)
        digest = start(b"")
        if layout is None:
            count = self._stream.read(descriptor, size, digest, take)
            return f"{algorithm}:{digest.hexdigest()}", count, 0
        if not ours and not isinstance(digest, SparseDigest) and not self._may_hash_zeros(found, layout):
            algorithm, digest = OF_BLOCKS + algorithm, SparseDigest(digest)
        sparse = digest if isinstance(digest, SparseDigest) else WholeDigest(digest)
        try:
            count, holes = self._stream.read_pieces(descriptor, layout.pieces(), size, sparse, take, skip)
        except HoleWithDataError:
            if unmoved(found, os.fstat(descriptor)):
                raise
            return "", -1, 0  # data was written into the hole just now
        return f"{algorithm}:{sparse.hexdigest()}", count, holes

    def _may_hash_zeros(self, found: os.stat_result, layout: SparseLayout) -> bool:
        """Return whether the zeros of a file may be hashed. Raises `OSError` if reading it would take days."""
        allocated = allocated_bytes(found)
        holes = found.st_size - allocated
        if holes <= _HOLES_TO_DATA * allocated:
            return True
        holes = 0
        for hole in layout.holes():  # which are fewer where data is compressed
            self._on_chunk(0)
            holes += hole
        check_holes(found, holes)
        if holes <= _HOLES_TO_DATA * allocated:
            return True
        if holes > self.zeros_left:
            return False
        self.zeros_left -= holes
        return True

    def _start(self, algorithm: str) -> Callable[[bytes], Hash]:
        return self._hashes.get(algorithm) or self._hashes.setdefault(algorithm, new_hash(algorithm))

    def copy_link(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Make a symlink with the same text at `temp`. Raises as `copy` does."""
        return copy_link(listed, source, mirror, temp, self._metadata_writer)

    def copy_special(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        """Make a FIFO, socket or device of the same kind at `temp`. Raises as `copy` does."""
        return copy_special(listed, source, mirror, temp, self._metadata_writer)

    def checksum(self, listed: Entry, folder: int, algorithm: str | None = None) -> tuple[str, Entry]:
        """Hash a file; returns `algorithm:hex` and the entry, which was the same before and after.

        Raises `OSError`, or `ChangedWhileReadError`.
        """
        descriptor, before = open_listed(listed, folder)
        try:
            for _ in range(_TRIES):
                taker = self._ignore, self._ignore
                checksum, size, _ = self._read(descriptor, algorithm or self._algorithm, before, taker)
                after = os.fstat(descriptor)
                if size == before.st_size and unmoved(before, after):
                    return checksum, entry_of(listed.name, before)
                before = after
                os.lseek(descriptor, 0, os.SEEK_SET)
        finally:
            os.close(descriptor)
        raise ChangedWhileReadError(f"it changed in each of {_TRIES} attempts to read it")

    def compare(self, listed: Entry, source: int, mirror: Entry, mirror_folder: int) -> Compared:
        """Read a source file and its mirror side by side: hash the source, and compare the mirror with it.

        Raises as `checksum` does, only for the source; an unreadable mirror differs.
        """
        descriptor, before = open_listed(listed, source)
        reader = self._mirror_reader
        try:
            reader.open(mirror, mirror_folder)
            for _ in range(_TRIES):
                taker = self._take_beside, self._skip_beside
                checksum, size, _ = self._read(descriptor, self._algorithm, before, taker)
                xattrs = self._metadata_writer.of_source(descriptor)
                after = os.fstat(descriptor)
                if size == before.st_size and unmoved(before, after):
                    same = reader.same()
                    alike = reader.alike(before, xattrs) if same else None
                    return Compared(entry_of(listed.name, before), checksum, same, alike)
                before = after
                os.lseek(descriptor, 0, os.SEEK_SET)
                reader.rewind()
        finally:
            reader.close()
            os.close(descriptor)
        raise ChangedWhileReadError(f"it changed in each of {_TRIES} attempts to read it")

    def confirmed(self, records: Iterable[Record], source: int, mirror: int) -> list[Record]:
        """Read symlinks, small files and their mirrors; return the records of which both are exactly so.

        Of the others, such as files with attributes, nothing is known: `compare` decides. Raises as `on_chunk` does.
        """
        start, prefix, security = self._start(self._algorithm), f"{self._algorithm}:", self._metadata_writer.security
        found: list[Record] = []
        checked_ns = 0
        for record in records:
            if monotonic_ns() - checked_ns >= CHECK_NS:
                self._on_chunk(0)  # a stop is noticed between two slow files
                checked_ns = monotonic_ns()
            content = read_both(record, source, mirror, security=security)
            if content is not None and record[2] in {"", prefix + start(content).hexdigest()}:
                found.append(record)
        return found

    def _take_beside(self, chunk: memoryview | bytes) -> None:
        self._mirror_reader.take(chunk)
        self._on_chunk(0)

    def _skip_beside(self, count: int) -> None:
        self._mirror_reader.skip(count, self._on_chunk)
        self._on_chunk(0)

    def _ignore(self, _: memoryview | bytes | int) -> None:
        self._on_chunk(0)

    def cold_checksum(self, temp: bytes, mirror: int, algorithm: str | None = None) -> str:
        """Hash a synced temp as it is on the disk: its pages are dropped from the cache first."""
        descriptor = open_name(temp, mirror)
        try:
            drop(descriptor)
            taker = self._ignore, self._ignore
            return self._read(descriptor, algorithm or self._algorithm, os.fstat(descriptor), taker, ours=True)[0]
        finally:
            os.close(descriptor)

    def release(self, temp: bytes, mirror: int, size: int) -> None:
        """Drop the cached pages of a large synced file. Errors are ignored."""
        if size < GUARDED_BYTES:
            return
        with suppress(OSError):
            descriptor = open_name(temp, mirror)
            drop(descriptor)
            os.close(descriptor)


def _write_zeros(write: OnChunk, count: int) -> None:
    """Write zeros for a hole, on a file system without holes."""
    for start in range(0, count, BUFFER_BYTES):
        write(_ZEROS[: min(BUFFER_BYTES, count - start)])
