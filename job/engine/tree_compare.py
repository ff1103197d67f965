"""Compare a source with its mirror and list all differences; every byte is read, nothing is changed.

Neither the index nor times are used: both sides are listed, contents read side by side, metadata and hard links
compared. Metadata that the mirror's file system cannot hold is listed, but is no difference.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple

from job.config.settings import Pair
from job.core.acl import ACCESS_ACL
from job.core.decide import Policy, why_unsupported
from job.core.entry import LOST_FOUND, STATE_FOLDER, TEMP_PREFIX, Entry, Kind, is_reserved, join, printable
from job.core.file_systems import ByMount, Capabilities, NameRules
from job.core.outcome import failure_of, reason_text
from job.core.record import LinkName
from job.errors import ChangedWhileReadError
from job.fs.copier import Copier
from job.fs.dircursor import DirCursor, single
from job.fs.large_dir import Partitioner, name_exists, names_in, partition_count, stat_names, unpack_names
from job.fs.listing import Huge, Listing, NameNotHeldError, Shared, entries_of, file_at
from job.fs.metadata import MetadataWriter
from job.fs.mounts import NODEV, mount_restrictions
from job.fs.scanners import SourceScanner
from job.fs.xattrs import PartlyRead, Target, place_of, read_attribute
from job.store.hardlink_table import HardLinkTable


class Difference(NamedTuple):
    """One entry that differs between source and mirror."""

    path: bytes
    kind: Kind
    what: str
    """`missing`, `kind`, `content`, `target`, `device`, `mode`, `owner`, `times`, `attributes`, `links`, `unreadable`,
    or one of `HARMLESS`."""
    detail: str
    """In words; empty if there is nothing to add."""


HARMLESS = {"extra", "unsupported", "left_out", "unread"}
"""Differences that make no mirror wrong: `extra` is in the mirror only, `unsupported` cannot be stored by its file
system, `left_out` is out of scope otherwise than by a pattern, `unread` are unreadable attributes of the source."""


class VolumeTools(NamedTuple):
    """The tools for one file system of the mirror."""

    capabilities: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    policy: Policy
    name_rules: NameRules | None
    """None if it holds every name as it is."""


class CompareContext(NamedTuple):
    """The parts that a comparison of one pair needs."""

    pair: Pair
    source: SourceScanner
    source_root: int
    mirror_root: int
    by: ByMount[VolumeTools]
    table: HardLinkTable
    notice: Callable[[int, int], None] = lambda _entries, _bytes: None
    """Called with the numbers of entries compared and bytes read since the last call."""


def compare(view: CompareContext) -> Iterator[Difference]:
    """Compare one pair. Raises the errors of the copier's rate limiter, and `OSError` without temporary space."""
    with closing(DirCursor(view.source_root)) as sources, closing(DirCursor(view.mirror_root)) as mirrors:
        yield from _Comparison(view, sources, mirrors).run()


