"""Retire orphans: move what left the source long enough ago to the versions, after a complete scan (invariant 4).

The entries of a folder are confirmed by name in the source, moved, and only then taken from the index. A kill in
between leaves versions without rows, and rows without entries, which the next cycle drops. A version shares no inode
with the mirror: a file with other names there is copied, or made a file of its own before a folder above it is moved.
"""

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import NamedTuple

from job.core.entry import Entry, Kind, join, kind_of, printable
from job.core.outcome import reason_text
from job.core.record import Record
from job.core.versions import OrphanRow, VersionReason, VersionsDone
from job.engine.context import PairContext, PairRun
from job.engine.versions.absence import Absence
from job.engine.versions.keeping import Leaving, VersionKeeper, copy_entry, new_temp, versions_done
from job.engine.versions.orphan_tree import TreeExtent, extent_of, records_in, walk
from job.engine.volumes import volumes_of
from job.errors import ChangedWhileReadError, Stopped
from job.events.pair import FileNotRetired, FileRetired
from job.fs.dircursor import DirCursor, closing_fd, open_folder
from job.fs.large_dir import names_in, stat_names
from job.fs.listing import Unreadable, entries_of, entry_of
from job.fs.rights import make_writable
from job.fs.versions import folder_of, place_of
from job.store.orphan_table import OrphansLeft
from job.store.version_rows import encode_versions

_AT_ONCE = 1000
"""Names of a folder, or folders of a tree, that are committed together."""
_MOUNTED = "a file system is mounted in it in the mirror; unmount it"


class _Moved(NamedTuple):
    entry: Entry
    place: bytes
    """Its new path below the mirror's root."""
    files: int
    bytes: int


