"""Confirm by name, immediately before an orphan is moved, that the source does not have it."""

import os
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from enum import Enum, auto

from job.core.entry import Entry, join
from job.core.file_systems import Capabilities, KnownMounts, NameRules
from job.fs.dircursor import DirCursor
from job.fs.large_dir import names_in
from job.fs.scanners import SourceScanner

_FOLDER_MODE = 0o040000


class _Found(Enum):
    THERE = auto()
    GONE = auto()
    UNKNOWN = auto()
    """It cannot be examined, is excluded or left out."""
    RESPELLED = auto()


class Absence:
    """Examines one source. Use it with `contextlib.closing`.

    An entry that exists is there, whether it is in scope or not. Whatever could be wrong leaves it where it is.
    """

    def __init__(
        self, source: SourceScanner, root: int, known: KnownMounts, mirror: Callable[[bytes], Capabilities]
    ) -> None:
        """`root` is the open source; `mirror` returns the capabilities at a path."""
        self._source, self._root, self._known, self._mirror = source, root, known, mirror

    def of(self, folder: bytes, names: Collection[bytes]) -> set[bytes]:
        """Return those names of a folder that the source does not have now."""
        with closing(DirCursor(self._root)) as cursor:  # opened anew: a folder may have been replaced since
            try:
                found = self._way_to(folder, cursor)
                if found is not _Found.THERE:
                    return {*names} if found is _Found.GONE else set()
                return {name for name in names if self._state(folder, name, cursor) is _Found.GONE}
            except OSError:
                return set()

    def is_respelled(self, folder: bytes) -> bool:
        """Return whether a folder has another spelling now, which the mirror treats as equal."""
        with closing(DirCursor(self._root)) as cursor, suppress(OSError):
            return self._way_to(folder, cursor) is _Found.RESPELLED
        return False

    def _way_to(self, folder: bytes, cursor: DirCursor) -> _Found:
        """Return whether the source has a folder, or what is wrong with it, or with one above it."""
        at = b""
        for name in folder.split(b"/") if folder else ():
            if not self._source.would_include(at, [Entry(name, 0, _FOLDER_MODE, 0, 0, 0, 0, 0)]):
                return _Found.UNKNOWN
            found = self._state(at, name, cursor)
            if found is not _Found.THERE:
                return found
            at = join(at, name)
            try:
                cursor.goto(at)
            except NotADirectoryError:
                return _Found.UNKNOWN
        return _Found.UNKNOWN if self._is_lost_mount(folder, cursor) else _Found.THERE

    def _state(self, folder: bytes, name: bytes, cursor: DirCursor) -> _Found:
        opened = cursor.goto(folder)
        if self._is_lost_mount(folder, cursor):
            return _Found.UNKNOWN
        able = self._mirror(folder)
        try:
            os.stat(name, dir_fd=opened, follow_symlinks=False)
        except FileNotFoundError:
            if able.keeps_all_names:
                return _Found.GONE
            key = NameRules(able).key
            taken = any(key(each) == key(name) for some in names_in(opened) for each in some)
            return _Found.RESPELLED if taken else _Found.GONE
        return _Found.THERE

    def _is_lost_mount(self, folder: bytes, cursor: DirCursor) -> bool:
        """Return whether a known mount point is not mounted any more."""
        return folder in self._known.mounted and os.fstat(cursor.goto(folder)).st_dev == os.fstat(self._root).st_dev
