"""Scan source and mirror: list folders by descriptor and fingerprint the listings.

Temps and state folders of Truecopy, as after a restore by `cp -a` or in a source that is a mirror, are left out.
"""

import errno
import hashlib
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, Self

from job.core.entry import LOST_FOUND, STATE_FOLDER, TEMP_PREFIX, Entry, is_reserved, join
from job.core.exclude import ExcludeRules
from job.core.file_systems import KERNEL_TYPES, ByMount, LeftOut, LeftOutReason, NameRules
from job.core.record import Stamp
from job.fs.dircursor import DirCursor, closing_fd, open_folder, open_name
from job.fs.large_dir import fingerprint_of_sums, is_temp_name, names_in, stat_names, sum_folder
from job.fs.listing import (
    FolderScan,
    Listing,
    MirrorUnmountedError,
    MountMissingError,
    NameNotHeldError,
    Row,
    Shared,
    Unlisted,
    Unreadable,
    entries_of,
    fingerprint_of,
    hash_packed,
    list_entries,
    mirror_fingerprint_of,
    scan,
    scan_folder,
    stamp_of,
    unpack_rows,
)
from job.fs.mounts import mount_restrictions, mount_type_at

_OURS = (STATE_FOLDER, 0, 0, 0, 0, 0, 0, 0)
_UNKNOWN = "unknown"
"""Type of a file system that the kernel does not name."""


class MirrorLimits(NamedTuple):
    """Limits of one file system of a mirror."""

    options_key: bytes
    """Part of each fingerprint, so that changed options change all fingerprints."""
    name_rules: NameRules | None
    """Names that the mirror cannot hold are left out, and reported as unreadable."""

    def salted(self, rules: bytes) -> Self:
        """Return the limits with the digest of exclude rules mixed into `options_key`."""
        return self._replace(options_key=hashlib.sha256(self.options_key + rules).digest())


_UNMOUNTED = (
    "in the mirror a file system was mounted here, and is not mounted now; mount it, or, if it is not to come back, "
    "remove the empty folder that is left"
)
_NO_LIMITS = MirrorLimits(b"", None)
_NO_MOUNTS: Mapping[bytes, MirrorLimits] = {}


