"""Copy entries without a stream: plain files in one loop, symlinks and special files one by one.

A plain file is small and regular, with one name and no attributes to copy, on a mirror that keeps all its metadata.
Most files are, and calls of Python functions cost more than the system calls. A file that is not plain, or fails, is
left to `fs/copier.py`, and nothing of it stays in the mirror. Targets of symlinks and special files are not opened.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from job.core.entry import Entry, kind_of
from job.core.record import CLOCK_GRAIN_NS, Copied, Record
from job.fs.dircursor import OPEN_FILE, listed_handle, path_handle, single
from job.fs.free_space import BLOCK_BYTES, FreeSpace
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from job.fs.own_files import NEW_FILE
from job.fs.sparse import SECTOR, Hash
from job.fs.xattrs import for_new, has_attributes

SMALL_BYTES = 256 << 10
"""Up to this size a file is read by one call; larger ones are not plain."""
PLAIN_BITS = 0o177000
"""Bits of an st_mode that are those of a regular file without special bits."""
CHECK_NS = 50_000_000
"""A stop is noticed, and progress is reported, after so much time."""
_SHORTEST_HOLE = bytes(SECTOR)
_PERMISSIONS = 0o777
_FIRST_BITS = 0o755
"""Until a temp is complete only its owner may write to it: another's bytes would have the times of the copy."""


class PlainCopy(NamedTuple):
    """A complete copy of a plain file: a temp before its rename, or a file in a staged folder."""

    source: Entry
    """The source, which did not change while it was read."""
    temp: bytes
    """Its name now; in a staged folder the final one."""
    checksum: str
    """`algorithm:hex`."""
    made: os.stat_result
    """Of the copy: inode number, and times as the mirror stored them. In a staged folder all of it is final."""
    racy: bool
    """Whether the source is too young for its times to prove that it is unchanged."""
    duration_ns: int


Left = tuple[Entry, OSError | None]
"""A file that is not copied, and the error of the mirror's disk; None if `fs/copier.py` may succeed."""
_OF_DISK = frozenset({errno.EIO, errno.EROFS})
"""Reported even if they do not occur again."""


class PlainCopier:
    """Copies plain files for one file system of a mirror."""

    def __init__(
        self, algorithm: str, start: Callable[[bytes], Hash], free_space: FreeSpace, now_ns: Callable[[], int]
    ) -> None:
        """`start` starts a checksum by `algorithm`; `now_ns` is the wall clock, in nanoseconds since the epoch."""
        self._algorithm = algorithm
        self._start = self._begin = start
        self._free_space = free_space
        self._now_ns = now_ns
        self._user, self._group = os.geteuid(), os.getegid()

    def note_zeros(self) -> list[bool]:
        """Note in the returned list of each complete copy from now on whether it has nothing but zeros."""
        found: list[bool] = []

        def start(content: bytes) -> Hash:
            found.append(bool(content) and not content.strip(b"\0"))
            return self._begin(content)

        self._start = start
        return found

    def copy(
        self,
        listed: Sequence[Entry],
        source: int,
        mirror: int,
        temps: Iterator[bytes] | None,
        *,
        group: int,
        owners: bool,
    ) -> tuple[list[PlainCopy], list[Left]]:
        """Copy listed files of an open folder to temps in an open mirror folder; returns also the files that are left.

        After `CHECK_NS` no other file is tried. The mirror folder has the `group`, and new files in it inherit no ACL.
        `temps` gives unused names; None in a staged folder, which only this user can enter: copies get their final
        names, and the first file that is not plain ends the work. Without `owners` files of other users are left.
        """
        done: list[PlainCopy] = []
        left: list[Left] = []
        prefix, start, now_ns, make = self._algorithm + ":", self._start, self._now_ns, tuple.__new__
        # By the rules of any mount a new file has this group then; it is safe to create it with its mode.
        user, own_group = self._user, self._group if self._group == group else -1
        since_ns = began_ns = now_ns()
        for entry in listed:
            if abs(began_ns - since_ns) >= CHECK_NS:
                break
            ours = entry[3] == user and entry[4] == own_group
            try:
                found = _read(entry, source, security=False) if ours or owners else None
            except OSError:
                found = None
            # Fewer blocks than bytes: compressed, stored beside the inode, or with holes, which read as zeros.
            has_holes = found and found[1].st_blocks * SECTOR < entry[5] and _SHORTEST_HOLE in found[0]
            if found is None or found[1].st_nlink != 1 or has_holes:
                left.append((entry, None))
                if temps is None:
                    break
                began_ns = now_ns()
                continue
            first_mode = (entry[2] & _FIRST_BITS if ours else 0o600) if temps else entry[2] & _PERMISSIONS
            temp = next(temps) if temps else entry[0]
            try:
                made = self._write(entry, found, mirror, temp, first_mode, is_staged=temps is None)
            except OSError as error:
                left.append((entry, error if error.errno in _OF_DISK else None))
                with suppress(OSError):
                    os.unlink(temp, dir_fd=mirror)
                if temps is None and left[-1][1] is None:
                    break
                began_ns = now_ns()
                continue
            young_ns, mtime_ns = began_ns - CLOCK_GRAIN_NS, entry[6]
            racy = entry[7] > young_ns or young_ns < mtime_ns <= began_ns + CLOCK_GRAIN_NS
            started_ns, began_ns = began_ns, now_ns()
            checksum = prefix + start(found[0]).hexdigest()
            copied = entry, temp, checksum, made, racy, max(0, began_ns - started_ns)
            done.append(make(PlainCopy, copied))
        return done, left

    def _write(  # a call a file: a tuple of arguments would cost more than it explains
        self,
        entry: Entry,
        found: tuple[bytes, os.stat_result],
        mirror: int,
        temp: bytes,
        first_mode: int,
        *,
        is_staged: bool,
    ) -> os.stat_result:
        """Write a temp, which has the `first_mode` until its owner is set; returns its stat. Raises `OSError`.

        The stat is from before the owner and the mode were set, but in a staged folder.
        """
        _, _, mode, uid, gid, size, mtime_ns, _ = entry
        data, seen = found
        written = os.open(temp, NEW_FILE, first_mode, dir_fd=mirror)
        try:
            if data and os.write(written, data) != size:
                raise OSError(errno.ENOSPC, "a short write")
            os.utime(written, ns=(seen.st_atime_ns, mtime_ns))
            made = os.fstat(written)
            if made.st_uid != uid or made.st_gid != gid:
                os.fchown(written, uid, gid)
            if made.st_mode != mode:
                os.fchmod(written, mode & _PERMISSIONS)
            if is_staged and (made.st_mode, made.st_uid, made.st_gid) != (mode, uid, gid):
                made = os.fstat(written)
            if made.st_size != size:
                raise OSError(errno.EIO, "a file of another size")
            space = self._free_space
            space.bytes_left -= size + BLOCK_BYTES
            space.files_left -= 1
            if space.bytes_left < 0 or space.files_left < 0 or space.device != made.st_dev:
                space.check(written, made, mirror)
        finally:
            os.close(written)  # may be the first call that reports a full disk
        return made


