"""Log files: whole lines are appended to the file that has the name now, and files are rotated.

One process at a time rotates a log, by a lock on a private file beside it: the log itself may be readable for others,
and any process that can open a file can lock it.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from job.config.settings import LogRotate
from job.core.outcome import reason_text
from job.fs.dircursor import closing_fd
from job.fs.large_dir import name_exists
from job.fs.mounts import is_read_only, resolve_path
from job.fs.own_files import open_own_file
from job.fs.trusted_path import UntrustedPath, open_trusted_parent
from job.locking.lock import is_held

_OTHERS = 0o077
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def alone(name: bytes, folder: int) -> Iterator[None]:
    """Exclude other processes from rotating the log `name` in an open folder; the lock is removed at the end.

    Raises `BlockingIOError` if another process rotates it. Without a usable lock the block runs unprotected: two
    instances with one log are rarer than a log that grows.
    """
    lock = b".%s.lock" % name
    descriptor = _opened(lock, folder)
    if descriptor is None:
        yield
        return
    with closing_fd(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if not is_held(descriptor, folder, lock):
            raise BlockingIOError(errno.EAGAIN, "another process has just rotated it")
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(lock, dir_fd=folder)


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


# NONBLOCK: opening a planted FIFO must not wait for a reader.
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
    """Writes whole lines to an open descriptor, also after partial writes."""

    def __init__(self, *, torn: bool = False, encoding: str = "utf-8") -> None:
        """If `torn`, the file ends with a part of a line, and a line end is written first."""
        self._begun = b"\n" if torn else b""
        self._encoding = encoding

    @property
    def in_mid_line(self) -> bool:
        """Whether only a part of the last line was written."""
        return bool(self._begun)

    def add(self, descriptor: int, lines: str) -> None:
        """Write lines, each with its line end.

        Raises `OSError` if not all are written. The rest is lost, but a partly written line is completed later.
        """
        data = self._begun + lines.encode(self._encoding, "backslashreplace")
        written = 0
        try:
            # An almost full disk takes a part first, and raises only at the next write.
            while written < len(data):
                written += os.write(descriptor, data[written:] if written else data)
        finally:
            begun = data[written - 1 : written] != b"\n" if written else bool(self._begun)
            self._begun = data[written : data.find(b"\n", written) + 1] if begun else b""


NO_ROTATION = LogRotate(size=None, kept=1)


class LineFile:
    """A regular file at `path`, created with mode 0600.

    A missing last folder of the path is created, unless it is in or above a folder in `roots`: a log must not create a
    source or mirror whose disk is not mounted. Links on the way are followed as in `trusted_path`; the file is never a
    link, and always our own: see `mistrust`.
    """

    def __init__(self, path: str, *, roots: Sequence[str] = (), rotation: LogRotate = NO_ROTATION) -> None:
        self.path = path
        self._roots = roots
        self._rotation = rotation
        self._descriptor = -1
        self._identity = (0, 0)
        self._size = 0
        self._end = LineEnd()

    def add(self, lines: str) -> None:
        """Append whole lines, each with its line end.

        Raises `OSError` with a full sentence if not all are written, or if all are written but rotation failed.
        """
        if self._descriptor < 0 or self._moved():
            self.close()
            self._open()
        trouble = self._rotate_if_full(lines, self._rotation.size) if self._rotation.size else None
        try:
            self._end.add(self._descriptor, lines)
        except OSError as error:
            raise OSError(error.errno, f"{self.path} cannot be written: {reason_text(error)}") from error
        if trouble is not None:
            raise OSError(trouble.errno, f"{self.path} cannot be rotated: {trouble.strerror}")

    def close(self) -> None:
        """Close the file; the next lines open it again."""
        if self._descriptor >= 0:
            # Nothing is buffered; a late write error reported by close cannot be handled.
            with suppress(OSError):
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
        with closing_fd(folder):
            descriptor, opened = _open_regular(name, folder, self.path)
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
        from job.config.consistency import relation  # noqa: PLC0415  # for a new log only

        path = os.path.dirname(self.path.rstrip("/"))
        above, name = open_trusted_parent(path)
        with closing_fd(above):
            real = os.path.join(os.readlink(f"/proc/self/fd/{above}"), os.fsdecode(name))
            for root in self._roots:
                if relation(real, resolve_path(root)):
                    why = f"the folder {path} is missing and is not made, since it belongs to {root}"
                    raise FileNotFoundError(errno.ENOENT, why) from missing
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)

    def _rotate_if_full(self, lines: str, limit: int) -> OSError | None:
        """Rotate the file if these lines would exceed its limit; return the error if that fails."""
        wanted = len(lines) if lines.isascii() else len(lines.encode("utf-8", "backslashreplace"))
        # A partly written line is completed in the same file.
        if not self._size or self._size + wanted <= limit or self._end.in_mid_line:
            return None
        full = self._descriptor
        try:
            self._rotate()
            self._open()
        except OSError as error:
            return error  # the open file takes these lines, under any name
        with suppress(OSError):
            os.close(full)
        return None

    def _rotate(self) -> None:
        folder, name = self._folder()
        # Two instances may write one log; concurrent shifts would drop files.
        with closing_fd(folder), suppress(BlockingIOError, FileNotFoundError), alone(name, folder):
            ours = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (ours.st_dev, ours.st_ino) == self._identity:
                _shift(name, folder, self._rotation.kept)


def why_no_log(path: str) -> str:
    """Return why no log is written to this path, such as a link or another user's file; empty if none is found.

    Nothing is opened or created, so missing folders and permissions show up only with the first line.
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
    with closing_fd(folder):
        if is_read_only(folder):
            return "it lies on a file system that is read-only here; write another path"
        return _why_not("it", name, folder)