class SourceScanner:
    """Lists the folders below one root that are in scope."""

    def __init__(  # noqa: PLR0913  # five have defaults and are given by name
        self,
        root: int,
        rules: ExcludeRules,
        fits: MirrorLimits = _NO_LIMITS,
        *,
        cross_mounts: bool = False,
        mounted: Mapping[bytes, MirrorLimits] = _NO_MOUNTS,
        gone: Iterable[bytes] = (),
        mounts: Mapping[bytes, str] = MappingProxyType({}),
        mount_flags: bool = False,
    ) -> None:
        """`root` is an open folder, `fits` the mirror's limits, `mounted` those of file systems mounted in the mirror.

        Unless `cross_mounts`, a folder with another file system is listed as empty. Folders whose mirror file system is
        `gone` raise an error, since nothing may be copied to its empty mount point. `mounts` holds former mount points
        of the source and their types: listing one that is empty and not mounted is an error. With `mount_flags`, nodev
        and nosuid are part of the fingerprint.
        """
        self._mount_flags = mount_flags
        digest = rules.digest
        salted = {point: each.salted(digest) for point, each in mounted.items()}
        self._fits = ByMount(fits.salted(digest), salted, fits.name_rules)
        self._gone = frozenset(gone)
        self._cursor = DirCursor(root)
        self._device = os.fstat(root).st_dev
        self._cross_mounts = cross_mounts
        self._mounts = mounts
        self._within: dict[int, bytes] = {}
        """A folder on each other file system; folders below it are no mount points."""
        self._rules = rules

    def close(self) -> None:
        """Close the cursor; the root stays open."""
        self._cursor.close()

    def walk(self, start: bytes = b"") -> Iterator[Listing | Unlisted]:
        """List every folder from `start` on, parents before children, each when it is reached."""
        waiting = [start]
        while waiting:
            path = waiting.pop()
            try:
                listing = self.list(path)
            except OSError as error:
                yield Unlisted(path, error)
                continue
            yield listing
            waiting.extend(join(path, name) for name in reversed(listing.folders))

    def would_include(self, path: bytes, entries: list[Entry]) -> list[Entry]:
        """Filter out entries that would be out of scope in a folder of the source, and those of file systems."""
        return [
            entry
            for entry in self._rules.in_scope(path, entries)
            if not entry.name.startswith(STATE_FOLDER) and (entry.name != LOST_FOUND or entry.mode != stat.S_IFDIR)
        ]

    def _in_scope(self, scope: "_FolderScope", rows: list[Row], folders: Sequence[bytes] | None) -> list[Row]:
        """Filter out excluded rows, and rows with names that the mirror cannot hold."""
        rows = self._rules.in_scope(scope.path, rows, folders)
        # All own names begin with the state folder's name: one search finds them in sorted rows. The scan of a huge
        # folder is not sorted and counts temps as entries; `part` leaves them out.
        at = bisect_left(rows, _OURS)
        if (at < len(rows) and rows[at][0].startswith(STATE_FOLDER)) or (folders and STATE_FOLDER in folders):
            rows = _without_own(rows, scope)
        if scope.mount:
            rows = self._without_lost_found(rows, scope.path)
        name_rules = self._fits.at(scope.path).name_rules
        if name_rules is None:
            return rows
        faults = name_rules.faults([row[0] for row in rows])
        if not faults:
            return rows
        scope.refused += [(name, NameNotHeldError(errno.EINVAL, why)) for name, why in sorted(faults.items())]
        return [row for row in rows if row[0] not in faults]

    def _without_lost_found(self, rows: list[Row], path: bytes) -> list[Row]:
        inside = [row for row in rows if row[0] != LOST_FOUND or not stat.S_ISDIR(row[2])]
        return rows if len(inside) == len(rows) or self._rules.includes_folder(join(path, LOST_FOUND)) else inside

    def _salt(self, path: bytes, folder: int, seen: os.stat_result) -> bytes:
        salt = self._fits.at(path).options_key + stamp_of(seen)
        return salt + mount_restrictions(folder).encode("ascii") if self._mount_flags else salt

    def scan_folder(self, path: bytes, share: int = 0) -> FolderScan:
        """Scan one folder, or one share of a huge one. Raises `OSError` if it cannot be opened or read."""
        folder = self._open(path)
        seen = os.fstat(folder)
        salt = self._salt(path, folder, seen)
        mount = self._mount(path, folder) if seen.st_dev != self._device else ""
        if mount is None:
            return FolderScan(fingerprint_of([], salt), [], 0, 0, 0, left_out=[self._left_out(path, folder)])
        scope = _FolderScope(path, folder, mount)
        found = scan_folder(folder, salt, partial(self._in_scope, scope), share)
        if path in self._mounts and not mount and not (found.entries or found.folders or found.unreadable):
            raise MountMissingError(self._mounts[path])
        folders = _without_reserved(path, found.folders)
        if mount or scope.left_out or scope.refused or len(folders) != len(found.folders):
            unreadable = found.unreadable + len(scope.refused)
            left_out = scope.left_out
            return found._replace(folders=folders, unreadable=unreadable, mount=mount, left_out=left_out, packed=b"")
        return found

    def as_scanned(self, path: bytes, folder: int, packed: bytes, fingerprint: bytes) -> Listing | None:
        """Return the listing of an open folder by the packed rows of its scan; None if the folder changed since."""
        seen = os.fstat(folder)
        if not packed or seen.st_dev != self._device or path in self._mounts or path in self._gone:
            return None
        if hash_packed(packed, self._salt(path, folder, seen)) != fingerprint:
            return None
        entries = entries_of(unpack_rows(packed))
        folders = [entry[0] for entry in entries if entry[2] == stat.S_IFDIR]
        return Listing(path, entries, folders, seen, fingerprint, [])

    def list(self, path: bytes) -> Listing:
        """List one folder. Raises `OSError` if it cannot be opened or read, `Huge` if it is too large for memory."""
        folder = self._open(path)
        before = os.fstat(folder)
        salt = self._salt(path, folder, before)
        mount = self._mount(path, folder) if before.st_dev != self._device else ""
        if mount is None:
            out = [self._left_out(path, folder)]
            return Listing(path, [], [], before, fingerprint_of([], salt), [], left_out=out)
        scope = _FolderScope(path, folder, mount)
        entries, unreadable, linked = list_entries(folder, partial(self._in_scope, scope))
        if path in self._mounts and not (mount or entries or unreadable):
            raise MountMissingError(self._mounts[path])
        unreadable += scope.refused
        folders = _without_reserved(path, [entry.name for entry in entries if stat.S_ISDIR(entry.mode)])
        fingerprint = fingerprint_of(entries, salt)
        return Listing(path, entries, folders, before, fingerprint, unreadable, linked, scope.left_out)

    def _open(self, path: bytes) -> int:
        if path in self._gone:
            raise MirrorUnmountedError(errno.ENODEV, _UNMOUNTED)
        return self._cursor.goto(path)

    def _mount(self, path: bytes, folder: int) -> str | None:
        """Return the type of the file system mounted at a folder; empty if mounted above it, None if left out."""
        if not self._cross_mounts:
            return None
        device = os.fstat(folder).st_dev
        place = self._within.get(device)
        if place is not None and (path == place or path.startswith(place + b"/")) and path not in self._mounts:
            return ""
        above = path.rpartition(b"/")[0]
        with suppress(OSError):  # an inaccessible folder is reported when it is used
            if os.stat("..", dir_fd=folder, follow_symlinks=False).st_dev == device:
                self._within[device] = above
                return ""
        kind = mount_type_at(folder)
        return None if kind in KERNEL_TYPES else kind or _UNKNOWN

    def _left_out(self, path: bytes, folder: int) -> LeftOut:
        kind = mount_type_at(folder)
        return LeftOut(path, LeftOutReason.KERNEL if kind in KERNEL_TYPES else LeftOutReason.MOUNT, kind)

    def names(self, path: bytes) -> Iterator[Sequence[bytes]]:
        """Yield the names in a huge folder in chunks, excluded ones too. Raises `OSError`."""
        return names_in(self._cursor.goto(path))

    def part(self, path: bytes, names: Iterable[bytes]) -> Listing:
        """List those of a folder's names that exist and are not excluded; no fingerprint. Raises `OSError`."""
        folder = self._open(path)
        before, unreadable, linked = os.fstat(folder), Unreadable(), dict[bytes, Shared]()
        mount = self._mount(path, folder) if before.st_dev != self._device else ""
        if mount is None:
            return Listing(path, [], [], before, b"", [], left_out=[self._left_out(path, folder)])
        scope = _FolderScope(path, folder, mount)
        entries = entries_of(self._in_scope(scope, stat_names(folder, names, unreadable, linked), None))
        unreadable += scope.refused
        folders = _without_reserved(path, [entry.name for entry in entries if stat.S_ISDIR(entry.mode)])
        return Listing(path, entries, folders, before, b"", unreadable, linked, scope.left_out)


