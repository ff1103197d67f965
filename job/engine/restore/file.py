"""Restore one file, symlink or special file: a temp beside the final name, checked while it is written, then renamed.

Nothing is replaced: a name that is taken stays, or its entry is renamed first, so that both are kept.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from job.config.settings import Pair
from job.core.entry import TEMP_PREFIX, Entry, Kind, kind_of
from job.core.file_systems import Capabilities
from job.engine.restore.kept import Content
from job.engine.volumes import metadata_writer_for
from job.fs.copier import Copier
from job.fs.dircursor import DirCursor, closing_fd, open_name, path_handle, single
from job.fs.listing import entry_of
from job.fs.metadata import MetadataWriter
from job.fs.small_copies import copy_link, copy_special
from job.fs.xattrs import for_new

_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_REPLACE = 1
_NO_SUCH_CALL = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
_ALL_ZEROS = 1 << 62
"""Recorded checksums of whole contents are compared with whole contents, however many zeros these have."""


class RottenError(Exception):
    """A content does not have its recorded checksum."""


class FileRestorer:
    """Makes temps of contents of one mirror in open folders of a target. Use it with `contextlib.closing`."""

    def __init__(
        self, mirror: int, pair: Pair, able: Capabilities, on_chunk: Callable[[int], None], *, sync_each: bool
    ) -> None:
        """`mirror` is the open root; `able` are the capabilities of the target's file system."""
        self._cursor = DirCursor(mirror)
        self.metadata_writer: MetadataWriter = metadata_writer_for(pair, able)
        self._pair, self._able, self._on_chunk, self.sync_each = pair, able, on_chunk, sync_each
        self._copiers: dict[str, Copier] = {}
        self._made = 0
        self.prefix = TEMP_PREFIX + os.urandom(4).hex().encode("ascii")
        """Of the names of all temps."""
        self.has_left_temps = False
        """Whether a temp could not be removed."""

    def close(self) -> None:
        """Close what was opened."""
        self._cursor.close()

    def new_temp(self) -> bytes:
        """Return an unused name, which a later cycle takes for that of a temp."""
        self._made += 1
        return b"%s-%x" % (self.prefix, self._made)

    def checkpoint(self) -> None:
        """Call `on_chunk` without bytes, which may raise."""
        self._on_chunk(0)

    def discard(self, temp: bytes, folder: int) -> None:
        """Remove a temp of an open folder, if there is one."""
        try:
            os.unlink(temp, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError:
            self.has_left_temps = True

    def make(self, content: Content, folder: int, temp: bytes) -> str:
        """Make a temp with a content and its metadata in an open folder of the target; return the checksum of a file.

        Raises `RottenError`, `ChangedWhileReadError` or `OSError`; no temp is left then.
        """
        entry, checksum = content.entry, ""
        try:
            if not content.is_held:
                self._make_recorded(content, folder, temp)
            elif entry.kind is Kind.FILE:
                checksum = self._copy(content, folder, temp)
            else:
                make = copy_link if entry.kind is Kind.SYMLINK else copy_special
                make(entry, self._cursor.goto(content.folder), folder, temp, self.metadata_writer)
            self._set_recorded(content, folder, temp)
        except BaseException:
            self.discard(temp, folder)
            raise
        return checksum

    def _copy(self, content: Content, folder: int, temp: bytes) -> str:
        copied = self._copier(content).copy(content.entry, self._cursor.goto(content.folder), folder, temp)
        if content.checksum and copied.checksum != content.checksum:
            raise RottenError(f"it has the checksum {copied.checksum}, and {content.checksum} is recorded")
        return copied.checksum

    def _copier(self, content: Content) -> Copier:
        algorithm = content.checksum.partition(":")[0] or self._pair.checksum
        copier = self._copiers.get(algorithm)
        if copier is None:
            copier = self._copiers[algorithm] = Copier(
                algorithm,
                self.metadata_writer,
                self._on_chunk,
                sync_each=self.sync_each,
                reflink=self._pair.reflink,
                sparse=self._able.sparse,
            )
            copier.zeros_left = _ALL_ZEROS
            copier.use_all_space()
        return copier

    def _make_recorded(self, content: Content, folder: int, temp: bytes) -> None:
        """Make a symlink or special file that the mirror cannot hold, by the index."""
        noted = content.unsupported
        if noted is None:
            raise OSError(errno.ENOENT, "the index does not say what it was")
        if stat.S_ISLNK(noted.mode):
            os.symlink(noted.target, single(temp), dir_fd=folder)
        elif stat.S_ISFIFO(noted.mode) or stat.S_ISSOCK(noted.mode) or self._pair.specials == "recreate":
            os.mknod(single(temp), stat.S_IFMT(noted.mode) | 0o600, noted.rdev, dir_fd=folder)
        else:
            raise OSError(errno.EPERM, 'the index says that it is a device, and specials is not "recreate"')

    def _set_recorded(self, content: Content, folder: int, temp: bytes) -> None:
        """Set the metadata that the index has, and the mirror cannot hold."""
        wanted = recorded_stat(content)
        if wanted is None:
            return
        noted = content.unsupported
        with path_handle(temp, folder) as handle:
            found = os.fstat(handle)
            attributes = for_new(self.metadata_writer.present(handle)) | dict(noted.attributes if noted else ())
            if kind_of(found.st_mode) is not Kind.FILE:
                self.metadata_writer.apply_at(handle, wanted, attributes)
                return
        with closing_fd(open_name(temp, folder)) as opened:
            self.metadata_writer.apply(opened, wanted, attributes)

    def is_equal(self, content: Content, name: bytes, folder: int) -> bool:
        """Return whether an entry of the target has a content already; metadata is not compared.

        Raises `OSError` or `ChangedWhileReadError`.
        """
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        entry, noted = content.entry, content.unsupported
        if kind_of(there.st_mode) is not entry.kind:
            return False
        if not content.is_held:
            if noted is None or _device(there) != (stat.S_IFMT(noted.mode), noted.rdev):
                return False
            return entry.kind is Kind.SPECIAL or os.readlink(name, dir_fd=folder) == noted.target
        held = self._cursor.goto(content.folder)
        if entry.kind is Kind.SYMLINK:
            return os.readlink(name, dir_fd=folder) == os.readlink(entry.name, dir_fd=held)
        if entry.kind is Kind.SPECIAL:
            return _device(there) == _device(os.stat(entry.name, dir_fd=held, follow_symlinks=False))
        if there.st_size != entry.size:
            return False
        copier = self._copier(content)
        found, _ = copier.checksum(entry_of(name, there), folder)
        return found == (content.checksum or copier.checksum(entry, held)[0])


def _device(found: os.stat_result) -> tuple[int, int]:
    """Return type and device number."""
    return stat.S_IFMT(found.st_mode), found.st_rdev


def recorded_stat(content: Content) -> os.stat_result | None:
    """Return the metadata of a content by the index, if the mirror has other metadata; None if not."""
    noted, source, entry = content.unsupported, content.source, content.entry
    if noted is not None:
        return stat_of(noted.mode, noted.uid, noted.gid, noted.mtime_ns)
    if source is None or _metadata(source) == _metadata(entry):
        return None
    return stat_of(source.mode, source.uid, source.gid, source.mtime_ns)


def _metadata(entry: Entry) -> tuple[int, int, int, int]:
    return entry.mode, entry.uid, entry.gid, entry.mtime_ns


def stat_of(mode: int, uid: int, gid: int, mtime_ns: int) -> os.stat_result:
    """Return the stat of an entry with this metadata."""
    times = {"st_atime_ns": mtime_ns, "st_mtime_ns": mtime_ns}
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0), times)


def rename_new(name: bytes, new: bytes, folder: int) -> None:
    """Rename an entry of an open folder; `FileExistsError` if the new name is taken. Raises `OSError`."""
    call = getattr(_LIBC, "renameat2", None)
    if call is not None:
        if call(folder, single(name), folder, single(new), ctypes.c_uint(_NO_REPLACE)) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NO_SUCH_CALL:
            raise OSError(number, os.strerror(number))
    try:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(name, dir_fd=folder)
        return
    # Without both calls, as on some servers, a name that another program makes just now is replaced.
    with suppress(FileNotFoundError):
        os.stat(new, dir_fd=folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(name, new, src_dir_fd=folder, dst_dir_fd=folder)