def is_one_file(path: str, other: str) -> bool:
    """Return whether two paths name one file, which need not exist."""
    if path == other:
        return True
    try:
        one, two = (_place(each) for each in (path, other))
    except OSError:
        return False
    return one == two


def _place(path: str) -> tuple[int, int, bytes]:
    folder, name = open_trusted_parent(path)
    with closing_fd(folder):
        found = os.fstat(folder)
    return found.st_dev, found.st_ino, name


def _why_not(shown: str, name: bytes, folder: int) -> str:
    """Return why the entry `name` of an open folder is not usable as a log; empty if it is, or does not exist."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        long = error.errno == errno.ENAMETOOLONG
        return f"{shown} has a longer name than its file system can hold; write a shorter one" if long else ""
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "")
    return _not_regular(shown, kind) if kind else mistrust(shown, found, os.fstat(folder))


def mistrust(shown: str, file: os.stat_result, folder: os.stat_result) -> str:
    """Return why a regular file in a folder is not written to; empty if it is.

    It must belong to this user or root and have one hard link. In a folder where another user can rename entries, any
    file of ours may have been moved there, so it must have no permissions for others.
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
    """Open a regular file for appending. Raises `OSError` with a full sentence."""
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
    """Rename a file to `.1` and each older one to the next number; the oldest of `kept` is replaced.

    Renames go from the oldest to the newest, so that an interruption loses no file. A free number, as after a kill,
    ends the shift, so that no file is dropped needlessly.
    """
    names = [name, *(b"%s.%d" % (name, number) for number in range(1, kept + 1))]
    taken = 1
    while taken < kept and name_exists(folder, names[taken]):
        taken += 1
    for number in range(taken, 0, -1):
        os.rename(names[number - 1], names[number], src_dir_fd=folder, dst_dir_fd=folder)


def _is_torn(file: int, size: int) -> bool:
    """Return whether an open file ends within a line, as after a full disk or a kill; False if unreadable."""
    if not size:
        return False
    with suppress(OSError):
        readable = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
        with closing_fd(readable):
            return os.pread(readable, 1, size - 1) != b"\n"
    return False