class Retirement:
    """Moves the orphans of one mirror. Use it with `contextlib.closing`."""

    def __init__(self, context: PairContext, run: PairRun) -> None:
        self._context, self._run = context, run
        self._volumes = volumes_of(context.tools, context.mirror, run.pair, run.now_ns)
        root, known = context.source_root, context.known_mounts
        self._absence = Absence(context.source, root, known, lambda path: self._volumes.at(path).mirror)
        self._keeper = VersionKeeper(context, run)
        self._mirrors = DirCursor(context.mirror_root)
        self._walked = DirCursor(context.mirror_root)

    def close(self) -> None:
        """Close what was opened."""
        for each in (self._keeper, self._mirrors, self._walked):
            each.close()

    def go(self, folder: bytes, due: Mapping[bytes, OrphanRow]) -> None:
        """Retire the orphans of one folder that are due. Raises `RootLost`, `Stopped` and `OSError`."""
        names = iter(due)
        while some := list(islice(names, _AT_ONCE)):
            if self._run.stop():
                raise Stopped("stopped while entries were retired")
            self._context.recheck_roots()
            self._retire(folder, {name: due[name] for name in some})

    def _retire(self, folder: bytes, rows: dict[bytes, OrphanRow]) -> None:
        gone, seen = self._examined(folder, rows)
        if self._absence.is_respelled(folder):
            gone, seen = {*rows}, {}  # the folder's orphans have rows under its present name
        absent = self._absence.of(folder, seen)
        files = {name: each for name, each in seen.items() if name in absent and not _is_folder(each)}
        moved = self._move_files(folder, files, rows)
        self._settle(folder, gone | {each.entry.name for each in moved}, moved, rows)
        for name in sorted(absent - files.keys()):
            self._retire_folder(folder, rows[name])

    def _examined(self, folder: bytes, rows: dict[bytes, OrphanRow]) -> tuple[set[bytes], dict[bytes, os.stat_result]]:
        """Return the names that the mirror does not have any more, and the others that are still of their kind."""
        try:
            opened = self._mirrors.goto(folder)
        except (FileNotFoundError, NotADirectoryError):
            return {*rows}, {}
        gone: set[bytes] = set()
        seen: dict[bytes, os.stat_result] = {}
        for name, row in rows.items():
            try:
                found = os.stat(name, dir_fd=opened, follow_symlinks=False)
            except FileNotFoundError:
                gone.add(name)
            except OSError as error:
                self._fail(join(folder, name), kind_of(row.mode), error)
            else:
                if kind_of(found.st_mode) is kind_of(row.mode):
                    seen[name] = found
        return gone, seen

    def _settle(
        self,
        folder: bytes,
        done: Collection[bytes],
        moved: list[_Moved],
        rows: dict[bytes, OrphanRow],
        versions: Sequence[VersionsDone] = (),
    ) -> None:
        """Take entries from the orphans of a folder, store the versions, and report them."""
        if not done and not moved:
            return
        stored = self._context.index.orphans.rows(folder)
        left = [
            OrphansLeft(folder, part, kept)
            for part, some in stored.items()
            if len(kept := [row for row in some if row.name not in done]) < len(some)
        ]
        made = versions_done(self._keeper.take_moved(), self._context.moment) if moved else []
        folders = [join(folder, each.entry.name) for each in moved if each.entry.kind is Kind.FOLDER]
        if versions:  # which count what is in a folder
            made = [each._replace(files=each.files - len(folders)) for each in made]
        self._context.index.orphans.settle(left, folders, [*made, *versions])
        for each in moved:
            name = each.entry.name
            row = rows.get(name)
            self._run.emit(
                FileRetired(
                    **self._run.about,
                    path=join(folder, name),
                    kind=each.entry.kind,
                    files=each.files,
                    bytes=each.bytes,
                    checksum=row.checksum if row and _is_as_recorded(each.entry, row) else "",
                    missing_since_timestamp_seconds=row.since_ns / 1e9 if row else 0.0,
                    version=printable(each.place),
                )
            )

    def _fail(self, path: bytes, kind: Kind, error: OSError) -> None:
        self._run.emit(FileNotRetired(**self._run.about, path=path, kind=kind, error=reason_text(error)))

    # Files -----------------------------------------------------------------------------------------------------------

    def _move_files(
        self, folder: bytes, seen: dict[bytes, os.stat_result], rows: dict[bytes, OrphanRow]
    ) -> list[_Moved]:
        """Move non-folders to the versions; those with other names in the mirror are copied."""
        if not seen:
            return []
        opened = self._mirrors.goto(folder)
        entries = {name: entry_of(name, found) for name, found in seen.items()}
        records = {name: _record_of(rows[name]) for name in seen if name in rows}
        here = Counter(found.st_ino for found in seen.values())
        is_elsewhere = self._volumes.at(folder).number > 0
        alone = [name for name, found in seen.items() if here[found.st_ino] >= found.st_nlink and not is_elsewhere]
        places: dict[bytes, bytes] = {}
        with self._writable(opened):
            if alone:
                places, error = self._keeper.move(alone, opened, folder, VersionReason.RETIRED, records)
                for name in [name for name in alone if name not in places] if error else []:
                    self._fail(join(folder, name), entries[name].kind, error or OSError())
            if len(alone) < len(seen):
                self._context.temp_journal.note(folder_of(self._context.moment, folder))  # the copies begin as temps
            for name in seen.keys() - {*alone}:
                leaving = Leaving(entries[name], records.get(name))
                try:
                    places[name] = self._keeper.copy_out(leaving, folder, opened, VersionReason.RETIRED)
                except OSError as error:
                    self._fail(join(folder, name), entries[name].kind, error)
        return [_Moved(entries[name], place, 1, entries[name].size) for name, place in places.items()]

    @contextmanager
    def _writable(self, folder: int) -> Iterator[None]:
        """Change entries of an open mirror folder in the block; its mode and times stay."""
        before = os.fstat(folder)
        is_changed = make_writable(folder, before.st_mode)
        try:
            yield
        finally:
            with suppress(OSError):  # the next cycle sets them
                os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
                if is_changed:
                    os.fchmod(folder, before.st_mode & 0o7777)

    # Folders ---------------------------------------------------------------------------------------------------------

    def _retire_folder(self, above: bytes, row: OrphanRow) -> None:
        """Retire a folder with all below it; what is out of scope in it stays, with the folders above."""
        path = join(above, row.name)
        try:
            found = extent_of(path, self._walked, self._context.source)
            if found.is_mounted:
                self._fail(path, Kind.FOLDER, OSError(errno.EBUSY, _MOUNTED))
            elif not found.excluded:
                self._move_folder(above, row, found)
            elif self._retire_within(path, row):
                # The rest is excluded, and no orphan; noticed again, it only waits again.
                self._settle(above, {row.name}, [], {})
        except OSError as error:
            self._fail(path, Kind.FOLDER, error)

    def _move_folder(self, above: bytes, row: OrphanRow, found: TreeExtent) -> None:
        path = join(above, row.name)
        self._unshare(found)
        self._context.recheck_roots()
        if row.name not in self._absence.of(above, [row.name]):
            return  # it came back
        opened = self._mirrors.goto(above)
        with closing_fd(open_folder(row.name, opened)) as itself, self._writable(opened), self._writable(itself):
            places, error = self._keeper.move([row.name], opened, above, VersionReason.RETIRED)
        if error is not None:
            raise error
        entry = Entry(row.name, 0, row.mode, 0, 0, 0, 0, 0)
        moved = [_Moved(entry, places[row.name], found.files, found.size)]
        versions: list[VersionsDone] = []
        for each in self._versions_below(path, places[row.name], found):
            versions.append(each)
            if len(versions) >= _AT_ONCE:
                self._context.index.orphans.settle([], [], versions)
                versions = []
        self._settle(above, {row.name}, moved, {row.name: row}, versions)

    def _versions_below(self, path: bytes, place: bytes, found: TreeExtent) -> Iterator[VersionsDone]:
        """Yield the rows of the versions in a moved folder, which was at a path, with what the index knows of each."""
        copied = {(at, entry.name): entry.inode for at, entry in found.shared}
        index, until_ns = self._context.index, self._run.now_ns()
        moment, _ = place_of(place)
        for at, entries, _ in walk(place, self._walked):
            folder = path + at.removeprefix(place)
            records = {name: _record_of(row) for name, row in index.orphans.named(folder).items()}
            records |= records_in(index, folder)
            plain = [entry for entry in entries if entry.kind is not Kind.FOLDER]
            for entry in plain:
                record = records.get(entry.name)
                if record is not None and copied.get((folder, entry.name)) == record.mirror.inode:
                    records[entry.name] = record._replace(mirror=record.mirror._replace(inode=entry.inode))
            rows = [Leaving(entry, records.get(entry.name)).row(VersionReason.RETIRED, until_ns) for entry in plain]
            if rows:
                yield VersionsDone(folder, moment, encode_versions(rows), len(rows), sum(row.size for row in rows))

    def _retire_within(self, path: bytes, row: OrphanRow) -> bool:
        """Retire what is in scope in a folder; False if some of it could not be."""
        opened = self._mirrors.goto(path)
        entries: list[Entry] = []
        for names in names_in(opened):
            entries += self._context.source.would_include(path, entries_of(stat_names(opened, names, Unreadable())))
        as_row = {each.name: row._replace(name=each.name, mode=each.mode, files=1, checksum="") for each in entries}
        _, seen = self._examined(path, as_row)
        absent = self._absence.of(path, seen)
        files = {name: each for name, each in seen.items() if name in absent and not _is_folder(each)}
        moved = self._move_files(path, files, {})
        self._settle(path, {each.entry.name for each in moved}, moved, as_row)
        for entry in entries:
            if entry.kind is Kind.FOLDER and entry.name in absent:
                self._retire_folder(path, as_row[entry.name])
        return extent_of(path, self._walked, self._context.source).files == 0

    def _unshare(self, found: TreeExtent) -> None:
        """Give files that have other names in the mirror an inode of their own. Raises `OSError` and `Stopped`."""
        by_folder: dict[bytes, list[Entry]] = {}
        for at, entry in found.shared:
            by_folder.setdefault(at, []).append(entry)
        for at, entries in by_folder.items():
            self._context.temp_journal.note(at)
            folder = self._mirrors.goto(at)
            temps = {new_temp(): each for each in entries}
            with self._writable(folder):
                try:
                    self._replace_by_copies(temps, folder)
                finally:
                    for temp in temps:
                        with suppress(FileNotFoundError):
                            os.unlink(temp, dir_fd=folder)

    def _replace_by_copies(self, temps: dict[bytes, Entry], folder: int) -> None:
        copier, sync = self._context.tools.copier, self._context.tools.sync
        try:
            for temp, entry in temps.items():
                copy_entry(copier, entry, folder, folder, temp)
        except ChangedWhileReadError as error:
            raise OSError(errno.EAGAIN, "another program changes a file in it") from error
        if not sync.each:
            sync.all()
        for temp, entry in temps.items():
            os.rename(temp, entry.name, src_dir_fd=folder, dst_dir_fd=folder)


def _is_folder(seen: os.stat_result) -> bool:
    return kind_of(seen.st_mode) is Kind.FOLDER


def _is_as_recorded(entry: Entry, row: OrphanRow) -> bool:
    return (entry.inode, entry.size, max(0, entry.mtime_ns)) == (row.inode, row.size, row.mtime_ns)


def _record_of(row: OrphanRow) -> Record:
    """Return the record of an orphan; the checksum and time of its content are unknown if it is empty."""
    entry = Entry(row.name, row.inode, row.mode, 0, 0, row.size, row.mtime_ns, 0)
    return Record(entry, entry, row.checksum, racy=False, since_ns=row.stands_since_ns)
