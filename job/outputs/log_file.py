"""Append whole lines to a log file or stream, each in one write, to the file that has the name now.

One process at a time rotates a log. It locks a file beside the log that no other user can open: a log may be readable
for others, and who can open a file can lock it.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from job.config.consistency import relation
from job.core.outcome import reason_text
from job.fs.mounts import resolve_path
from job.fs.small_files import open_own_file
from job.fs.trusted_path import UntrustedPath, open_trusted_parent
from job.locking.lock import is_held

_OTHERS = 0o077
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def alone(name: bytes, folder: int) -> Iterator[None]:
    """Keep other processes of ours from rotating the log `name` in an open folder; its lock is removed at the end.

    Raises `BlockingIOError` if another process rotates it. Where somebody else took the name of the lock, or there are
    no locks, nobody is kept from anything: two instances that write one log are rare, and a log that grows is not.
    """
    lock = b".%s.lock" % name
    descriptor = _opened(lock, folder)
    if descriptor is None:
        yield
        return
    try:
        _take(descriptor)
        if not is_held(descriptor, folder, lock):
            raise BlockingIOError(errno.EAGAIN, "another process has just rotated it")
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(lock, dir_fd=folder)
    finally:
        os.close(descriptor)


def _opened(lock: bytes, folder: int) -> int | None:
    try:
        descriptor = open_own_file(lock, folder, os.O_RDWR | os.O_CREAT)
    except OSError:
        return None
    seen = os.fstat(descriptor)
    if seen.st_uid == os.geteuid() and not seen.st_mode & _OTHERS:
        return descriptor
    os.close(descriptor)
    return None


def _take(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


# NONBLOCK so that opening a planted FIFO ends at once instead of waiting for a reader.
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class LineEnd:
    """Adds whole lines to an open descriptor, also where it takes only a part of them."""

    def __init__(self, *, torn: bool = False, encoding: str = "utf-8") -> None:
        """`torn` says that somebody before us left a part of a line, which ends before ours begin."""
        self._begun = b"\n" if torn else b""
        self._encoding = encoding

    @property
    def in_mid_line(self) -> bool:
        """Whether a part of a line was written, whose rest is still to come."""
        return bool(self._begun)

    def add(self, descriptor: int, lines: str) -> None:
        """Add lines, each with its line end.

        Raises `OSError` where not all of them are taken. The others are lost, but for one that was begun: the rest of
        it comes before the next lines, so that no line is torn and none is glued to another.
        """
        data = self._begun + lines.encode(self._encoding, "backslashreplace")
        written = 0
        try:
            # A disk that is almost full takes a part first, and says why only at the next try.
            while written < len(data):
                written += os.write(descriptor, data[written:] if written else data)
        finally:
            begun = data[written - 1 : written] != b"\n" if written else bool(self._begun)
            self._begun = data[written : data.find(b"\n", written) + 1] if begun else b""


class Rotation(NamedTuple):
    """When a file gives way to a new one, and how many old ones stay."""

    size: int
    """Bytes that a file may have; 0 for any number."""
    kept: int
    """Old files that are kept, one at least, as `.1` (the newest), `.2` and so on."""


NO_ROTATION = Rotation(0, 1)


class LineFile:
    """A regular file at `path`, for its owner only if it has to be made.

    The folder it is in is made if only that is missing, and if it lies apart from every folder in `roots`, neither in
    nor above it: a source or mirror whose disk is not mounted must not exist because of a log. Links on the way are
    followed as in `trusted_path`; the file itself is never a link, and always ours: see `mistrust`.
    """

    def __init__(self, path: str, *, roots: Sequence[str] = (), rotation: Rotation = NO_ROTATION) -> None:
        self.path = path
        self._roots = roots
        self._rotation = rotation
        self._descriptor = -1
        self._identity = (0, 0)
        self._size = 0
        self._end = LineEnd()

    def add(self, lines: str) -> None:
        """Add whole lines, each with its line end.

        Raises `OSError` where not all of them are taken, and, with all of them taken, where the file is to be rotated
        and cannot be. `strerror` is in words.
        """
        if self._descriptor < 0 or self._moved():
            self.close()
            self._open()
        trouble = self._rotate_if_full(lines) if self._rotation.size else None
        try:
            self._end.add(self._descriptor, lines)
        except OSError as error:
            raise OSError(error.errno, f"{self.path} cannot be written: {reason_text(error)}") from error
        if trouble is not None:
            raise OSError(trouble.errno, f"{self.path} cannot be rotated: {trouble.strerror}")

    def close(self) -> None:
        """Close the file; the next lines open it again."""
        if self._descriptor >= 0:
            # Nothing is buffered here; an error of an earlier write that close reports cannot be acted on.
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _moved(self) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        self._size = there.st_size
        return (there.st_dev, there.st_ino) != self._identity or there.st_nlink != 1

    def _open(self) -> None:
        folder, name = self._folder()
        try:
            descriptor, opened = _open_regular(name, folder, self.path)
        finally:
            os.close(folder)
        self._descriptor, self._size = descriptor, opened.st_size
        if self._identity != (opened.st_dev, opened.st_ino):
            self._identity = opened.st_dev, opened.st_ino
            self._end = LineEnd(torn=_is_torn(descriptor, opened.st_size))

    def _folder(self) -> tuple[int, bytes]:
        try:
            return open_trusted_parent(self.path)
        except FileNotFoundError as missing:
            self._make_folder(missing)
            return open_trusted_parent(self.path)

    def _make_folder(self, missing: FileNotFoundError) -> None:
        path = os.path.dirname(self.path.rstrip("/"))
        above, name = open_trusted_parent(path)
        try:
            real = os.path.join(os.readlink(f"/proc/self/fd/{above}"), os.fsdecode(name))
            for root in self._roots:
                if relation(real, resolve_path(root)):
                    why = f"the folder {path} is missing and is not made, since it belongs to {root}"
                    raise FileNotFoundError(errno.ENOENT, why) from missing
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
        finally:
            os.close(above)

    def _rotate_if_full(self, lines: str) -> OSError | None:
        """Rotate the file if these lines were too many for it; give the error if it cannot be."""
        wanted = len(lines) if lines.isascii() else len(lines.encode("utf-8", "backslashreplace"))
        # The rest of a line that was begun belongs to the file that has its beginning.
        if not self._size or self._size + wanted <= self._rotation.size or self._end.in_mid_line:
            return None
        full = self._descriptor
        try:
            self._rotate()
            self._open()
        except OSError as error:
            return error  # what is open, whatever its name is now, takes these lines, too
        with contextlib.suppress(OSError):
            os.close(full)
        return None

    def _rotate(self) -> None:
        folder, name = self._folder()
        try:
            # Two instances may write one log; two shifts at the same time would drop files.
            with alone(name, folder):
                ours = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if (ours.st_dev, ours.st_ino) == self._identity:
                    _shift(name, folder, self._rotation.kept)
        except (BlockingIOError, FileNotFoundError):
            return  # the other one rotates it now
        finally:
            os.close(folder)


def why_no_log(path: str) -> str:
    """Say why no log is written to this path, as a link or another user's file; empty if it is, as far as can be told.

    Nothing is opened or made, so that missing folders and missing rights show up with the first line only.
    """
    try:
        folder, name = open_trusted_parent(path)
    except UntrustedPath as error:
        return f"{error.strerror}. {error.hint}"
    except FileNotFoundError:
        above = os.path.dirname(os.path.dirname(path.rstrip("/")))
        if above and not os.path.isdir(above):
            return f"the folder {above} does not exist, and only the last folder of a path is made; make it"
        return ""
    except OSError:
        return ""
    try:
        if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
            return "it lies on a file system that is read-only here; write another path"
        return _why_not("it", name, folder)
    finally:
        os.close(folder)


def is_one_file(path: str, other: str) -> bool:
    """Tell whether two paths mean one file, which need not be there, however they are written."""
    if path == other:
        return True
    try:
        one, two = (_place(each) for each in (path, other))
    except OSError:
        return False
    return one == two


def _place(path: str) -> tuple[int, int, bytes]:
    folder, name = open_trusted_parent(path)
    try:
        found = os.fstat(folder)
    finally:
        os.close(folder)
    return found.st_dev, found.st_ino, name


def _why_not(shown: str, name: bytes, folder: int) -> str:
    """Say why what has a name in an open folder is no file for a log; empty if it is one, or there is nothing."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        long = error.errno == errno.ENAMETOOLONG
        return f"{shown} has a longer name than its file system can hold; write a shorter one" if long else ""
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "")
    return _not_regular(shown, kind) if kind else mistrust(shown, found, os.fstat(folder))


