"""Scan source and mirror: list folders by descriptor and fingerprint the listings, an unchanged one costs a stat.

Temps and state folders of Truecopy itself are recognised and left out: a source has them after a restore by `cp -a`, or
where it is a mirror itself.
"""

import errno
import hashlib
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, Self

from job.core.capabilities import NameRules
from job.core.entry import LOST_FOUND, STATE_FOLDER, TEMP_PREFIX, is_reserved, join
from job.core.exclude import ExcludeRules
from job.core.mounts import KERNEL_TYPES, ByMount, LeftOut, LeftOutReason
from job.core.record import Stamp
from job.fs.dircursor import DirCursor, open_folder, open_name
from job.fs.large_dir import fingerprint_of_sums, names_in, stat_names, sum_folder
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
    list_entries,
    mirror_fingerprint_of,
    scan,
    scan_folder,
    stamp_of,
)
from job.fs.mounts import mount_restrictions, mount_type_at

_OURS = (STATE_FOLDER, 0, 0, 0, 0, 0, 0, 0)
_UNKNOWN = "unknown"
"""Type of a file system where the kernel does not say."""


class MirrorLimits(NamedTuple):
    """What fits one file system of a mirror."""

    options_key: bytes
    """Mixed into fingerprints: other options, other fingerprints."""
    name_rules: NameRules | None
    """By it names that the mirror cannot hold are left out, and told as unreadable."""

    def salted(self, rules: bytes) -> Self:
        """Give the same for some rules, by their digest."""
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
        """Take an open root, and what `fits` a mirror; another file system may be `mounted` at some paths in that.

        Unless `cross_mounts`, a folder where another file system is mounted is listed as if it was empty. Folders whose
        file system in the mirror is `gone` cannot be read: nothing may be copied to where it was. `mounts` are folders
        of the source where file systems were mounted before, and their types: if one of them is empty and has none,
        listing it is an error. With `mount_flags` a folder is another one when it is mounted nodev or nosuid.
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
        """A place on each other file system: what is below it there is no beginning of one."""
        self._rules = rules

    def close(self) -> None:
        """Close what the walk opened; the root stays open."""
        self._cursor.close()

    def walk(self, start: bytes = b"") -> Iterator[Listing | Unlisted]:
        """List every folder from `start` on, parents before children, each as it is at that moment."""
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

    def _in_scope(self, scope: "_FolderScope", rows: list[Row], folders: Sequence[bytes] | None) -> list[Row]:
        """Leave out what is out of scope, and what the mirror cannot hold."""
        rows = self._rules.in_scope(scope.path, rows, folders)
        # All our names begin with that of the state folder: one search finds them, where the rows are sorted. Of a huge
        # folder they are not, when it is looked at; there temps count as entries, and its parts leave them out.
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
        """Look at one folder, or at one share of a huge one. Raises `OSError` if it cannot be opened or read."""
        folder = self._open(path)
        seen = os.fstat(folder)
        salt = self._salt(path, folder, seen)
        mount = self._mount(path, folder) if seen.st_dev != self._device else ""
        if mount is None:
            return FolderScan(fingerprint_of([], salt), [], 0, 0, 0, left_out=[self._left_out(path, folder)])
        scope = _FolderScope(path, folder, mount)
        found = scan_folder(folder, salt, lambda rows, folders: self._in_scope(scope, rows, folders), share)
        if path in self._mounts and not mount and not (found.entries or found.folders or found.unreadable):
            raise MountMissingError(self._mounts[path])
        folders = _without_reserved(path, found.folders)
        if mount or scope.left_out or scope.refused or len(folders) != len(found.folders):
            unreadable = found.unreadable + len(scope.refused)
            return found._replace(folders=folders, unreadable=unreadable, mount=mount, left_out=scope.left_out)
        return found

    def list(self, path: bytes) -> Listing:
        """List one folder. Raises `OSError` if it cannot be opened or read, `Huge` if it should not be held whole."""
        folder = self._open(path)
        before = os.fstat(folder)
        salt = self._salt(path, folder, before)
        mount = self._mount(path, folder) if before.st_dev != self._device else ""
        if mount is None:
            out = [self._left_out(path, folder)]
            return Listing(path, [], [], before, fingerprint_of([], salt), [], left_out=out)
        scope = _FolderScope(path, folder, mount)
        entries, unreadable, linked = list_entries(folder, lambda rows, folders: self._in_scope(scope, rows, folders))
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
        """Name the type of the file system that begins with a folder whose device is not the root's.

        Empty if it begins above; None if it is left out.
        """
        if not self._cross_mounts:
            return None
        device = os.fstat(folder).st_dev
        place = self._within.get(device)
        if place is not None and (path == place or path.startswith(place + b"/")) and path not in self._mounts:
            return ""
        above = path.rpartition(b"/")[0]
        with suppress(OSError):  # a folder that may not be entered is told as such by what is done with it
            if os.stat("..", dir_fd=folder, follow_symlinks=False).st_dev == device:
                self._within[device] = above
                return ""
        kind = mount_type_at(folder)
        return None if kind in KERNEL_TYPES else kind or _UNKNOWN

    def _left_out(self, path: bytes, folder: int) -> LeftOut:
        kind = mount_type_at(folder)
        return LeftOut(path, LeftOutReason.KERNEL if kind in KERNEL_TYPES else LeftOutReason.MOUNT, kind)

    def names(self, path: bytes) -> Iterator[Sequence[bytes]]:
        """Give the names in a huge folder, some at a time, in scope or not. Raises `OSError`."""
        return names_in(self._cursor.goto(path))

    def part(self, path: bytes, names: Iterable[bytes]) -> Listing:
        """List those of a folder's names that are there and in scope; without a fingerprint. Raises `OSError`."""
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