class _FolderScope:
    """A folder whose entries are filtered, and the results."""

    def __init__(self, path: bytes, folder: int, mount: str) -> None:
        """`mount` is as in `FolderScan`."""
        self.path, self.folder, self.mount = path, folder, mount
        self.refused: Unreadable = []
        """Names that the mirror cannot hold."""
        self.left_out: list[LeftOut] = []


def _without_own(rows: list[Row], scope: _FolderScope) -> list[Row]:
    """Filter out Truecopy's temps and state folders; other entries with such names stay."""
    kept = []
    for row in rows:
        name, is_folder = row[0], stat.S_ISDIR(row[2])
        ours = is_folder and name == STATE_FOLDER and is_own_state(name, scope.folder, or_empty=not scope.path)
        if ours or is_own_temp(name, folder=is_folder):
            scope.left_out.append(LeftOut(join(scope.path, name), LeftOutReason.OWN, ""))
        else:
            kept.append(row)
    return kept


def _without_reserved(path: bytes, folders: list[bytes]) -> list[bytes]:
    # The parent reports a reserved folder as failed; its contents must not reach the mirror's own state.
    # Every reserved name begins with that of the state folder.
    return [name for name in folders if not (name.startswith(STATE_FOLDER) and is_reserved(join(path, name)))]


