"""Dry run: list the actions of the next cycle with their reasons. Nothing is changed, locked or hashed."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import NamedTuple

from job.config.settings import Pair
from job.core.acl import ACCESS_ACL
from job.core.adoption import FolderMatch, why_not_adopted, why_widened
from job.core.decide import Action, Decision, decide
from job.core.entry import Entry, FileId, Kind, join
from job.core.file_systems import ByMount, Capabilities, KnownMounts
from job.core.outcome import Failure, failure_of, reason_text
from job.engine.brake.holder import Holder
from job.engine.brake.judge import View, judge
from job.engine.brake.stored import StoredHold
from job.engine.copy.adoption import standing_of
from job.engine.copy.cleanup import Surplus
from job.engine.copy.permissions import Opening, why_closed, why_left_over
from job.engine.dispatch.parallel_scan import scan_tree
from job.engine.messages import ItemHold
from job.engine.preflight import presence
from job.engine.scan import ChangedFolder, ScanResult, list_again, scan_depths, with_ancestors
from job.engine.versions.absence import Absence
from job.engine.versions.due_orphans import DueOrphans, confirmed, due_orphans
from job.engine.volumes import policy_of
from job.events.text import approximate_duration
from job.fs.dircursor import DirCursor
from job.fs.large_dir import Partitioner, names_in, partition_count, stat_names, unpack_names
from job.fs.listing import Huge, Listing, MirrorUnmountedError, MountMissingError, NameNotHeldError, entries_of
from job.fs.mounts import NODEV, mount_restrictions
from job.fs.rights import may_read, may_write_folder
from job.fs.scanners import MirrorScanner, SourceScanner
from job.fs.xattrs import read_attributes
from job.store.codec import decode_records
from job.store.index import Index

_SILENT = {Action.KEEP, Action.SKIP_SPECIAL}
_READS = {Action.COPY, Action.COMPARE_SOURCE, Action.COMPARE_BOTH}
_REPLACING = {Action.COPY, Action.MAKE_FOLDER}
_WRITES = {*_READS, Action.MAKE_FOLDER}


@dataclass(frozen=True, slots=True)
class Preview:
    """The parts that a dry run of one pair needs."""

    pair: Pair
    source: SourceScanner
    source_root: int
    mirror_scanner: MirrorScanner
    mirror_root: int
    index: Index
    mirror: ByMount[Capabilities]
    """The capabilities of the mirror's file systems, as far as they are known."""
    known_mounts: KnownMounts
    """The mounts of the source in the last cycle."""
    hold: StoredHold
    """What the brake holds since an earlier cycle."""


class Planned(NamedTuple):
    """One line of the plan."""

    pair: str
    action: str
    """A `core.decide.Action` other than keeping; `hold` (not done, as the brake has tripped), `set_aside` (moved to the
    versions), `retire` (moved there, as it left the source), `link` (another name of a copied file), `fail` (cannot be
    read or written), `leave_out` (out of scope otherwise than by a pattern)."""
    path: bytes
    kind: Kind
    bytes: int
    """Size of the content that would be read."""
    reason: str


def preview(view: Preview, now: float, report_progress: Callable[[ScanResult], None]) -> Iterator[Planned]:
    """Plan one pair at the time `now`. Raises `Refused` as the preflight would, and the errors of `report_progress`."""
    pair = view.pair
    seen = presence.check_source(view.source, view.index.entry_count(), pair, view.mirror_root)
    depth, rescan_depth = scan_depths(pair, view.index.audited, now)
    found = scan_tree(view, pair, report_progress, depth)
    if found.changed and depth is not rescan_depth:
        found = scan_tree(view, pair, report_progress, rescan_depth)
    if not found.unlisted:
        presence.check_still_there(seen, found.entries, found.folders, pair)
    absence = Absence(view.source, view.source_root, view.known_mounts, view.mirror.at)
    by_index = () if found.unlisted else due_orphans(view.index, pair, view.known_mounts.former, now)
    due = confirmed(by_index, absence)
    holder = _holder(view, found, due)
    for path, error in found.unlisted:
        yield Planned(pair.name, "fail", path, Kind.FOLDER, 0, _unreadable(error, "the folder"))
    for each in sorted(found.left_out):
        yield Planned(pair.name, "leave_out", each.path, Kind.FOLDER, 0, each.words)
    roots, out = (view.source_root, view.mirror_root), {each.path for each in found.left_out}
    with (
        closing(DirCursor(view.source_root)) as sources,
        closing(DirCursor(view.mirror_root)) as mirrors,
        closing(SetAsideForecast(view.source, roots, pair, view.mirror)) as forecast,
    ):
        planned_files: set[FileId] = set()
        for change in found.changes():
            for path, kind, reason in forecast.replaced(change):
                yield Planned(pair.name, "hold" if holder.is_on else "set_aside", path, kind, 0, reason)
            yield from _plan_folder(view, change, (sources, mirrors), (planned_files, forecast, holder))
            if change.path not in out and not holder.is_on:
                yield from _plan_widening(pair.name, change.path, forecast)
    yield from _plan_retiring(view, due, now, "hold" if holder.is_on else "retire")