@dataclass(slots=True)
class _FolderScope:
    """One folder whose entries are being judged."""

    path: bytes
    folder: int
    mount: str
    """As a glance's."""
    refused: Unreadable = field(default_factory=list)
    """Names that the mirror cannot hold."""
    left_out: "list[LeftOut]" = field(default_factory=list)


def _without_own(rows: list[Row], scope: _FolderScope) -> list[Row]:
    """Leave out Truecopy's own: a restore by `cp -a` brings it, and a source that is a mirror itself has it.

    What only has such a name stays, and is refused or an ordinary entry.
    """
    # Few sources have any, and each start would pay for it.
    from job.fs.trees import is_own_state, is_own_temp  # noqa: PLC0415

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
    # A reserved folder is reported as failed by its parent; what is in it must not reach the mirror's own state.
    return [name for name in folders if not is_reserved(join(path, name))]


class MirrorScanner:
    """Looks at the mirror without changing it: folder stamps in every cycle, whole listings in an audit."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._cursor = DirCursor(root)

    def close(self) -> None:
        """Close what was opened; the root stays open."""
        self._cursor.close()

    def stamp(self, path: bytes) -> Stamp | None:
        """Give a mirror folder's stamp; None if it is missing or no folder of ours."""
        try:
            if not path:
                return stamp_of(os.fstat(self._root))
            parent, _, name = path.rpartition(b"/")
            seen = os.stat(name, dir_fd=self._cursor.goto(parent), follow_symlinks=False)
        except OSError:
            return None
        return stamp_of(seen) if stat.S_ISDIR(seen.st_mode) else None

    def is_empty(self) -> bool:
        """Tell whether nothing but our own state folder is in the mirror; False if that cannot be told."""
        try:
            return all(name == STATE_FOLDER for names in names_in(self._root) for name in names)
        except OSError:
            return False

    def inspect(self, path: bytes, partitions: int = 1) -> tuple[Stamp, bytes] | None:
        """Give a mirror folder's stamp and the fingerprint of everything in it; None if it cannot be read.

        What was brought up to date in `partitions` is remembered as a sum.
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
_STATE_NAMES = re.compile(r"(versions|quarantine|sums|ledger\.jsonl|identity\.json|lease|lock)(-.*)?")
"""What lies in it where the state is elsewhere: all else comes with the note."""
_MAX_STATE_NAMES = 1000
"""Names that are looked at: the state folder has a few dozen."""
_TEMP = re.compile(re.escape(TEMP_PREFIX) + rb"[0-9a-f]{8}-[0-9a-f]{1,16}")
_PROBE = re.compile(re.escape(TEMP_PREFIX) + rb"probe(-[0-9a-f]{8})?")


def is_own_temp(name: bytes, *, folder: bool) -> bool:
    """Tell whether a name is just as Truecopy gives it to a file that it writes, or a folder that it tries things in.

    Such a file had no name of its own yet, and may hold half a content.
    """
    return (_PROBE if folder else _TEMP).fullmatch(name) is not None


def is_own_state(name: bytes, parent: int, *, or_empty: bool) -> bool:
    """Tell whether a folder is a state folder of Truecopy: it has our note, or nothing but names that we give.

    False if it cannot be read: then nobody knows.
    """
    with suppress(OSError):
        folder = open_folder(name, parent)
        try:
            return _has_our_note(folder) or _has_our_names_only(folder, or_empty=or_empty)
        finally:
            os.close(folder)
    return False


def _has_our_note(folder: int) -> bool:
    with suppress(OSError):
        note = open_name(_README, folder)
        try:
            return os.read(note, len(_BEGINS)) == _BEGINS
        finally:
            os.close(note)
    return False


def _has_our_names_only(folder: int, *, or_empty: bool) -> bool:
    with scan(folder) as found:
        names = [item.name for item in islice(found, _MAX_STATE_NAMES + 1)]
    return (or_empty or bool(names)) and len(names) <= _MAX_STATE_NAMES and all(map(_STATE_NAMES.fullmatch, names))
