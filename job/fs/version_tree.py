"""The version folders of an open mirror, to look through and to remove from.

What lies there may be hostile: folders were moved there with all they had, and their owners may still hold them open.
No link is followed (`DirCursor`), no mount is entered, and what is not a folder that Truecopy names by a moment, and
that belongs to its user, is left alone.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple

from job.core.entry import STATE_FOLDER, TEMP_PREFIX, FileId, join
from job.core.versions import Moment, moment_of
from job.fs.dircursor import DirCursor, closing_fd, identity, single
from job.fs.listing import scan
from job.fs.mounts import mount_points_below
from job.fs.own_files import ForeignOwnerError, create, open_own_folder
from job.fs.rights import in_writable
from job.fs.versions import VERSIONS, remove_empty

_CLOCK = TEMP_PREFIX + b"clock"


class Removed(NamedTuple):
    """Versions that were removed from one folder of a moment."""

    names: list[bytes]
    bytes: int
    """Sum of their sizes."""
    error: OSError | None
    """The first error of those that stay."""


class VersionTree:
    """The versions of one mirror. Use it with `contextlib.closing`."""

    def __init__(self, mirror: int, known: FileId | None) -> None:
        """`known` is the identity of the mirror's `.truecopy`; None accepts any that belongs to this user.

        Raises `FileNotFoundError` if there are no versions, another `OSError` if they are not to be trusted.
        """
        with ExitStack() as undo:
            with closing_fd(open_own_folder(STATE_FOLDER, mirror)) as state:
                if known is not None and identity(state) != known:
                    raise FileNotFoundError(".truecopy of the mirror was exchanged")
                self.root = open_own_folder(VERSIONS, state)
            undo.callback(os.close, self.root)
            self._device = os.fstat(self.root).st_dev
            self._mounted = mount_points_below(self.root)
            self._cursor = DirCursor(self.root)
            self.moments = sorted(self._own_moments())
            """The version folders, by time."""
            undo.pop_all()

    def close(self) -> None:
        """Close what was opened."""
        self._cursor.close()
        os.close(self.root)

    def _own_moments(self) -> Iterator[Moment]:
        with scan(self.root) as found:
            names = [os.fsencode(each.name) for each in found if each.is_dir(follow_symlinks=False)]
        for name in names:
            moment = moment_of(name)
            if moment is None or any(each == name or each.startswith(name + b"/") for each in self._mounted):
                continue
            with suppress(OSError, ForeignOwnerError), closing_fd(open_own_folder(name, self.root)) as folder:
                if os.fstat(folder).st_dev == self._device:
                    yield moment

    def walk(self, moment: Moment) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield the path of each folder of a moment, and the names in it that are no folders; parents come first.

        What cannot be opened, or lies on another device, is left out.
        """
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            with suppress(OSError):
                files, folders = self._names(moment, path)
                waiting += [join(path, name) for name in folders]
                yield path, files

    def _names(self, moment: Moment, path: bytes) -> tuple[list[bytes], list[bytes]]:
        files: list[bytes] = []
        folders: list[bytes] = []
        with scan(self._enter(moment, path)) as found:
            for each in found:
                (folders if each.is_dir(follow_symlinks=False) else files).append(os.fsencode(each.name))
        return files, folders

    def extent(self, moment: Moment) -> tuple[int, int]:
        """Return the number of versions of a moment, and the sum of their sizes."""
        files = size = 0
        for path, names in self.walk(moment):
            files += len(names)
            size += self.sizes(moment, path, names)[0]
        return files, size

    def names(self, moment: Moment, path: bytes) -> frozenset[bytes]:
        """Return the names in one folder of a moment that are no folders; none if it cannot be read."""
        try:
            return frozenset(self._names(moment, path)[0])
        except OSError:
            return frozenset()

    def sizes(self, moment: Moment, path: bytes, names: Iterable[bytes]) -> tuple[int, int]:
        """Return the sum of the sizes of versions, and the bytes that they occupy, shared with their other names."""
        size = blocks = 0
        with suppress(OSError):
            folder = self._enter(moment, path)
            for name in names:
                with suppress(FileNotFoundError):
                    seen = os.stat(single(name), dir_fd=folder, follow_symlinks=False)
                    size += seen.st_size
                    blocks += _own_blocks(seen)
        return size, blocks

    def remove(self, moment: Moment, path: bytes, names: Sequence[bytes]) -> Removed:
        """Unlink versions, which must not be folders."""
        removed: list[bytes] = []
        size = 0
        first: OSError | None = None
        try:
            folder = self._enter(moment, path)
        except OSError as error:
            return Removed(removed, size, error)
        for name in names:
            try:
                seen = os.stat(single(name), dir_fd=folder, follow_symlinks=False)
                in_writable(folder, partial(os.unlink, name, dir_fd=folder))
            except FileNotFoundError:
                removed.append(name)
            except OSError as error:
                first = first or error
            else:
                removed.append(name)
                size += seen.st_size
        return Removed(removed, size, first)

    def prune(self, moment: Moment, path: bytes) -> bool:
        """Remove a folder of a moment, or the moment's own for an empty path, if it is empty; True if it is gone."""
        above, _, name = _place(moment, path).rpartition(b"/")
        try:
            folder = self._cursor.goto(above)
            gone: list[bool] = []
            in_writable(folder, lambda: gone.append(remove_empty(name, folder)))
            return gone[0]
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def _enter(self, moment: Moment, path: bytes) -> int:
        folder = self._cursor.goto(_place(moment, path))
        if os.fstat(folder).st_dev != self._device:
            raise PermissionError(f"another file system is mounted in the versions at {path!r}")
        return folder

    def clock(self) -> float | None:
        """Return the time by the clock of the mirror's file system; None if no file can be made now."""
        with suppress(OSError):
            with suppress(FileNotFoundError):  # a killed run left it
                os.unlink(_CLOCK, dir_fd=self.root)
            try:
                with closing_fd(create(_CLOCK, self.root)) as file:
                    return os.fstat(file).st_mtime
            finally:
                os.unlink(_CLOCK, dir_fd=self.root)
        return None


def _place(moment: Moment, path: bytes) -> bytes:
    return join(moment.name, path) if path else moment.name


def _own_blocks(seen: os.stat_result) -> int:
    return seen.st_blocks * 512 // max(1, seen.st_nlink)


def open_versions(mirror: int, known: FileId | None) -> VersionTree | None:
    """Open the versions of an open mirror; None if there are none. Raises `OSError` if they are not to be trusted."""
    try:
        return VersionTree(mirror, known)
    except FileNotFoundError:
        return None
