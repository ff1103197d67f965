"""All that is kept of the entries of a folder: in the mirror, in the version folders, and what the index knows of it.

Contents are found in the folders alone. Rows of the index are matched by name to what was found there and open nothing,
so a hostile row leads nowhere (invariant 12).
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from job.core.entry import LOST_FOUND, STATE_FOLDER, TYPE_BITS, Entry, Kind, is_reserved, join, kind_of
from job.core.file_systems import LOCAL_TYPES
from job.core.record import Record
from job.core.restore_plan import Kept, kept_version
from job.core.versions import Moment, OrphanRow, VersionReason, VersionRow, moment_of
from job.fs.dircursor import DirCursor
from job.fs.large_dir import names_in, stat_names
from job.fs.listing import Shared, Unreadable
from job.fs.mounts import mount_of
from job.fs.versions import VERSIONS, folder_of
from job.store.codec import UnsupportedMetadata, decode_records, decode_unsupported
from job.store.index import Index
from job.store.version_rows import decode_versions

_NO_CHANGE_TIME = frozenset({"exfat", "vfat"})
"""Local file systems without a time of the last change: their ctime is another time."""
_VERSIONS = join(STATE_FOLDER, VERSIONS)
_Rows = Mapping[Moment, Mapping[bytes, VersionRow]]
_FOREVER = float("inf")


class Content(NamedTuple):
    """One content of a path, and what is known of it."""

    kept: Kept
    folder: bytes
    """The path of the folder that holds it, below the mirror's root."""
    entry: Entry
    """Of that folder, by lstat; of a folder only name and type."""
    shared: Shared | None = None
    """Set if the file has several names."""
    checksum: str = ""
    """As recorded, with its algorithm; empty if none is."""
    is_as_recorded: bool = True
    """Whether its stat is the recorded one, so that no program is known to have changed it."""
    source: Entry | None = None
    """The source's entry as it was copied; None if unknown."""
    why: VersionReason | None = None
    """Why a version left its name; None for the mirror's own, and if unknown."""
    unsupported: UnsupportedMetadata | None = None
    """Metadata that the mirror cannot hold."""
    is_held: bool = True
    """Whether there is an entry; False for one that the mirror cannot hold, of which the index has all."""

    @property
    def path(self) -> bytes:
        """Its path below the mirror's root."""
        return join(self.folder, self.entry.name)


class FolderPlaces(NamedTuple):
    """Where the entries of one folder are kept."""

    path: bytes
    """Of the folder, below the source."""
    in_mirror: bool
    moments: Sequence[Moment]
    """The version folders that have it."""
    ended: Mapping[Moment, float]
    """When the folder left its name, for those to which it was moved as a whole; in seconds since the epoch."""

    def below(self, name: bytes, contents: Sequence[Content]) -> "FolderPlaces":
        """Return the places of a subfolder, by the contents of its name."""
        folders = [each.kept for each in contents if each.kept.kind is Kind.FOLDER]
        moments = [each.moment for each in folders if each.moment is not None]
        ended = {moment: self.ended[moment] for moment in moments if moment in self.ended}
        ended |= {each.moment: each.until for each in folders if each.moment is not None and each.until is not None}
        return FolderPlaces(join(self.path, name), len(moments) < len(folders), moments, ended)


Contents = dict[bytes, list[Content]]
"""By name, the mirror's own content first."""