def _read(entry: Entry, folder: int, *, security: bool) -> tuple[bytes, os.stat_result] | None:
    """Return content and stat of a listed file; None if it has attributes to copy, or is not as listed once it is read.

    `security` as in `carried_over`. Raises `OSError`.
    """
    name, inode, mode, uid, gid, size, mtime_ns, ctime_ns = entry
    descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
    try:
        content = os.read(descriptor, size + 1)
        if has_attributes(descriptor, security=security):
            return None
        now = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    found = now.st_ino, now.st_mode, now.st_uid, now.st_gid, now.st_size, now.st_mtime_ns, now.st_ctime_ns
    same = found == (inode, mode, uid, gid, size, mtime_ns, ctime_ns)
    return (content, now) if same and len(content) == size else None


def read_both(record: Record, source: int, mirror: int, *, security: bool) -> bytes | None:
    """Return the content of a small file, or the target of a symlink, that both sides have; None if it is unknown.

    It is known only if both are exactly as recorded and have no attributes to copy; `security` as in `carried_over`.
    """
    listed, mirrored, checksum, *_ = record
    try:
        if checksum and listed[5] <= SMALL_BYTES:
            read, held = _read(listed, source, security=security), _read(mirrored, mirror, security=security)
            content = read[0] if read else None
            same = read is not None and held is not None and content == held[0]
        elif not checksum and stat.S_ISLNK(listed[2]) and stat.S_ISLNK(mirrored[2]):
            content, name = os.readlink(listed[0], dir_fd=source), mirrored[0]
            same = content == os.readlink(name, dir_fd=mirror)
            same = same and entry_of(name, os.stat(name, dir_fd=mirror, follow_symlinks=False)) == mirrored
        else:
            return None
    except OSError:
        return None
    return content if same else None


def copy_link(listed: Entry, source: int, mirror: int, temp: bytes, metadata_writer: MetadataWriter) -> Copied:
    """Make a symlink with the same text at `temp` in the open folder `mirror`, with its metadata.

    Raises `OSError`, or `ChangedWhileReadError`; no temp is left then.
    """
    with listed_handle(listed, source) as (handle, seen):
        target = os.readlink(b"", dir_fd=handle)
        attributes = for_new(metadata_writer.of_source(handle))
    os.symlink(target, single(temp), dir_fd=mirror)
    return _set_metadata(listed, seen, attributes, temp, mirror, metadata_writer)


def copy_special(listed: Entry, source: int, mirror: int, temp: bytes, metadata_writer: MetadataWriter) -> Copied:
    """Make a FIFO, socket or device of the same kind at `temp`. Raises as `copy_link` does."""
    with listed_handle(listed, source) as (handle, seen):
        attributes = for_new(metadata_writer.of_source(handle))
    try:
        os.mknod(single(temp), stat.S_IFMT(seen.st_mode) | 0o600, seen.st_rdev, dir_fd=mirror)
    except FileExistsError:
        raise
    except OSError:
        with suppress(OSError):  # the file system may have made a plain file before it refused
            os.unlink(temp, dir_fd=mirror)
        raise
    return _set_metadata(listed, seen, attributes, temp, mirror, metadata_writer)


def _set_metadata(
    listed: Entry,
    seen: os.stat_result,
    attributes: dict[bytes, bytes],
    temp: bytes,
    mirror: int,
    metadata_writer: MetadataWriter,
) -> Copied:
    try:
        with path_handle(temp, mirror) as handle:
            _check(os.fstat(handle), seen)
            metadata_writer.apply_at(handle, seen, attributes)
            made = os.fstat(handle)
    except BaseException:
        with suppress(OSError):
            os.unlink(temp, dir_fd=mirror)
        raise
    return Copied(entry_of(listed.name, seen), "", made.st_ino, made.st_mtime_ns)


def _check(made: os.stat_result, wanted: os.stat_result) -> None:
    if kind_of(made.st_mode) is not kind_of(wanted.st_mode) or made.st_nlink > 1:
        raise OSError(errno.ESTALE, "it is no longer in the mirror as it was just made")
