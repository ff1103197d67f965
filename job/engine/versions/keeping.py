"""Keep the contents that leave their names in the mirror (invariant 4), each with a row for the index.

A file that a batch replaces is linked to the versions before the rename, so its content never lies under a temporary
name, and a crash loses nothing: until the rename the name has it, afterwards the version. Where a link is impossible,
or would leave the version and another name of the mirror with one inode, the content is copied. On a file system
without hard links it is moved, and its name is missing until the rename that follows at once; the temp journal has both
before (`interrupted.py`). What has to leave the tree is moved, also if nothing else is kept.

Links and renames are ordered by what makes the batch durable, except on file systems where a power cut can keep a
rename and undo an earlier link (`MirrorSync.orders_names`).
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from job.core.entry import STATE_FOLDER, TEMP_PREFIX, Entry, Kind
from job.core.exclude import ExcludeRules
from job.core.record import Record
from job.core.versions import Moment, VersionReason, VersionRow, VersionsDone
from job.engine.context import PairContext, PairRun
from job.engine.versions.interrupted import intent_to_replace
from job.errors import ChangedWhileReadError
from job.fs.copier import Copier
from job.fs.dircursor import DirCursor
from job.fs.large_dir import name_exists
from job.fs.listing import entry_of
from job.fs.own_files import fsync_folder
from job.fs.versions import (
    VersionLinks,
    VersionsFolder,
    folder_of,
    place_of,
    remove_empty,
)
from job.store.version_rows import encode_versions

_MOUNT_IN_THE_WAY = "a file system is mounted in the mirror under this name, or below it; unmount it"
_VERSIONS_ELSEWHERE = (
    "the mirror has a folder here, on another file system than the versions in .truecopy; move that folder away"
)
_NO_LINK = {errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EXDEV}
"""Errors of a link where a copy is possible."""


class Leaving(NamedTuple):
    """A content that is about to leave its name."""

    entry: Entry
    """Of the mirror."""
    record: Record | None
    drifted: bool = False
    """Whether it is known to be another content than that of the record."""
    temp: bytes = b""
    """The temp that takes its name, if one does."""
    temp_inode: int = 0

    def row(self, why: VersionReason, until_ns: int = 0) -> VersionRow:
        """Return its row in the index."""
        (name, inode, mode, _, _, size, mtime_ns, _), record, drifted, *_ = self
        since_ns, checksum = 0, ""
        if record is not None:
            _, known_inode, _, _, _, known_size, known_mtime_ns, _ = record.mirror
            if drifted or (inode, size, mtime_ns) != (known_inode, known_size, known_mtime_ns):
                why = VersionReason.DRIFTED if why is VersionReason.REPLACED else why
            else:
                since_ns, checksum = record.stands_since_ns, record.checksum
        return VersionRow(name, mode, size, since_ns, until_ns, checksum, why, replaced_another=False)


@dataclass(slots=True)
class Version:
    """A version that was made, or the row of a content that is not kept."""

    folder: bytes
    """Path in the mirror of the folder that its entry was in."""
    row: VersionRow
    path: bytes
    """Below the mirror's root; empty if the content is not kept."""
    inode: int
    """Of the mirror's entry."""