class MirrorScanner:
    """Reads the mirror without changing it: folder stamps in every cycle, whole listings in an audit."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._cursor = DirCursor(root)
        self._missing = b"/"
        """The last folder that was found to be missing, with those below it."""

    def close(self) -> None:
        """Close the cursor; the root stays open."""
        self._cursor.close()

    def stamp(self, path: bytes) -> Stamp | None:
        """Return a mirror folder's stamp; None if it is missing, unreadable or not a folder."""
        if path.startswith(self._missing):
            return None
        try:
            if not path:
                return stamp_of(os.fstat(self._root))
            parent, _, name = path.rpartition(b"/")
            seen = os.stat(name, dir_fd=self._cursor.goto(parent), follow_symlinks=False)
        except OSError:
            self._missing = path + b"/"
            return None
        return stamp_of(seen) if stat.S_ISDIR(seen.st_mode) else None

    def is_empty(self) -> bool:
        """Return whether the mirror holds nothing but the state folder; False if it cannot be read."""
        try:
            return all(name == STATE_FOLDER for names in names_in(self._root) for name in names)
        except OSError:
            return False

    def inspect(self, path: bytes, partitions: int = 1) -> tuple[Stamp, bytes] | None:
        """Return a mirror folder's stamp and the fingerprint of all its entries; None if it cannot be read.

        A folder that was synced in `partitions` has a fingerprint of sums.
        """
        try:
            folder = self._cursor.goto(path)
            stamp = stamp_of(os.fstat(folder))
            if partitions == 1:
                found = mirror_fingerprint_of(folder)
            else:
                sums = sum_folder(folder)
                found = None if sums is None else fingerprint_of_sums(sums)
        except OSError:
            return None
        return None if found is None else (stamp, found)


_README = b"README.txt"
_BEGINS = b"This folder belongs to Truecopy"
_STATE_NAMES = r"(versions|quarantine|sums|ledger\.jsonl|identity\.json|lease|lock)(-.*)?"
"""Names in a state folder without the README: the state is stored elsewhere."""
_MAX_STATE_NAMES = 1000
"""Names that are checked; a state folder has a few dozen."""
_PROBE = re.escape(TEMP_PREFIX) + rb"probe(-[0-9a-f]{8})?"


def is_own_temp(name: bytes, *, folder: bool) -> bool:
    """Return whether a name is that of a temp, which may be incomplete, or of a probe folder."""
    return re.fullmatch(_PROBE, name) is not None if folder else is_temp_name(name)


def is_own_state(name: bytes, parent: int, *, or_empty: bool) -> bool:
    """Return whether a folder is a state folder: it has Truecopy's README, or only names of state files.

    False if it cannot be read.
    """
    with suppress(OSError), closing_fd(open_folder(name, parent)) as folder:
        return _has_our_note(folder) or _has_our_names_only(folder, or_empty=or_empty)
    return False


def _has_our_note(folder: int) -> bool:
    with suppress(OSError), closing_fd(open_name(_README, folder)) as note:
        return os.read(note, len(_BEGINS)) == _BEGINS
    return False


def _has_our_names_only(folder: int, *, or_empty: bool) -> bool:
    with scan(folder) as found:
        names = [item.name for item in islice(found, _MAX_STATE_NAMES + 1)]
    return (
        (or_empty or bool(names))
        and len(names) <= _MAX_STATE_NAMES
        and all(re.fullmatch(_STATE_NAMES, name) for name in names)
    )