def _plan_retiring(view: Preview, due: list[DueOrphans], now: float, action: str) -> Iterator[Planned]:
    """Yield what the end of the cycle would retire, if nothing fails and the clock is not in doubt."""
    with closing(DirCursor(view.mirror_root)) as mirrors:
        for folder, rows in due:
            try:
                there = entries_of(stat_names(mirrors.goto(folder), sorted(rows), []))
            except OSError:
                continue  # it is gone from the mirror, too
            for entry in there:
                missing_seconds = max(0.0, now - rows[entry.name].since_ns / 1e9)
                reason = f"it left the source {approximate_duration(missing_seconds)} ago"
                yield Planned(view.pair.name, action, join(folder, entry.name), entry.kind, 0, reason)


def _holder(view: Preview, found: ScanResult, due: list[DueOrphans]) -> Holder:
    """Return what the brake would hold. The next cycle may also read files of which only the ctime moved."""
    holder = Holder(view.pair)
    judgement = judge(View(view, view.pair, view.mirror, due), found, view.index.entry_count(), view.hold)
    if judgement.reason is not None:
        places = [(each.path, part) for each in found.changes() for part in range(_parts(view, each.path))]
        holder.begin(ItemHold(True, {}, {place: view.hold.approved(*place) for place in places}))
    return holder


def _parts(view: Preview, path: bytes) -> int:
    known = view.index.summary(path) if view.hold.rows else None
    return known.parts if known else 1


def _plan_widening(pair: str, path: bytes, forecast: "SetAsideForecast") -> Iterator[Planned]:
    try:
        for each, kind, reason in forecast.surplus(path):
            yield Planned(pair, "set_aside", each, kind, 0, reason)
    except OSError as error:
        yield Planned(pair, "fail", path, Kind.FOLDER, 0, f"{failure_of(error)}: {why_closed(error)}")


def _plan_folder(
    view: Preview,
    change: ChangedFolder,
    cursors: tuple[DirCursor, DirCursor],
    known: tuple[set[FileId], "SetAsideForecast", Holder],
) -> Iterator[Planned]:
    path, name, (planned_files, forecast, holder) = change.path, view.pair.name, known
    capabilities = view.mirror.at(path)
    policy = policy_of(view.pair, capabilities)
    try:
        if view.pair.options_key:
            policy = policy._replace(nodev=NODEV in mount_restrictions(cursors[0].goto(path)))
        for part, (listing, rows) in enumerate(_listings(view, change)):
            for unknown, trouble in listing.unreadable:
                yield Planned(name, "fail", join(path, unknown), Kind.FILE, 0, _unreadable(trouble, "it"))
            rights = _Rights(listing.path, *cursors)
            present = _mirror_entries(cursors[1], listing)
            records = decode_records(rows, view.pair.options_key + capabilities.options_key)
            if forecast.is_replaced(path):
                present, records = {}, {}
            linked = listing.linked if policy.hard_links else {}
            for entry in listing.entries:
                where = join(path, entry.name)
                step = decide(where, entry, present.get(entry.name), records.get(entry.name), policy)
                if step.action not in _SILENT:
                    shared = linked.get(entry.name)
                    file = FileId(shared.device, entry.inode) if shared else None
                    replaces = step.action in _REPLACING and entry.name in present
                    is_held = replaces and holder.holds(path, part, entry)
                    held = Planned(name, "hold", where, entry.kind, 0, step.reason)
                    line = (
                        held
                        if is_held
                        else _planned(name, where, step, rights.missing_right(step), file, planned_files)
                    )
                    yield line
    except OSError as error:
        yield Planned(name, "fail", path, Kind.FOLDER, 0, _unreadable(error, "the folder"))


def _planned(
    pair: str, where: bytes, step: Decision, obstacle: str, file: FileId | None, planned_files: set[FileId]
) -> Planned:
    """Return the line of one step. `file` is set if it has several names; `planned_files` holds those with a line."""
    entry = step.entry
    if obstacle:
        return Planned(pair, "fail", where, entry.kind, 0, obstacle)
    if step.action is Action.COPY and file is not None:
        if file in planned_files:
            return Planned(pair, "link", where, entry.kind, 0, "another name of a file that is copied")
        planned_files.add(file)
    return Planned(pair, str(step.action), where, entry.kind, entry.size, step.reason)


def _unreadable(error: OSError, what: str) -> str:
    own = isinstance(error, (NameNotHeldError, MirrorUnmountedError, MountMissingError))
    reason = error.strerror if own else f"{what} cannot be read: {reason_text(error)}"
    return f"{failure_of(error)}: {reason}"