class VersionKeeper:
    """Makes the versions of one mirror, in one process. Use it with `contextlib.closing`."""

    def __init__(self, context: PairContext, run: PairRun) -> None:
        self._context, self._run = context, run
        self._versions = VersionsFolder(context.mirror_root, context.mirror_state)
        settings = run.pair.versions
        self.is_on = settings is not None
        """Whether contents that are replaced are kept."""
        patterns = settings.exclude if settings else ()
        self._exclude = ExcludeRules.without_defaults(patterns) if patterns else None
        self._mirrors = DirCursor(context.mirror_root)
        self._moved: list[Version] = []
        self._copies: dict[tuple[int, ...], bytes] = {}
        """Paths of versions that were copied, as other names may have had the same file: by inode and times."""
        self._links: VersionLinks | None = None
        """Set within `keeping`."""
        self._is_unsynced = self._is_intending = False

    def close(self) -> None:
        """Close what was opened."""
        self._mirrors.close()

    # Contents that are replaced --------------------------------------------------------------------------------------

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Allow `keep` in the block; at its end all versions are as durable as the renames need. Raises `OSError`."""
        sync = self._context.tools.sync
        self._is_unsynced = self._is_intending = False
        with self._root_times_kept():
            self._links = VersionLinks(self._versions, self._context.moment, synced=sync.each)
            try:
                yield
            finally:
                self._links.close()
                self._links = None
        if self._is_intending:
            self._context.temp_journal.sync()
        if self._is_unsynced and not sync.each:
            sync.all()

    def keep(
        self, leaving: Sequence[Leaving], folder: int, above: bytes, *, can_link: bool, alone: bool = False
    ) -> tuple[list[Version], dict[bytes, OSError]]:
        """Make versions of non-folders of an open folder, whose path is `above`; returns them, and errors by name.

        Entries with several names are copied, as are all if no link can be made; none has several if they are known to
        be `alone`. Raises `OSError` if nothing can be kept.
        """
        kept, excluded = self._in_scope(leaving, above)
        made = [Version(above, each.row(VersionReason.EXCLUDED), b"", each.entry.inode) for each in excluded]
        if not kept:
            return made, {}
        by_name = {each.entry.name: each for each in kept}
        with suppress(OSError):  # then an interrupted link stays until its name is replaced again
            self._context.temp_journal.note(folder_of(self._context.moment, above))
        places: dict[bytes, bytes] = {}
        failed: dict[bytes, OSError] = {}
        if can_link:
            places, failed = self._link(
                [name for name in by_name if alone or _has_one_name(name, folder)], folder, above
            )
        for name, each in by_name.items():
            if name not in places and (name not in failed or failed[name].errno in _NO_LINK):
                failed.pop(name, None)
                try:
                    places[name] = self._copy(each.entry, folder, above)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    failed[name] = error
        for name, place in places.items():
            each = by_name[name]
            made.append(Version(above, each.row(VersionReason.REPLACED), place, each.entry.inode))
        return made, failed

    def intend(self, leaving: Sequence[Leaving], above: bytes) -> tuple[list[Version], dict[bytes, OSError]]:
        """Note that entries are to be moved to versions, on a file system without hard links; errors are by name.

        Returns the versions, which `move_aside` makes.
        """
        kept, excluded = self._in_scope(leaving, above)
        versions = [Version(above, each.row(VersionReason.EXCLUDED), b"", each.entry.inode) for each in excluded]
        failed: dict[bytes, OSError] = {}
        for each in kept:
            name = each.entry.name
            try:
                place = self._versions.free_place(
                    name, above, self._context.moment, synced=self._context.tools.sync.each
                )
                self._context.temp_journal.note(intent_to_replace(place, each.temp, each.temp_inode))
            except OSError as error:
                failed[name] = error
                continue
            self._is_intending = True
            versions.append(Version(above, each.row(VersionReason.REPLACED), place, each.entry.inode))
        return versions, failed

    def move_aside(self, version: Version, folder: int) -> bool:
        """Move an entry of an open folder to its place, as was intended; False if it is gone. Raises `OSError`."""
        above, _, name = version.path.rpartition(b"/")
        place = self._mirrors.goto(above)
        try:
            os.rename(version.row.name, name, src_dir_fd=folder, dst_dir_fd=place)
        except FileNotFoundError:
            return False
        if self._context.tools.sync.each:
            fsync_folder(place)
        return True

    def _link(
        self, names: Sequence[bytes], folder: int, above: bytes
    ) -> tuple[dict[bytes, bytes], dict[bytes, OSError]]:
        if self._links is None:
            raise AssertionError
        if not names:
            return {}, {}
        places, failed = self._links.link(names, folder, above)
        self._is_unsynced |= bool(places) and not self._context.tools.sync.orders_names
        return places, failed

    def _in_scope(self, leaving: Sequence[Leaving], above: bytes) -> tuple[Sequence[Leaving], list[Leaving]]:
        """Tell contents that are kept from excluded ones."""
        if self._exclude is None:
            return leaving, []
        names = set[bytes]()
        if not self._exclude.excludes_folder(above):
            names = {entry.name for entry in self._exclude.in_scope(above, [each.entry for each in leaving])}
        excluded = [each for each in leaving if each.entry.name not in names]
        return [each for each in leaving if each.entry.name in names], excluded

    def _copy(self, entry: Entry, folder: int, above: bytes) -> bytes:
        """Copy an entry of an open folder to the versions; returns its new path. Raises `OSError` and `Stopped`.

        Of several names of one file, the first is copied, and the others are linked to that version.
        """
        seen = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        now, file = entry_of(entry.name, seen), (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
        if now.kind is Kind.FOLDER:
            raise OSError(errno.EISDIR, "it is a folder now")
        self._is_unsynced = True
        add = partial(self._versions.add, entry.name, above, self._context.moment, synced=self._context.tools.sync.each)
        if seen.st_nlink > 1 and (first := self._copies.get(file)):
            with suppress(OSError):  # copied again
                return add(partial(self._link_again, first, entry.name))
        place = add(partial(self._copy_to, now, folder))
        if seen.st_nlink > 1:
            self._copies[file] = place
        return place

    def _copy_to(self, entry: Entry, folder: int, place: int) -> None:
        temp = new_temp()
        try:
            copy_entry(self._context.tools.copier, entry, folder, place, temp)
        except ChangedWhileReadError as error:
            raise OSError(errno.EAGAIN, "another program changes it") from error
        os.rename(temp, entry.name, src_dir_fd=place, dst_dir_fd=place)

    def _link_again(self, first: bytes, name: bytes, place: int) -> None:
        above, _, last = first.rpartition(b"/")
        os.link(last, name, src_dir_fd=self._mirrors.goto(above), dst_dir_fd=place, follow_symlinks=False)

    def undo(self, version: Version) -> bool:
        """Remove a version of an entry that the mirror still has; False if it has not, or that fails."""
        above, _, name = version.path.rpartition(b"/")
        with suppress(OSError):  # it stays, and has no row
            live = os.stat(version.row.name, dir_fd=self._mirrors.goto(version.folder), follow_symlinks=False)
            if live.st_ino == version.inode:
                os.unlink(name, dir_fd=self._mirrors.goto(above))
                return True
        return False

    # Entries that leave the tree -------------------------------------------------------------------------------------

    def move(
        self,
        names: Sequence[bytes],
        folder: int,
        above: bytes,
        why: VersionReason,
        records: Mapping[bytes, Record] = MappingProxyType({}),
    ) -> tuple[dict[bytes, bytes], OSError | None]:
        """Move entries of an open folder, whose path is `above`; returns their new paths, and the first error.

        `records` are those by name. Raises `OSError` if the versions cannot be used at all.
        """
        leaving: dict[bytes, Leaving] = {}
        for name in names:
            with suppress(OSError):
                seen = entry_of(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
                leaving[name] = Leaving(seen, records.get(name))
        with self._root_times_kept():
            places, error = self._versions.retire(names, folder, above, self._context.moment)
        until_ns = self._run.now_ns()
        self._moved += [
            Version(above, leaving[name].row(why, until_ns), place, leaving[name].entry.inode)
            for name, place in places.items()
            if name in leaving
        ]
        if error is not None and error.errno in {errno.EXDEV, errno.EBUSY}:
            error = OSError(error.errno, _VERSIONS_ELSEWHERE if error.errno == errno.EXDEV else _MOUNT_IN_THE_WAY)
        return places, error

    def take(self, path: bytes, folder: int, record: Record | None = None) -> bytes:
        """Move the last component of a path, whose parent is open; returns its new path. Raises `OSError`."""
        above, _, name = path.rpartition(b"/")
        places, error = self.move([name], folder, above, VersionReason.GAVE_WAY, {name: record} if record else {})
        if error is not None:
            raise error
        return places[name]

    def take_file(self, leaving: Leaving, path: bytes, folder: int) -> bytes:
        """Move a non-folder at a path, whose parent is open; returns its new path. Raises `OSError` and `Stopped`.

        From another file system than that of the versions it is copied, and removed once the copy is synced.
        """
        try:
            return self.take(path, folder, leaving.record)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        return self.copy_out(leaving, path.rpartition(b"/")[0], folder, VersionReason.GAVE_WAY)

    def copy_out(self, leaving: Leaving, above: bytes, folder: int, why: VersionReason) -> bytes:
        """Copy a non-folder of an open folder, and remove it once the copy is synced; returns the new path.

        Raises `OSError` and `Stopped`.
        """
        sync = self._context.tools.sync
        place = self._copy(leaving.entry, folder, above)
        if not sync.each:
            sync.all()
        os.unlink(leaving.entry.name, dir_fd=folder)
        fsync_folder(folder)
        row = leaving.row(why, self._run.now_ns())
        self._moved.append(Version(above, row, place, leaving.entry.inode))
        return place

    def put_back(self, place: bytes, path: bytes, folder: int) -> None:
        """Move what `take` moved to a place back to its path, whose parent is open. Raises `OSError`."""
        above, _, name = place.rpartition(b"/")
        os.rename(name, path.rpartition(b"/")[2], src_dir_fd=self._mirrors.goto(above), dst_dir_fd=folder)
        self._moved = [each for each in self._moved if each.path != place]

    def take_moved(self) -> list[Version]:
        """Return, and forget, what was moved."""
        moved, self._moved = self._moved, []
        return moved

    @contextmanager
    def _root_times_kept(self) -> Iterator[None]:
        mirror = self._context.mirror_root
        is_new = not name_exists(mirror, STATE_FOLDER)  # the state is elsewhere, and this is the first version
        yield
        if is_new:
            # That changed the times of the root, which may be finished already.
            seen = os.fstat(self._context.source_root)
            with suppress(OSError):
                os.utime(mirror, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    @staticmethod
    def removed(name: bytes, folder: int) -> bool:
        """Remove a folder if it is empty; False if it is not. Raises `OSError`."""
        try:
            return remove_empty(name, folder)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise OSError(errno.EBUSY, _MOUNT_IN_THE_WAY) from None
            raise


def new_temp() -> bytes:
    """Return an unused name for a copy among the versions, or of a file that is to have one name only."""
    return b"%sversion-%s" % (TEMP_PREFIX, os.urandom(8).hex().encode("ascii"))


def copy_entry(copier: Copier, entry: Entry, source: int, target: int, temp: bytes) -> None:
    """Copy a non-folder of one open folder to a temp in another. Raises as `Copier.copy` does."""
    make = {Kind.FILE: copier.copy, Kind.SYMLINK: copier.copy_link}.get(entry.kind, copier.copy_special)
    make(entry, source, target, temp)


def _has_one_name(name: bytes, folder: int) -> bool:
    with suppress(OSError):  # the link fails in the same way
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_nlink == 1
    return True


def versions_done(versions: Iterable[Version], moment: Moment) -> list[VersionsDone]:
    """Return the rows of versions for the index, by folder and moment; `moment` is that of contents not kept."""
    places: dict[tuple[bytes, bytes], list[Version]] = {}
    for each in versions:
        places.setdefault((each.folder, each.path.rpartition(b"/")[0]), []).append(each)
    return [
        VersionsDone(
            folder,
            place_of(place)[0] if place else moment,
            encode_versions([each.row for each in some]),
            len(some) if place else 0,
            sum([each.row.size for each in some]) if place else 0,
        )
        for (folder, place), some in places.items()
    ]