class KeptTree:
    """Reads what is kept of one mirror. Use it with `contextlib.closing`."""

    def __init__(self, mirror: int, index: Index) -> None:
        """`mirror` is the open root; it and the index, which may be empty, stay the caller's. Raises `OSError`."""
        self._cursor = DirCursor(mirror)
        self._index = index
        self._indexed_since = index.complete_since
        """The index knows of every content that was replaced since then; infinity if it knows nothing."""
        mount = mount_of(mirror)
        kind = mount.type if mount else ""
        self._has_change_times = kind in LOCAL_TYPES and kind not in _NO_CHANGE_TIME
        self.moments = self._moments()
        """The version folders, in the order of their cycles."""

    def close(self) -> None:
        """Close what was opened."""
        self._cursor.close()

    def open(self, path: bytes) -> int:
        """Open a folder of the mirror, valid until the next call. Raises `OSError`."""
        return self._cursor.goto(path)

    @property
    def complete_since(self) -> float:
        """No content that was replaced later has been given up, as far as is known."""
        if self._indexed_since != _FOREVER:
            return self._indexed_since
        return float(self.moments[0].seconds) if self.moments else -_FOREVER

    @property
    def root(self) -> FolderPlaces:
        """The places of the root."""
        return FolderPlaces(b"", True, self.moments, {})

    def _moments(self) -> list[Moment]:
        try:
            names = [name for some in names_in(self.open(_VERSIONS)) for name in some]
        except FileNotFoundError:
            return []
        return sorted(moment for name in names if (moment := moment_of(name)) is not None)

    def places_of(self, path: bytes) -> FolderPlaces:
        """Return where the entries of a folder are kept; nowhere if it is no folder anywhere. Raises `OSError`."""
        places = self.root
        for name in path.split(b"/") if path else ():
            contents, _ = self.contents(places, [name])
            places = places.below(name, contents.get(name, []))
        return places

    def contents(self, places: FolderPlaces, names: Sequence[bytes] | None = None) -> tuple[Contents, Unreadable]:
        """Return what is kept of the entries of a folder, or of some names in it, and what could not be read.

        Raises `OSError` if the mirror's folder cannot be read.
        """
        unreadable = Unreadable()
        texts = self._index.versions(places.path)
        rows = {moment: {row.name: row for row in decode_versions(text)} for moment, text in texts.items()}
        found = self._in_mirror(places.path, names, rows, unreadable) if places.in_mirror else {}
        for moment in places.moments:
            folder, of_cycle = folder_of(moment, places.path), rows.get(moment, {})
            try:
                for entry, shared in self._listed(folder, names, unreadable):
                    if not is_reserved(join(places.path, entry.name)):  # temps of copies, which may be incomplete
                        content = self._version(folder, entry, shared, moment, of_cycle.get(entry.name))
                        if content.why is None:
                            content = content._replace(kept=content.kept._replace(until=places.ended.get(moment)))
                        found.setdefault(entry.name, []).append(content)
            except OSError as error:
                unreadable.append((b"", error))
        return found, unreadable

    def _in_mirror(self, path: bytes, names: Sequence[bytes] | None, rows: _Rows, unreadable: Unreadable) -> Contents:
        records, unsupported = self._recorded(path)
        orphans = self._index.orphans.named(path)
        replaced = {(row.name, row.until_ns / 1e9) for some in rows.values() for row in some.values()}
        found: Contents = {}
        for entry, shared in self._listed(path, names, unreadable):
            if not _is_internal(path, entry, self.open(path)):
                known = records.get(entry.name) or orphans.get(entry.name)
                content = _after_another(self._own(path, entry, shared, known), replaced)
                noted = unsupported.get(entry.name)
                if noted is not None and kind_of(noted.mode) is entry.kind:
                    content = content._replace(unsupported=noted)
                found[entry.name] = [content]
        for name, noted in unsupported.items():
            if name not in found and (names is None or name in names) and _is_whole(name, noted):
                found[name] = [_not_held(path, name, noted)]
        return found

    def _listed(
        self, folder: bytes, names: Sequence[bytes] | None, unreadable: Unreadable
    ) -> Iterator[tuple[Entry, Shared | None]]:
        opened = self.open(folder)
        for some in [names] if names is not None else names_in(opened):
            linked: dict[bytes, Shared] = {}
            for row in stat_names(opened, some, unreadable, linked):
                yield Entry._make(row), linked.get(row[0])

    def _recorded(self, path: bytes) -> tuple[dict[bytes, Record], dict[bytes, UnsupportedMetadata]]:
        """Return what the index has about the entries of a mirror folder, and about the folder by an empty name."""
        summary = self._index.summary(path)
        records: dict[bytes, Record] = {}
        unsupported: dict[bytes, UnsupportedMetadata] = {}
        for part in range(summary.parts if summary else 0):
            records |= decode_records(self._index.rows(path, part))
            unsupported |= decode_unsupported(self._index.unsupported(path, part))
        return records, unsupported

    def _own(self, path: bytes, entry: Entry, shared: Shared | None, record: Record | OrphanRow | None) -> Content:
        """Return the content of an entry of the mirror."""
        if entry.kind is Kind.FOLDER:
            return Content(Kept(None, Kind.FOLDER), path, entry)
        ctime_ns = entry.ctime_ns if self._has_change_times else 0
        if isinstance(record, OrphanRow):
            return self._orphan(path, entry, shared, record)
        if record is None or kind_of(record.mirror.mode) is not entry.kind:
            return Content(_kept(entry.kind, ctime_ns, is_exact=False), path, entry, shared)
        if (record.mirror.size, record.mirror.mtime_ns) != (entry.size, entry.mtime_ns):
            kept = _kept(entry.kind, ctime_ns, is_exact=False)
            return Content(kept, path, entry, shared, record.checksum, is_as_recorded=False)
        # A second name, and a program that changes the mode, move the ctime, not the content.
        since_ns = record.since_ns or (record.stands_since_ns if self._has_change_times else 0)
        is_exact = since_ns / 1e9 >= self._indexed_since
        kept = _kept(entry.kind, since_ns, is_exact=is_exact)
        return Content(kept, path, entry, shared, record.checksum, source=record.source)

    def _orphan(self, path: bytes, entry: Entry, shared: Shared | None, row: OrphanRow) -> Content:
        """Return the content of an entry that left the source."""
        is_same = (row.size, row.mtime_ns) == (entry.size, max(0, entry.mtime_ns)) and kind_of(row.mode) is entry.kind
        since_ns = row.stands_since_ns if is_same else 0
        is_exact = since_ns > 0 and since_ns / 1e9 >= self._indexed_since
        kept = _kept(entry.kind, since_ns or (entry.ctime_ns if self._has_change_times else 0), is_exact=is_exact)
        return Content(kept, path, entry, shared, row.checksum, is_as_recorded=is_same or not row.checksum)

    def _version(
        self, folder: bytes, entry: Entry, shared: Shared | None, moment: Moment, row: VersionRow | None
    ) -> Content:
        """Return a content of a version folder; a row of another kind or size is not about it."""
        is_about = row is not None and row.mode & TYPE_BITS == entry.mode & TYPE_BITS
        if row is None or not is_about or (entry.kind is Kind.FILE and row.size != entry.size):
            # A link moves the ctime. An older one is that of an entry in a folder that was moved as a whole.
            is_older = self._has_change_times and 0 < entry.ctime_ns < moment.seconds * 10**9
            kept = _kept(entry.kind, entry.ctime_ns if is_older else 0, is_exact=False)
            return Content(kept._replace(moment=moment), folder, entry, shared)
        kept = kept_version(row, moment) or Kept(moment, entry.kind)
        return Content(kept, folder, entry, shared, row.checksum, why=row.why)

    def own_metadata(self, path: bytes) -> UnsupportedMetadata | None:
        """Return the metadata of a folder that the mirror cannot hold; None for none. Raises `OSError`."""
        return self._recorded(path)[1].get(b"")


