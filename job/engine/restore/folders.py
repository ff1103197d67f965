"""The folders of a restore's target: opened without following links, made where they are missing, finished at the end.

A new folder is closed to other users until it has its metadata, which is set when all its entries are there.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from job.core.entry import join
from job.core.outcome import reason_text
from job.engine.restore.choice import Choice, Request
from job.engine.restore.file import FileRestorer, rename_new, stat_of
from job.engine.restore.journal import RestoreJournal
from job.engine.restore.kept import Content, KeptTree
from job.fs.dircursor import DirCursor, single
from job.fs.own_files import fsync_folder

_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
IN_THE_WAY = "the target has something else of this name, which --overwrite renames"


class TargetFolders:
    """Opens and makes the folders of one target. Use it with `contextlib.closing`."""

    def __init__(
        self, kept: KeptTree, target: int, files: FileRestorer, request: Request, journal: RestoreJournal
    ) -> None:
        """`target` is open."""
        self._kept, self._files, self._request, self._journal = kept, files, request, journal
        self._cursor = DirCursor(target)
        self._above: list[Choice] = []
        """The folders above the current entry, some of which may not be made yet."""
        self._made: list[tuple[bytes, Content | None]] = []
        """New folders, those above first."""
        self.unfinished: Mapping[bytes, int] = {}
        """Paths and inodes of folders that a killed restore made."""

    def close(self) -> None:
        """Close what was opened."""
        self._cursor.close()

    def goto(self, path: bytes) -> int:
        """Open an existing folder, valid until the next call. Raises `OSError`."""
        return self._cursor.goto(path)

    def follow(self, choice: Choice) -> None:
        """Take note of the next choice: folders precede their entries. Raises `OSError`."""
        while self._above and not choice.path.startswith(self._above[-1].path + b"/"):
            self._above.pop()
        if not choice.is_folder:
            return
        self._above.append(choice)
        inode = self.unfinished.get(choice.path)
        if inode is not None and self._has_inode(choice.path, inode):
            self._journal.note_folder(choice.path, inode)
            self._made.append((choice.path, choice.content))

    def _has_inode(self, path: bytes, inode: int) -> bool:
        with suppress(OSError):
            return os.fstat(self._cursor.goto(path)).st_ino == inode
        return False

    def open(self, path: bytes) -> int:
        """Open a folder, valid until the next call; missing ones are made. Raises `OSError`."""
        at, missing = path, list[bytes]()
        while (folder := self._existing(at)) is None:
            at, _, name = at.rpartition(b"/")
            missing.append(name)
        while missing:
            name = missing.pop()
            self._make(name, folder, at)
            at = join(at, name)
            folder = self._cursor.goto(at)
        return folder

    def _existing(self, path: bytes) -> int | None:
        """Open a folder; None if it does not exist, or is something else."""
        try:
            return self._cursor.goto(path)
        except OSError as error:
            if not path or error.errno not in _NO_FOLDER:
                raise
        return None

    def _make(self, name: bytes, parent: int, above: bytes) -> None:
        """Make a folder in an open one, whose path is `above`."""
        path, temp = join(above, single(name)), self._files.new_temp()
        self._journal.note_temps(above)
        os.mkdir(temp, 0o700, dir_fd=parent)
        try:
            inode = os.stat(temp, dir_fd=parent, follow_symlinks=False).st_ino
            self._journal.note_folder(path, inode)
            try:
                rename_new(temp, name, parent)
            except FileExistsError:
                if not self._request.overwrite:
                    raise FileExistsError(errno.EEXIST, f"its folder cannot be made: {IN_THE_WAY}") from None
                replace_beside(temp, name, name + self._request.suffix, parent)
        except OSError:
            with suppress(OSError):
                os.rmdir(temp, dir_fd=parent)
            raise
        self._made.append((path, next((each.content for each in self._above if each.path == path), None)))

    def finish(self) -> Iterator[tuple[bytes, str]]:
        """Set the metadata of the new folders, deepest first; yields those where it failed, and why."""
        writer = self._files.metadata_writer
        for path, content in reversed(self._made):
            if content is None:
                continue
            try:
                held = self._kept.open(content.path)
                wanted, attributes = os.fstat(held), writer.attributes_of(held)
                noted = self._kept.own_metadata(path) if content.kept.moment is None else None
                if noted is not None:
                    wanted = stat_of(noted.mode, noted.uid, noted.gid, noted.mtime_ns)
                    attributes |= dict(noted.attributes)
                folder = self._cursor.goto(path)
                writer.apply(folder, wanted, attributes)
                if self._files.sync_each:
                    fsync_folder(folder)
            except OSError as error:
                yield path, f"its metadata could not be set: {reason_text(error)}"


def replace_beside(temp: bytes, name: bytes, beside: bytes, folder: int) -> None:
    """Rename an entry of an open folder to `beside`, and a temp to its name; both are kept. Raises `OSError`."""
    rename_new(name, beside, folder)
    try:
        rename_new(temp, name, folder)
    except OSError:
        with suppress(OSError):
            rename_new(beside, name, folder)
        raise
