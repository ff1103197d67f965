"""Check, before temps get their names, that folders are those that were synced, with the same rights.

During a cycle a folder may lose rights, or be replaced by a user who may write to the folder above, in the source and
in the mirror. Content that is written to a source folder after it lost rights is only for users who can still enter
it. So source folders are checked after their files were read and before the mirror shows them: if they are as they
were listed, the content was readable for all users that the mirror lets in.
"""

import errno
import os
from collections.abc import Collection
from contextlib import suppress

from job.core.acl import grants_more
from job.core.entry import printable
from job.engine.copy.finish_folder import Work
from job.fs.dircursor import DirCursor
from job.fs.mounts import mount_of
from job.fs.rights import narrow_to_source, rights_at, wanted_rights


class Recheck:
    """Checks the folders of one batch at a time."""

    def __init__(self, sources: DirCursor, mirrors: DirCursor, mirror_root: int) -> None:
        """Both cursors are moved."""
        self._root = mirror_root
        self._sources = sources
        self._mirrors = mirrors
        self._entered: Work | None = None
        self._narrowed = False
        self._read_only: tuple[bytes | None, str] = (None, "")
        """The last folder that was checked, and why it cannot be written to."""

    def enter(self, work: Work) -> int:
        """Return the open mirror folder of a work. Raises `OSError` if it was replaced."""
        folder = self._mirrors.goto(work.listing.path)
        if self._entered is not work:
            check_not_replaced(work, folder, os.fstat(folder))
            self._entered = work
        return folder

    def take_narrowed(self) -> bool:
        """Return whether rights were taken from a mirror folder since the last call."""
        closed, self._narrowed = self._narrowed, False
        return closed

    def forget(self) -> None:
        """Check the next folder that is entered, even if it is the last one."""
        self._entered = None

    def check(self, works: Collection[Work]) -> dict[int, OSError]:
        """Check that sources are as they were listed; rights that one lost are taken from its mirror.

        Returns, by `id`, the error of each work whose source was replaced, is gone or cannot be opened.
        """
        wrong: dict[int, OSError] = {}
        paths: set[bytes] = set()
        for work in works:
            try:
                if self._is_as_listed(work):
                    paths.add(work.listing.path)
            except OSError as error:
                wrong[id(work)] = error
        for work in works:
            if work.volume.mirror.modes:
                self._narrow_above(work, paths)
        self.forget()
        return wrong

    def _is_as_listed(self, work: Work) -> bool:
        path, listed = work.listing.path, work.listing.folder
        above, _, name = path.rpartition(b"/")
        if name:
            # One call is enough for nearly all folders.
            now = os.stat(name, dir_fd=self._sources.goto(above), follow_symlinks=False)
            if now.st_ctime_ns == listed.st_ctime_ns and os.path.samestat(now, listed):
                return True
        source = self._sources.goto(path)
        now = os.fstat(source)
        is_same = os.path.samestat(now, listed)
        if is_same and now.st_ctime_ns == listed.st_ctime_ns:
            return True
        if not is_same and _has_lasting_numbers(source):
            raise OSError(errno.ESTALE, "another folder has its name now")
        before, rights = wanted_rights(listed, work.xattrs), rights_at(source, now)
        if not (work.volume.mirror.modes and grants_more(before, rights)):
            return True
        work.complete = False
        if grants_more(rights, before):
            work.held = True
        else:
            work.listing = work.listing._replace(folder=now)  # it lost rights, and nothing else changed
        self.narrow(work, path)
        return False

    def _narrow_above(self, work: Work, seen: set[bytes]) -> None:
        """Limit the mirrors of folders above a work, except those in `seen`, to the rights of their sources."""
        path = work.listing.path
        while path:
            path = path.rpartition(b"/")[0]
            if path in seen:
                return
            seen.add(path)
            with suppress(OSError):  # gone or replaced, as everything below it
                self.narrow(work, path)

    def narrow(self, work: Work, path: bytes) -> None:
        """Limit the mirror of a folder to the rights of its source. Raises `OSError`."""
        source, mirror = self._sources.goto(path), self._mirrors.goto(path)
        narrowed = narrow_to_source(source, mirror)
        self._narrowed |= narrowed.changed
        if narrowed.error is not None:
            work.volume.metadata_writer.refused("mode", narrowed.error)

    def why_read_only(self, path: bytes) -> str:
        """Return which part of the mirror is read-only; empty if a folder lies on the mount of the root."""
        if self._read_only[0] != path:
            self._read_only = path, self._why_read_only(path)
        return self._read_only[1]

    def _why_read_only(self, path: bytes) -> str:
        try:
            self.forget()
            folder = self._mirrors.goto(path)
            is_elsewhere = os.fstat(folder).st_dev != os.fstat(self._root).st_dev
        except OSError:
            return ""
        mount, own = mount_of(folder), mount_of(self._root)
        if mount is not None and own is not None and mount.number != own.number:
            return f"the file system mounted at {printable(mount.point)} ({mount.type}) is read-only; mount it writable"
        return "the subvolume of the mirror that it lies in is read-only" if is_elsewhere else ""


def check_not_replaced(work: Work, folder: int, now: os.stat_result) -> None:
    """Check by its stat `now` that an open mirror folder was not replaced. Raises `OSError`."""
    if work.mirror is not None and not os.path.samestat(now, work.mirror) and _has_lasting_numbers(folder):
        raise OSError(errno.ESTALE, "in the mirror, another folder has its name now")


def _has_lasting_numbers(folder: int) -> bool:
    """Return whether the inode number of a folder is stable: a FUSE server may change it at any time."""
    mount = mount_of(folder)
    return mount is None or not mount.type.startswith("fuse")