def _kept(kind: Kind, since_ns: int, *, is_exact: bool) -> Kept:
    return Kept(None, kind, since_ns / 1e9 if since_ns else None, is_since_exact=is_exact)


def _is_internal(path: bytes, entry: Entry, folder: int) -> bool:
    """Return whether an entry of a mirror folder is Truecopy's or the file system's own."""
    if is_reserved(join(path, entry.name)):
        return True
    if path or entry.name != LOST_FOUND or entry.kind is not Kind.FOLDER:
        return False
    with suppress(OSError):
        seen = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        return seen.st_uid == 0 and stat.S_IMODE(seen.st_mode) == stat.S_IRWXU
    return False


def _after_another(content: Content, replaced: set[tuple[bytes, float]]) -> Content:
    """Note that a content took the place of another: both times are that of one rename."""
    if (content.entry.name, content.kept.since) not in replaced:
        return content
    return content._replace(kept=content.kept._replace(replaced_another=True))


def _is_whole(name: bytes, noted: UnsupportedMetadata) -> bool:
    """Return whether the index has all of an entry, which is no file; a row may be hostile."""
    is_single = bool(name) and b"/" not in name and b"\0" not in name and name not in {b".", b".."}
    return is_single and kind_of(noted.mode) in {Kind.SYMLINK, Kind.SPECIAL}


def _not_held(path: bytes, name: bytes, noted: UnsupportedMetadata) -> Content:
    """Return a symlink or special file that the mirror cannot hold, and of which the index knows all."""
    entry = Entry(name, 0, noted.mode, noted.uid, noted.gid, len(noted.target), noted.mtime_ns, 0)
    return Content(Kept(None, entry.kind), path, entry, unsupported=noted, is_held=False)
