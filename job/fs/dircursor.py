"""Walk a tree by directory descriptors: no path string is ever resolved twice, no symlink ever followed (invariant 12).

A `DirCursor` holds the descriptors from the root to the folder it stands in and moves to another folder over their
common ancestor, so visiting folders in walk order costs about one open each. Only the nearest descriptors stay open, at
any depth; the way back up goes through `..` and is believed only if device and inode are those of the folder left.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from struct import calcsize

from job.core.entry import Entry, kind_of
from job.errors import ChangedWhileReadError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""Flags that open a listed file for reading, and never wait for a FIFO."""
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 8
_CLOSED = -1
_LONGEST_UNUSUAL = len(b"..")

Identity = tuple[int, int]
"""Device and inode number."""


def open_root(path: str) -> int:
    """Open a configured root once. The root itself may be a symlink of the user's; nothing below it may."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextmanager
def closing_fd(descriptor: int) -> Iterator[int]:
    """Close an open descriptor at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Folder(int):
    """Descriptor of a folder that was opened here; for a second listing it is opened anew."""

    listed = False
    """Whether it was listed by this descriptor."""


def open_folder(name: bytes, parent: int) -> Folder:
    """Open the folder `name` in `parent`; `OSError` (ENOTDIR or ELOOP) if it is anything but a folder."""
    if len(name) <= _LONGEST_UNUSUAL or b"/" in name:
        single(name)
    return Folder(os.open(name, _FOLDER, dir_fd=parent))


def open_name(name: bytes, folder: int) -> int:
    """Open `name` in `folder` for reading: never a link, and never waiting for the other end of a FIFO.

    The caller checks its type. Raises `OSError`.
    """
    return os.open(single(name), OPEN_FILE, dir_fd=folder)


class PathHandle(int):
    """O_PATH descriptor of an entry that is neither opened nor followed, such as a link or a special file."""

    @property
    def path(self) -> bytes:
        """A path to exactly this entry, for calls that take no such descriptor; it has to be followed."""
        return b"/proc/self/fd/%d" % self


@contextmanager
def path_handle(name: bytes, folder: int) -> Iterator[PathHandle]:
    """Hold the entry `name` of an open folder without opening it. Raises `OSError`."""
    with closing_fd(os.open(single(name), _HANDLE, dir_fd=folder)) as descriptor:
        yield PathHandle(descriptor)


def open_listed(listed: Entry, folder: int) -> tuple[int, os.stat_result]:
    """Open exactly the listed regular file for reading, never blocking.

    Raises `OSError`, or `ChangedWhileReadError` if something else has the name now.
    """
    name = listed.name
    if b"/" in name:
        single(name)
    descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_ino != listed.inode:
        os.close(descriptor)
        raise ChangedWhileReadError("something else has its name now")
    os.set_blocking(descriptor, True)
    return descriptor, found


@contextmanager
def listed_handle(listed: Entry, folder: int) -> Iterator[tuple[PathHandle, os.stat_result]]:
    """Hold a listed symlink or special file without opening it; yields its lstat, too. Raises as `open_listed`."""
    with path_handle(listed.name, folder) as handle:
        found = os.fstat(handle)
        if kind_of(found.st_mode) is not listed.kind or found.st_ino != listed.inode:
            raise ChangedWhileReadError("something else has its name now")
        yield handle, found