def mistrust(shown: str, file: os.stat_result, folder: os.stat_result) -> str:
    """Say why a regular file in a folder is not written to, which others than its owner may read then; empty if it is.

    It must be ours or root's and have one name. Where another user may exchange names in the folder, a file of ours may
    be any that they could move there: so nobody else may have rights for it.
    """
    user = os.geteuid()
    if file.st_uid not in {user, 0}:
        ours = f"of root and of user {user}" if user else "of root"
        return f"{shown} belongs to user {file.st_uid}, and a log is written to files {ours} only; move that file away"
    if file.st_nlink > 1:
        return f"{shown} has {file.st_nlink} names (hard links), and may be another file; remove this name"
    open_to_all = folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX
    if file.st_mode & 0o077 and (open_to_all or folder.st_uid not in {user, 0}):
        writers = "everybody" if open_to_all else f"user {folder.st_uid}"
        mode = stat.S_IMODE(file.st_mode)
        return (
            f"{shown} has mode {mode:04o}, and {writers} may exchange the files in its folder; "
            f"chmod 600 the file, or make the folder's owner root and its mode 0755"
        )
    return ""


def _open_regular(name: bytes, folder: int, path: str) -> tuple[int, os.stat_result]:
    """Open a regular file for adding to it. Raises `OSError`, in words for anything else that has the name."""
    try:
        descriptor = os.open(name, _OPEN_FLAGS, 0o600, dir_fd=folder)
    except OSError as error:
        if why := _why_not(path, name, folder):
            raise OSError(error.errno, why) from error
        raise OSError(error.errno, f"{path} cannot be opened: {reason_text(error)}") from error
    opened = os.fstat(descriptor)
    if not stat.S_ISREG(opened.st_mode):
        why = _not_regular(path, _KINDS.get(stat.S_IFMT(opened.st_mode), "no file"))
    else:
        why = mistrust(path, opened, os.fstat(folder))
    if not why:
        return descriptor, opened
    os.close(descriptor)
    raise OSError(errno.EPERM, why)


def _not_regular(path: str, kind: str) -> str:
    return f"{path} is {kind}; a log is written to a regular file only, so name one, or remove what is there"


def _shift(name: bytes, folder: int, kept: int) -> None:
    """Give a file the ending `.1`, and each older one the next number; the oldest of `kept` is replaced.

    By renames from the oldest to the newest: whenever this is interrupted, every file still has a name. A number that
    is free, as after a kill, ends the shift, so that nothing is dropped that need not be.
    """
    names = [name, *(b"%s.%d" % (name, number) for number in range(1, kept + 1))]
    taken = 1
    while taken < kept and _exists(names[taken], folder):
        taken += 1
    for number in range(taken, 0, -1):
        os.rename(names[number - 1], names[number], src_dir_fd=folder, dst_dir_fd=folder)


def _exists(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_torn(file: int, size: int) -> bool:
    """Tell whether an open file ends in mid-line, as a full disk or a kill leaves it; False if it cannot be read."""
    if not size:
        return False
    with contextlib.suppress(OSError):
        readable = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(readable, 1, size - 1) != b"\n"
        finally:
            os.close(readable)
    return False
