"""The journal of a restore: what it leaves in its target if it is killed, so that the next one there removes it.

It is a file in the target's root, with a random number in its name that is also in the names of all temps of its
restore, and is removed at the end. A source leaves it out of its backup, as other temps. It has the folders with temps,
and the inodes of new folders whose metadata is set at the end. A restore that runs holds a lock on its journal; the
next one removes what other journals of this user name, and nothing else. It is not synced by itself, but with the temps
of each batch.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from job.core.entry import TEMP_PREFIX
from job.fs.dircursor import DirCursor, closing_fd
from job.fs.large_dir import is_temp_name, names_in
from job.fs.own_files import open_own_file, write_all
from job.locking.lock import is_held

_SUFFIX = b"-0"
"""The numbers of temps begin with 1."""
_NAME = re.compile(re.escape(TEMP_PREFIX) + rb"[0-9a-f]{8}" + re.escape(_SUFFIX))
_HEAD = b"truecopy restore 1"
"""The first record."""
_END = b"\0"
_TEMPS, _FOLDER = b"t", b"f"
_MOST_BYTES = 64 << 20
_TRIES = 3
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.EIO}


@contextmanager
def keeping_times(folder: int) -> Iterator[None]:
    """Give an open folder its times again after changes of our own, if that is allowed."""
    before = os.fstat(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


class RestoreJournal:
    """The journal of one restore to an open target; use `end` when the restore has ended, however it did."""

    def __init__(self, target: int, prefix: bytes) -> None:
        """`prefix` begins the names of the temps. The file is made by the first note."""
        self._target = target
        self._name = prefix + _SUFFIX
        self._file: int | None = None
        self._noted: bytes | None = None

    def note_temps(self, folder: bytes) -> None:
        """Note that a folder, by its path, will have temps. Raises `OSError`."""
        if folder != self._noted:
            self._write(_TEMPS + folder)
            self._noted = folder

    def note_folder(self, path: bytes, inode: int) -> None:
        """Note a new folder, which is about to get its path. Raises `OSError`."""
        self._write(b"%s%x/%s" % (_FOLDER, inode, path))

    def _write(self, record: bytes) -> None:
        if self._file is None:
            self._file = self._opened()
        size = os.fstat(self._file).st_size
        try:
            write_all(self._file, record + _END)
        except OSError:
            os.ftruncate(self._file, size)  # no part of it may become part of the next
            raise

    def _opened(self) -> int:
        for _ in range(_TRIES):
            with keeping_times(self._target):
                file = open_own_file(self._name, self._target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if _lock(file) and is_held(file, self._target, self._name):
                write_all(file, _HEAD + _END)
                return file
            os.close(file)  # another restore took it for one of a killed restore
        raise OSError(errno.EAGAIN, "another restore to the same folder removed the journal of this one")

    def end(self, *, is_clean: bool) -> None:
        """Remove the journal if nothing is left of its restore."""
        if self._file is not None:
            if is_clean:
                with suppress(OSError), keeping_times(self._target):
                    os.unlink(self._name, dir_fd=self._target)
            os.close(self._file)
            self._file = None


def clean_up(target: int) -> dict[bytes, int]:
    """Remove the temps of killed restores to an open target; return paths and inodes of folders that they made.

    Raises `OSError` if the target cannot be listed.
    """
    journals = [name for some in names_in(target) for name in some if _NAME.fullmatch(name)]
    made: dict[bytes, int] = {}
    for name in journals:
        with suppress(OSError), closing_fd(open_own_file(name, target, os.O_RDWR)) as file:
            if os.fstat(file).st_uid == os.geteuid() and _lock(file) and is_held(file, target, name):
                made |= _remove_by(file, name, target)
    return made


def _remove_by(file: int, name: bytes, target: int) -> dict[bytes, int]:
    """Remove the temps that an open journal names, then the journal, unless it is none.

    Raises `OSError` if any of them is left.
    """
    made: dict[bytes, int] = {}
    with open(file, "rb", closefd=False) as content:
        text = content.read(_MOST_BYTES)
    head, *records = text.split(_END)[:-1] or [_HEAD if not text else b""]  # the rest is an interrupted write
    if head != _HEAD:
        return made  # something else
    with closing(DirCursor(target)) as cursor:
        for record in dict.fromkeys(records):
            kind, path = record[:1], record[1:]
            if kind == _TEMPS:
                _remove_temps(cursor, path, name)
            elif kind == _FOLDER:
                inode, _, path = path.partition(b"/")
                with suppress(ValueError):
                    made[path] = int(inode, 16)
    with keeping_times(target):
        os.unlink(name, dir_fd=target)
    return made


def _remove_temps(cursor: DirCursor, path: bytes, journal: bytes) -> None:
    """Remove the temps of a journal, by its name, from a folder. Raises `OSError` if any of them is left."""
    try:
        folder = cursor.goto(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _UNREADABLE:
            raise
        return  # it is no folder any more, or never was one
    prefix = journal.removesuffix(_SUFFIX) + b"-"
    names = [name for some in names_in(folder) for name in some if name.startswith(prefix) and is_temp_name(name)]
    for name in names:
        if name != journal:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            (os.rmdir if is_folder else os.unlink)(name, dir_fd=folder)  # a folder is new, and empty


def _lock(file: int) -> bool:
    """Lock an open journal; False if its restore runs. Without usable locks it counts as killed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EAGAIN, errno.EACCES}
    return True