def unmoved(before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether a file is unchanged between two stats."""
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
        and before.st_mode == after.st_mode
        and before.st_uid == after.st_uid
        and before.st_gid == after.st_gid
    )


def single(name: bytes) -> bytes:
    """Check that a name is one path component: names in an index or a listing are hostile input."""
    if not name or b"/" in name or b"\0" in name or name in {b".", b".."}:
        raise ValueError(f"not a single path component: {name!r}")
    return name


def identity(descriptor: int) -> Identity:
    """Return device and inode of an open file."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


_GET_GENERATION = 0x80007601 | calcsize("l") << 16
"""FS_IOC_GETVERSION (linux/fs.h): the generation of an inode, 4 bytes."""


def generation_of(descriptor: int, file_system: str) -> str:
    """Return a text that differs for two folders that had one inode number, one after the other; empty if unknown.

    `file_system` is the type. Where the kernel has no answer, inode numbers may be invented, as on exFAT.
    """
    if file_system == "tmpfs":
        return "never used again"
    answer = bytearray(calcsize("l"))
    try:
        ioctl(descriptor, _GET_GENERATION, answer)
    except OSError:
        return ""
    return answer[:4].hex() if any(answer) else ""


class _Step:
    __slots__ = ("descriptor", "identity", "name")

    def __init__(self, name: bytes, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.identity: Identity | None = None
        """Set once the descriptor was closed: only then the way back must be checked."""


class DirCursor:
    """A cursor over the folders below one root; use it with `contextlib.closing`."""

    def __init__(self, root: int, kept: int = _KEPT_OPEN) -> None:
        """Start at the root, whose descriptor stays the caller's and is not closed here.

        The nearest `kept` descriptors below it, at least two, stay open.
        """
        self._root = root
        self._kept = kept
        self._steps: list[_Step] = []
        self._at: bytes | None = b""
        self._above = b""
        """The path of the folder above `_at`."""

    def close(self) -> None:
        """Return to the root, and close all descriptors that were opened below it."""
        self._at = None
        while self._steps:
            self._close(self._steps.pop())

    def goto(self, path: bytes) -> int:
        """Move to the folder at `path` below the root and return its descriptor, valid until the next move.

        Raises `OSError` if a component is missing, is no folder, or may not be opened; the cursor stays usable.
        """
        at = self._at
        if path != at:
            self._at = None
            above, slash, name = path.rpartition(b"/")
            plain = name and bool(above) == bool(slash)
            # Walks mostly go down to a child or over to a sibling.
            if plain and above == at:
                self._descend(name)
            elif plain and at and above == self._above:
                self._go_beside(name)
            elif at and path == self._above:
                self._climb(len(self._steps) - 1)
            else:
                self._move(path.split(b"/") if path else [])
            self._at, self._above = path, above
        return self._steps[-1].descriptor if self._steps else self._root

    def _go_beside(self, name: bytes) -> None:
        steps = self._steps
        parent = steps[-2].descriptor if len(steps) > 1 else self._root
        if parent == _CLOSED:
            self._climb(len(steps) - 1)
            self._descend(name)
        else:
            self._close(steps.pop())
            steps.append(_Step(name, open_folder(name, parent)))

    def _move(self, parts: list[bytes]) -> None:
        common = 0
        for part, step in zip(parts, self._steps, strict=False):
            if part != step.name:
                break
            common += 1
        self._climb(common)
        for part in parts[common:]:
            self._descend(part)

    def _descend(self, name: bytes) -> None:
        parent = self._steps[-1].descriptor if self._steps else self._root
        if len(self._steps) >= self._kept:
            far = self._steps[-self._kept]
            if far.descriptor != _CLOSED:
                far.identity = identity(far.descriptor)
                self._close(far)
        self._steps.append(_Step(name, open_folder(name, parent)))

    def _climb(self, depth: int) -> None:
        while len(self._steps) > depth:
            left = self._steps.pop()
            above = self._steps[-1] if self._steps else None
            if above is None or above.descriptor != _CLOSED:
                self._close(left)
                continue
            with suppress(OSError):
                above.descriptor = Folder(os.open("..", _FOLDER, dir_fd=left.descriptor))
            self._close(left)
            if above.descriptor == _CLOSED or identity(above.descriptor) != above.identity:
                # The folder was moved or locked; the one above it now may lie outside the root.
                self._start_over()

    def _start_over(self) -> None:
        """Walk the same path again from the root."""
        names = [each.name for each in self._steps]
        self.close()
        for name in names:
            self._descend(name)

    @staticmethod
    def _close(step: _Step) -> None:
        if step.descriptor != _CLOSED:
            descriptor, step.descriptor = step.descriptor, _CLOSED
            try:
                os.close(descriptor)
            except OSError:  # only read, so nothing is lost; no context manager, since this is called often
                return