class _Rights:
    """The rights of this user in one folder, as the kernel states them; nothing is opened."""

    def __init__(self, path: bytes, sources: DirCursor, mirrors: DirCursor) -> None:
        self._source = sources.goto(path)
        try:
            self._may_write = may_write_folder(mirrors.goto(path))
        except OSError:
            self._may_write = True  # the cycle creates it, or reports the entry that holds its name

    def missing_right(self, step: Decision) -> str:
        """Say why a step would fail; empty if no reason is known."""
        if step.action in _WRITES and not self._may_write:
            return f"{Failure.PERMISSION}: the mirror folder cannot be written"
        if step.action in _READS and step.entry.kind is Kind.FILE and not may_read(step.entry.name, self._source):
            return f"{Failure.PERMISSION}: the file cannot be read"
        return ""


def _listings(view: Preview, change: ChangedFolder) -> Iterator[tuple[Listing, str]]:
    """List a folder, or the parts of a huge one, each with its records in the index."""
    source, index, path = view.source, view.index, change.path
    known = index.summary(path)
    rows = known.parts if known else 0
    if not change.huge and rows <= 1:
        with suppress(Huge):
            text = index.rows(path)
            yield list_again(source, path, decode_records(text), change.empty_fingerprint), text
            return
    sorter = Partitioner(partition_count(sum(map(len, source.names(path))), rows))
    for names in source.names(path):
        sorter.add(names)
    for number, part in enumerate(sorter.partitions()):
        yield source.part(path, unpack_names(part)), index.rows(path, number % rows if rows else number)


def _mirror_entries(cursor: DirCursor, listing: Listing) -> dict[bytes, Entry]:
    try:
        rows = stat_names(cursor.goto(listing.path), [entry.name for entry in listing.entries], [])
    except OSError:
        return {}  # the folder is missing or of another kind: all its entries are new
    return {entry.name: entry for entry in entries_of(rows)}


Aside = tuple[bytes, Kind, str]
"""Path, kind and reason."""


class SetAsideForecast:
    """Predicts the entries that are set aside, folder by folder, parents first. Use it with `contextlib.closing`."""

    def __init__(
        self, source: SourceScanner, roots: tuple[int, int], pair: Pair, mirror: ByMount[Capabilities]
    ) -> None:
        """`roots` are the open roots of source and mirror."""
        self._sources, self._mirrors = map(DirCursor, roots)
        self._mirror = mirror
        self._surplus = Surplus(source, roots, pair, mirror.at)
        self._replaced: set[bytes] = set()
        self._plan_widening: set[bytes] = set()

    def close(self) -> None:
        """Close the cursors; the roots stay open."""
        for each in (self._sources, self._mirrors, self._surplus):
            each.close()

    def is_replaced(self, path: bytes) -> bool:
        """Return whether a mirror folder, or one above it, will be replaced by a new one."""
        return _is_in(path, self._replaced)

    def replaced(self, change: ChangedFolder) -> Iterator[Aside]:
        """Yield the mirror's folder if it will be replaced."""
        path = change.path
        if not change.left or self.is_replaced(path):
            return
        with suppress(OSError):  # the line of the folder reports it
            source, mirror = (os.fstat(cursor.goto(path)) for cursor in (self._sources, self._mirrors))
            why = why_not_adopted(FolderMatch(change.left), mirror, source, standing_of(self._mirror.at(path)))
            if why:
                self._replaced.add(path)
                if self._holds_anything(path):
                    yield path, Kind.FOLDER, why

    def surplus(self, path: bytes) -> Iterator[Aside]:
        """Yield the entries that are set aside before a mirror folder admits more users. Raises `OSError`."""
        if self.is_replaced(path) or _is_in(path, self._plan_widening):
            return
        why = self._why_open(path)
        if not why or not self._holds_anything(path):
            return
        self._plan_widening.add(path)
        for at, _, entries, left in self._surplus.below(path):
            for name, kind in entries:
                yield join(at, name), kind, why_left_over(left, path, why)

    def _why_open(self, path: bytes) -> str:
        try:
            source, mirror = self._sources.goto(path), self._mirrors.goto(path)
            capabilities = self._mirror.at(path)
            ours, other = (read_attributes(each, security=False).get(ACCESS_ACL) for each in (mirror, source))
            standing, differs = standing_of(capabilities), capabilities.acls and ours != other
            return why_widened(os.fstat(mirror), os.fstat(source), standing, acl_differs=differs)
        except OSError:
            return ""  # it does not exist yet, or its line reports the error

    def _holds_anything(self, path: bytes) -> bool:
        names = (name for some in names_in(self._mirrors.goto(path)) for name in some)
        return Opening.holds_anything(path, names)


def _is_in(path: bytes, folders: set[bytes]) -> bool:
    return bool(folders) and not folders.isdisjoint(with_ancestors(path))