class _Comparison:
    def __init__(self, view: CompareContext, sources: DirCursor, mirrors: DirCursor) -> None:
        self._view = view
        self._sources = sources
        self._mirrors = mirrors
        self._tools = view.by.root
        """The tools for the file system that holds the mirror of the current folder."""
        self._keys: set[bytes] = set()
        """The source names of the current folder in the mirror's spelling, if that differs."""
        self._names: set[bytes] | None = None
        """Listed names of the current source folder; None if it is huge."""

    def run(self) -> Iterator[Difference]:
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            below: list[bytes] = []
            self._keys.clear()
            self._tools = self._view.by.at(path)
            try:
                self._restrict(path)
                for listing in self._listings(path):
                    for each in listing.left_out:
                        yield Difference(each.path, Kind.FOLDER, "left_out", each.words)
                    yield from self._listed(listing)
                    below += listing.folders
                yield from self._folder(path)
            except OSError as error:
                yield Difference(path, Kind.FOLDER, "unreadable", f"{failure_of(error)}: {reason_text(error)}")
                continue
            waiting.extend(join(path, name) for name in reversed(below))
        yield from self._links()

    def _restrict(self, path: bytes) -> None:
        """Read how the source's folder is mounted, if the expected metadata depends on it."""
        if self._view.pair.options_key:
            restrictions = mount_restrictions(self._sources.goto(path))
            self._tools.metadata_writer.restrict(restrictions)
            self._tools = self._tools._replace(policy=self._tools.policy._replace(nodev=NODEV in restrictions))

    def _listings(self, path: bytes) -> Iterator[Listing]:
        source, self._names = self._view.source, None
        with suppress(Huge):
            listing = source.list(path)
            self._names = {entry.name for entry in listing.entries} | {name for name, _ in listing.unreadable}
            yield listing
            return
        key = None if self._tools.name_rules is None else self._tools.name_rules.key
        sorter = Partitioner(partition_count(sum(map(len, source.names(path))), 0), key)
        for names in source.names(path):
            sorter.add(names)
        for part in sorter.partitions():
            yield source.part(path, unpack_names(part))

    def _listed(self, listing: Listing) -> Iterator[Difference]:
        path = listing.path
        if self._tools.name_rules is not None:
            self._keys.update(self._tools.name_rules.key(entry.name) for entry in listing.entries)
        for name, error in listing.unreadable:
            what = "missing" if isinstance(error, NameNotHeldError) else "unreadable"
            yield Difference(join(path, name), Kind.FILE, what, reason_text(error))
        try:
            source, mirror = self._sources.goto(path), self._mirrors.goto(path)
        except OSError as error:
            for entry in listing.entries:
                yield Difference(join(path, entry.name), entry.kind, "missing", reason_text(error))
            return
        shared: dict[bytes, Shared] = {}
        rows = stat_names(mirror, [entry.name for entry in listing.entries], [], shared)
        present = {entry.name: entry for entry in entries_of(rows)}
        for entry in listing.entries:
            there = present.get(entry.name)
            yield from self._entry(join(path, entry.name), entry, there, (source, mirror))
        if self._tools.capabilities.hard_links and (shared or listing.linked):
            names = (each for each in present if each in shared or each in listing.linked)
            self._view.table.add(_link_names(path, names, source, mirror))

    # One entry --------------------------------------------------------------------------------------------------------

    def _entry(self, path: bytes, entry: Entry, there: Entry | None, at: tuple[int, int]) -> Iterator[Difference]:
        kind = entry.kind
        self._view.notice(int(kind is not Kind.FOLDER), 0)
        if is_reserved(path):
            yield Difference(path, kind, "missing", "Truecopy keeps this name for itself")
        elif kind is Kind.SPECIAL and self._view.pair.specials == "skip":
            return
        elif why := why_unsupported(entry, self._tools.policy):
            yield Difference(path, kind, "unsupported", why)
        elif there is None:
            yield Difference(path, kind, "missing", "")
        elif there.kind is not kind:
            yield Difference(path, kind, "kind", f"the mirror has a {there.kind}")
        elif kind is not Kind.FOLDER:  # a folder is compared in its own turn
            yield from self._content(path, entry, there, at)

    def _content(self, path: bytes, entry: Entry, there: Entry, at: tuple[int, int]) -> Iterator[Difference]:
        source, mirror = at
        try:
            if entry.kind is Kind.FILE:
                found = self._tools.copier.compare(entry, source, there, mirror)
                if not found.same:
                    yield Difference(path, entry.kind, "content", f"the source's checksum is {found.checksum}")
            else:
                yield from self._meaning(path, entry, at)
            yield from self._by_name(path, entry, at)
        except (OSError, ChangedWhileReadError) as error:
            yield Difference(path, entry.kind, "unreadable", reason_text(error))

    @staticmethod
    def _meaning(path: bytes, entry: Entry, at: tuple[int, int]) -> Iterator[Difference]:
        if entry.kind is Kind.SYMLINK:
            ours, other = (os.readlink(single(entry.name), dir_fd=folder) for folder in at)
            if ours != other:
                yield Difference(path, entry.kind, "target", f"{printable(other)} instead of {printable(ours)}")
            return
        seen = [os.stat(single(entry.name), dir_fd=folder, follow_symlinks=False) for folder in at]
        if len({(stat.S_IFMT(each.st_mode), each.st_rdev) for each in seen}) > 1:
            yield Difference(path, entry.kind, "device", "")

    # Metadata ---------------------------------------------------------------------------------------------------------

    def _by_name(self, path: bytes, entry: Entry, at: tuple[int, int]) -> Iterator[Difference]:
        ours, other = (os.stat(single(entry.name), dir_fd=folder, follow_symlinks=False) for folder in at)
        source, mirror = (place_of(entry.name, folder) for folder in at)
        yield from self._metadata(path, entry.kind, ours, other, partial(self._acl, source))
        if self._tools.capabilities.keeps_attributes:
            yield from self._attributes(path, entry.kind, source, mirror)

    def _metadata(
        self,
        path: bytes,
        kind: Kind,
        ours: os.stat_result,
        other: os.stat_result,
        acl: Callable[[], dict[bytes, bytes]],
    ) -> Iterator[Difference]:
        """Compare modes, owners and times; `acl` reads the source's ACL, which is needed where modes differ."""
        capabilities, metadata_writer = self._tools.capabilities, self._tools.metadata_writer
        wanted, found = metadata_writer.mode_of(ours.st_mode), stat.S_IMODE(other.st_mode)
        if capabilities.modes and kind is not Kind.SYMLINK and wanted != found:
            wanted = metadata_writer.mode_for(ours, other, acl(), acls=capabilities.acls)
        if capabilities.modes and kind is not Kind.SYMLINK and wanted != found:
            yield Difference(path, kind, "mode", f"{found:o} instead of {wanted:o}")
        if kind is Kind.SYMLINK and not capabilities.symlink_metadata:
            return
        if capabilities.owners and (ours.st_uid, ours.st_gid) != (other.st_uid, other.st_gid):
            detail = f"{other.st_uid}:{other.st_gid} instead of {ours.st_uid}:{ours.st_gid}"
            yield Difference(path, kind, "owner", detail)
        if abs(ours.st_mtime_ns - other.st_mtime_ns) >= capabilities.mtime_grain_ns:
            yield Difference(path, kind, "times", f"{other.st_mtime_ns} ns instead of {ours.st_mtime_ns}")

    def _folder(self, path: bytes) -> Iterator[Difference]:
        try:
            mirror = self._mirrors.goto(path)
        except OSError:
            return  # reported already
        source = self._sources.goto(path)
        yield from self._metadata(path, Kind.FOLDER, os.fstat(source), os.fstat(mirror), partial(self._acl, source))
        if self._tools.capabilities.keeps_attributes:
            yield from self._attributes(path, Kind.FOLDER, source, mirror)
        yield from self._extras(path, source, mirror)

    @staticmethod
    def _acl(source: Target) -> dict[bytes, bytes]:
        with suppress(OSError):
            return {ACCESS_ACL: read_attribute(source, ACCESS_ACL)}
        return {}

    def _attributes(self, path: bytes, kind: Kind, source: Target, mirror: Target) -> Iterator[Difference]:
        metadata_writer = self._tools.metadata_writer
        ours, other = metadata_writer.of_source(source), metadata_writer.attributes_of(mirror)
        for found in metadata_writer.take_refusals():
            if found.what.startswith("source_xattr"):
                yield Difference(path, kind, "unread", f"{found.error}; more of them are not named")
            elif found.what in {"nodev", "nosuid"}:
                yield Difference(path, kind, "unsupported", f"{found.error}; more of them are not named")
        if ours != other and not (isinstance(ours, PartlyRead) and ours.items() <= other.items()):
            yield Difference(path, kind, "attributes", "")

    # The rest ---------------------------------------------------------------------------------------------------------

    def _extras(self, path: bytes, source: int, mirror: int) -> Iterator[Difference]:
        hidden: list[bytes] = []
        rules = self._tools.name_rules
        for names in names_in(mirror):
            for name in sorted(names):
                ours = name.startswith(TEMP_PREFIX) or (not path and name in {STATE_FOLDER, LOST_FOUND})
                if ours or (rules is not None and rules.key(name) in self._keys):
                    continue
                if name_exists(source, name):
                    if self._names is not None and name not in self._names:
                        hidden.append(name)
                    continue
                with suppress(OSError):
                    [row] = entries_of(stat_names(mirror, [name], []))
                    yield Difference(join(path, name), row.kind, "extra", "it is not in the source")
        for entry in self._view.source.part(path, hidden).entries if hidden else ():
            why = "the source's listing does not show it, though it can be examined"
            yield Difference(join(path, entry.name), entry.kind, "unreadable", why)

    def _links(self) -> Iterator[Difference]:
        table = self._view.table
        for file in table.files():
            held = {join(each.path, each.name): each.mirror for each in table.of_file(file) if each.mirror is not None}
            # A hard link cannot cross file systems of a mirror.
            of_device = Counter(mirror.device for mirror in set(held.values()))
            for path, mirror in held.items():
                if of_device[mirror.device] > 1:
                    yield Difference(path, Kind.FILE, "links", "it has other names, which the mirror has apart")
                elif table.owner_of(mirror) != file:
                    yield Difference(path, Kind.FILE, "links", "the mirror has it linked to another file's names")


def _link_names(path: bytes, names: Iterable[bytes], source: int, mirror: int) -> Iterator[LinkName]:
    """Yield names in a folder with their files on both sides."""
    for name in names:
        with suppress(OSError):  # its error is reported already
            file, held = file_at(name, source), file_at(name, mirror)
            if file is not None:
                yield LinkName(file, path, 0, name, 0, held, None)
