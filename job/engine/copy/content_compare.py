"""Compare contents, fix metadata where they are equal, and keep in the index what the mirror cannot hold."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from job.core.entry import STATE_FOLDER, Entry, Kind
from job.core.outcome import Skip
from job.core.record import Record
from job.engine.context import PairContext, PairRun, ProgressSink
from job.engine.copy.batch import Batch
from job.engine.copy.finish_folder import Work, as_recorded
from job.engine.messages import SyncFolder
from job.engine.preflight.root_check import DeviceCheck
from job.engine.volumes import Volume
from job.errors import ChangedWhileReadError
from job.fs.copier import Copier
from job.fs.dircursor import DirCursor, listed_handle, open_listed, open_name
from job.fs.large_dir import stat_names
from job.fs.listing import Shared, entries_of, entry_of
from job.fs.metadata import MetadataWriter
from job.fs.small_copies import SMALL_BYTES
from job.fs.xattrs import is_acl, place_of
from job.store.codec import FOLDER, MOST_ATTRIBUTE_BYTES, MOST_BYTES_EACH, UnsupportedMetadata, decode_records

CHECK_ENTRIES = 16
"""A stop is noticed, and progress is reported, after so many entries, or `CHECK_NS`."""


class Judgement(NamedTuple):
    """Result of a comparison of contents."""

    same: bool
    source: Entry
    """The source as it was read."""
    checksum: str
    """Of the source; empty for a symlink."""
    drifted: bool
    """Whether another program changed the content of the mirror."""
    alike: Entry | None = None
    """The mirror as it was read, if its metadata are right, too."""


class ContentCompare:
    """Compares contents by checksum, symlinks by their text, special files by type and device number."""

    def __init__(self, copier: Copier) -> None:
        self._copier = copier

    def compare(
        self, entry: Entry, source: int, mirror: Entry, mirror_folder: int | None, record: Record | None
    ) -> Judgement:
        """Compare the source with the mirror, or, where `mirror_folder` is None, with the index record.

        Raises `OSError` or `ChangedWhileReadError` only for the source; an unreadable mirror differs.
        """
        if entry.kind is not Kind.FILE:
            return self._compare_nonregular(entry, source, mirror, mirror_folder, record)
        if mirror_folder is None:
            algorithm = None if record is None else _algorithm(record.checksum)
            checksum, seen = self._copier.checksum(entry, source, algorithm)
            return Judgement(record is not None and checksum == record.checksum, seen, checksum, drifted=False)
        found = self._copier.compare(entry, source, mirror, mirror_folder)
        drifted = not found.same and self._has_drifted(found.checksum, mirror, mirror_folder, record)
        return Judgement(found.same, found.source, found.checksum, drifted, found.alike)

    def _has_drifted(self, checksum: str, mirror: Entry, mirror_folder: int, record: Record | None) -> bool:
        if record is None or _algorithm(record.checksum) != _algorithm(checksum):
            return False
        try:
            mirrored, _ = self._copier.checksum(mirror, mirror_folder, _algorithm(record.checksum))
        except (OSError, ChangedWhileReadError):
            return True
        return mirrored != record.checksum and _algorithm(mirrored) == _algorithm(record.checksum)

    @staticmethod
    def _compare_nonregular(
        entry: Entry, source: int, mirror: Entry, mirror_folder: int | None, record: Record | None
    ) -> Judgement:
        meant, found = _target_or_device(entry, source)
        seen = entry_of(entry.name, found)
        mirrored: object = None
        if mirror_folder is not None:
            with suppress(OSError, ChangedWhileReadError):
                mirrored, _ = _target_or_device(mirror, mirror_folder)
        return Judgement(meant == mirrored, seen, "", record is not None and record.source == seen)


def _target_or_device(entry: Entry, folder: int) -> tuple[object, os.stat_result]:
    """Return the target of a symlink, or type and device number of a special file; and its lstat."""
    with listed_handle(entry, folder) as (handle, seen):
        if entry.kind is Kind.SYMLINK:
            return os.readlink(b"", dir_fd=handle), seen
        return (stat.S_IFMT(seen.st_mode), seen.st_rdev), seen


class FolderConfirmer:
    """Reads the files of folders whose names and times are as recorded on both sides, for `compare: checksum`."""

    def __init__(
        self,
        context: PairContext,
        run: PairRun,
        batch: Batch,
        progress: ProgressSink,
        sources: DirCursor,
        mirrors: DirCursor,
    ) -> None:
        """Both cursors are moved."""
        self._context, self._run = context, run
        self._batch, self._progress = batch, progress
        self._sources, self._mirrors = sources, mirrors
        self._devices = DeviceCheck(context)

    def confirms(self, task: SyncFolder, volume: Volume) -> bool:
        """Return whether the contents in a folder are as recorded; it is counted then. Raises `Stopped`.

        False proves nothing: the folder must be synced then.
        """
        path, source = task.path, self._context.source
        if not (task.same_source and task.known_mirror) or task.links or volume.name_rules:
            return False
        if self._run.pair.options_key or self._run.verbose:
            return False
        records = decode_records(task.rows, volume.options_key)
        try:
            folder, mirror = self._sources.goto(path), self._mirrors.goto(path)
            listing = source.as_scanned(path, folder, task.packed, task.fingerprint) or source.list(path)
            if listing.fingerprint != task.fingerprint or listing.linked:
                return False
            seen = os.fstat(mirror)
            self._devices.check(mirror, seen.st_dev, volume.number)
        except OSError:
            return False
        files = [entry for entry in listing.entries if entry[2] != stat.S_IFDIR]
        same = [
            record
            for entry in files
            if (record := records.get(entry[0])) and record[0] == entry and not record[3]
            if entry[5] <= SMALL_BYTES and not entry[0].startswith(STATE_FOLDER)
        ]
        known = as_recorded(listing.folders, records, seen, task.known_mirror)
        return (
            known is not None and len(same) == len(files) == len(records) and self._read(same, folder, mirror, volume)
        )

    def _read(self, records: list[Record], source: int, mirror: int, volume: Volume) -> bool:
        waiting = iter(records)
        while some := [*islice(waiting, CHECK_ENTRIES)]:
            if volume.copier.confirmed(some, source, mirror) != some:
                return False
        counts = self._batch.pending_events.counts
        counts.folders += 1
        counts.skipped[Skip.UNCHANGED] += len(records)
        self._progress.entry_done(sum([record[0][5] for record in records]), len(records))
        return True


def recorded_entries(
    work: Work, records: Mapping[bytes, Record], known_mirror: bytes, folder: int
) -> tuple[dict[bytes, Entry], dict[bytes, Shared]] | None:
    """Return the entries of an open mirror folder by name, and those with several names; None if it is not as recorded.

    Only names of changed entries of the source are examined.
    """
    listing, seen = work.listing, work.mirror
    known = as_recorded(listing.folders, records, seen, known_mirror) if seen and known_mirror else None
    if known is None:
        return None
    changed = {
        entry[0]
        for entry in listing.entries
        if entry[2] != stat.S_IFDIR and ((record := records.get(entry[0])) is None or record[0] != entry or record[3])
    }
    shared: dict[bytes, Shared] = {}
    now = {entry[0]: entry for entry in entries_of(stat_names(folder, changed, [], shared))}
    return {name: entry for name, entry in known.items() if name not in changed} | now, shared


def under_source_names(
    work: Work, folder: int, present: dict[bytes, Entry], *, again: bool
) -> tuple[dict[bytes, Entry], bool, bool]:
    """Return a mirror folder's entries under the source's names, on a mirror that treats different names as equal.

    The folder is open; the first bool is whether any was renamed in it, the second whether a subfolder waits for its
    new name. Other workers may be in subfolders, so these are renamed when the folder is synced once more, `again`.
    """
    name_rules, is_changed, waits = work.volume.name_rules, False, False
    if name_rules is None:
        return present, False, False
    found = name_rules.matched([entry.name for entry in work.listing.entries], present)
    for name, held in zip(found, present, strict=True):
        if name == held or not name_rules.respelled(name, held):
            continue
        if present[held].kind is Kind.FOLDER and not again:
            waits = True
            continue
        with suppress(OSError):  # it keeps its old spelling
            os.rename(held, name, src_dir_fd=folder, dst_dir_fd=folder)
            is_changed = True
    return found, is_changed, waits


def _algorithm(checksum: str) -> str:
    return checksum.partition(":")[0]


def fix_metadata(
    metadata_writer: MetadataWriter,
    entry: Entry,
    mirror: Entry,
    folders: tuple[int, int],
    names: int,
    *,
    may_lose: bool,
) -> bool | None:
    """Set the metadata of the source on a mirror entry with the right content; True if anything changed.

    `folders` are those of source and mirror. None if it must be copied instead: it cannot be opened, was replaced since
    it was compared, has more than `names` hard links, which would change with it, or, unless it `may_lose` them, has
    attributes that the source lacks: a copy keeps them in a version. Raises `OSError` or `ChangedWhileReadError` for
    the source only, because the mode of another file could open this content to others.
    """
    source, mirror_folder = folders
    if not may_lose and _loses_attributes(metadata_writer, entry, source, mirror, mirror_folder):
        return None
    if entry.kind is not Kind.FILE:
        return _fix_unopened(metadata_writer, entry, source, mirror, mirror_folder, names)
    descriptor, wanted = open_listed(entry, source)
    try:
        xattrs = metadata_writer.of_source(descriptor)
    finally:
        os.close(descriptor)
    try:
        descriptor = open_name(mirror.name, mirror_folder)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if entry_of(mirror.name, found) != mirror or not stat.S_ISREG(found.st_mode):
            return None
        if found.st_nlink > names and not (
            metadata_writer.suits(found, wanted) and metadata_writer.present(descriptor) == xattrs
        ):
            return None
        return metadata_writer.apply(descriptor, wanted, xattrs)
    finally:
        os.close(descriptor)


def _loses_attributes(
    metadata_writer: MetadataWriter, entry: Entry, source: int, mirror: Entry, mirror_folder: int
) -> bool:
    held = metadata_writer.present(place_of(mirror.name, mirror_folder))
    return bool(held) and is_lost(held, metadata_writer.of_source(place_of(entry.name, source)))


def is_lost(held: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> bool:
    """Return whether an attribute that is no ACL would be lost; ACLs are rights, as modes are."""
    return any(wanted.get(name) != value for name, value in held.items() if not is_acl(name))


def _fix_unopened(
    metadata_writer: MetadataWriter, entry: Entry, source: int, mirror: Entry, mirror_folder: int, names: int
) -> bool | None:
    with listed_handle(entry, source) as (handle, wanted):
        attributes = metadata_writer.of_source(handle)
    try:
        with listed_handle(mirror, mirror_folder) as (handle, found):
            if found.st_nlink > names and not metadata_writer.suits(found, wanted):
                return None
            return metadata_writer.apply_at(handle, wanted, attributes)
    except (FileNotFoundError, ChangedWhileReadError):
        return None


_TOO_LARGE = (
    f"the mirror's file system cannot hold the attributes, and the index keeps {MOST_BYTES_EACH >> 10} KiB of an entry"
    f" and {MOST_ATTRIBUTE_BYTES >> 20} MiB of a folder: they are not kept"
)


def note_metadata(work: Work, name: bytes, unsupported: UnsupportedMetadata | None) -> None:
    """Keep in the index what the mirror cannot hold of an entry, except attributes that are too large."""
    size = unsupported.size if unsupported else 0
    if unsupported and (size > MOST_BYTES_EACH or work.unsupported_bytes + size > MOST_ATTRIBUTE_BYTES):
        work.volume.metadata_writer.note_too_large(_TOO_LARGE)
        unsupported, size = unsupported._replace(attributes=()), 0
    work.unsupported[name] = unsupported
    work.unsupported_bytes += size


def continue_unsupported(work: Work, part: int, noted: str) -> None:
    """Continue with the unsupported metadata that the index has of a part of a folder."""
    work.noted = noted
    if part == 0 and not work.volume.mirror.keeps_metadata:
        note_metadata(work, FOLDER, folder_of(work.listing.folder, work.xattrs))


def unsupported_of(entry: Entry, source: int, metadata_writer: MetadataWriter) -> UnsupportedMetadata:
    """Read the metadata of an unopened entry of the source folder. Raises `OSError`, `ChangedWhileReadError`."""
    with listed_handle(entry, source) as (handle, seen):
        target = os.readlink(b"", dir_fd=handle) if entry.kind is Kind.SYMLINK else b""
        kept = tuple(sorted(metadata_writer.of_source(handle).items()))
    return UnsupportedMetadata(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, target, seen.st_rdev, kept)


def attributes_of(entry: Entry, source: int, metadata_writer: MetadataWriter) -> UnsupportedMetadata | None:
    """Read the attributes of a file; None if it has none, or vanished."""
    attributes: dict[bytes, bytes] = {}
    with suppress(OSError):
        attributes = metadata_writer.of_source(place_of(entry.name, source))
    if not attributes:
        return None
    kept = tuple(sorted(attributes.items()))
    return UnsupportedMetadata(entry.mode, entry.uid, entry.gid, entry.mtime_ns, attributes=kept)


def folder_of(seen: os.stat_result, attributes: dict[bytes, bytes]) -> UnsupportedMetadata:
    """Return the metadata of a folder itself."""
    kept = tuple(sorted(attributes.items()))
    return UnsupportedMetadata(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, attributes=kept)
