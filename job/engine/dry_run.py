"""Preview: what the next cycle would do, each line with its reason. Changes nothing, locks nothing, hashes nothing."""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from job.config.settings import Pair
from job.core.capabilities import Capabilities
from job.core.decide import Action, Step, decide
from job.core.entry import Entry, FileId, Kind, join
from job.core.mounts import ByMount
from job.core.outcome import Failure, failure_of, reason_text
from job.engine.context import Memory, Source, Watch, means_of
from job.engine.dispatch.parallel_scan import survey
from job.engine.preflight import presence
from job.engine.relisting import list_again
from job.engine.scan import Changed, Looked, care_for
from job.fs.access import may_read, may_write_in
from job.fs.dircursor import Trail
from job.fs.large_dir import rows_named
from job.fs.listing import (
    Huge,
    Listing,
    MirrorUnmountedError,
    MountMissingError,
    NameNotHeldError,
    entries_of,
)
from job.fs.mount_flags import NODEV, restrictions_of
from job.fs.partition import Sorter, names_of, parts_for
from job.store.codec import decoded

if TYPE_CHECKING:
    from job.engine.forecast import Forecast

_SILENT = {Action.KEEP, Action.SKIP_SPECIAL}
_READS = {Action.COPY, Action.COMPARE_SOURCE, Action.COMPARE_BOTH}
_WRITES = {*_READS, Action.MAKE_FOLDER}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a dry run of one pair needs."""

    pair: Pair
    source: Source
    source_root: int
    watch: Watch
    mirror_root: int
    memory: Memory
    mirror: ByMount[Capabilities]
    """What the file systems of the mirror can hold, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of the plan."""

    pair: str
    action: str
    """A `core.plan.Action` that does something; `set_aside` for what is moved to the versions, `link` for another name
    of a copied file, `fail` for what cannot be read or written, `leave_out` for what is out of scope for another reason
    than a pattern.
    """
    path: bytes
    kind: Kind
    bytes: int
    """Size of the content that would be read."""
    reason: str


def preview(view: Preview, now: float, notice: Callable[[Looked], None]) -> Iterator[Planned]:
    """Plan one pair at the moment `now`. Raises `Refused` where the gate would, and what `notice` raises."""
    pair = view.pair
    seen = presence.check_source(view.source, view.memory.entries_known(), pair, view.mirror_root)
    care, awake = care_for(pair, view.memory.audited, now)
    found = survey(view, pair, notice, care)
    if found.changed and care is not awake:
        found = survey(view, pair, notice, awake)
    if not found.unlisted:
        presence.check_still_there(seen, found.entries, found.folders, pair)
    for path, error in found.unlisted:
        yield Planned(pair.name, "fail", path, Kind.FOLDER, 0, _unreadable(error, "the folder"))
    for each in sorted(found.left_out):
        yield Planned(pair.name, "leave_out", each.path, Kind.FOLDER, 0, each.words)
    from job.engine.forecast import Forecast  # noqa: PLC0415  # only a dry run needs it, and each start would pay for it

    roots, out = (view.source_root, view.mirror_root), {each.path for each in found.left_out}
    with (
        closing(Trail(view.source_root)) as sources,
        closing(Trail(view.mirror_root)) as mirrors,
        closing(Forecast(view.source, roots, pair, view.mirror)) as forecast,
    ):
        met: set[FileId] = set()
        for change in found.changes():
            for path, kind, reason in forecast.replaced(change):
                yield Planned(pair.name, "set_aside", path, kind, 0, reason)
            yield from _folder(view, change, (sources, mirrors), (met, forecast))
            if change.path not in out:
                yield from _opened(pair.name, change.path, forecast)


def _opened(pair: str, path: bytes, forecast: "Forecast") -> Iterator[Planned]:
    try:
        for each, kind, reason in forecast.left_over(path):
            yield Planned(pair, "set_aside", each, kind, 0, reason)
    except OSError as error:
        from job.engine.copy.widening import why_closed  # noqa: PLC0415  # only a dry run needs it, where a folder is opened

        yield Planned(pair, "fail", path, Kind.FOLDER, 0, f"{failure_of(error)}: {why_closed(error)}")


def _folder(
    view: Preview, change: Changed, trails: tuple[Trail, Trail], known: tuple[set[FileId], "Forecast"]
) -> Iterator[Planned]:
    path, name, (met, forecast) = change.path, view.pair.name, known
    able = view.mirror.at(path)
    means = means_of(view.pair, able)
    try:
        if view.pair.policy:
            means = means._replace(nodev=NODEV in restrictions_of(trails[0].goto(path)))
        for listing, rows in _listings(view, change):
            for unknown, trouble in listing.unreadable:
                yield Planned(name, "fail", join(path, unknown), Kind.FILE, 0, _unreadable(trouble, "it"))
            rights = _Rights(listing.path, *trails)
            present, records = _mirror_entries(trails[1], listing), decoded(rows, view.pair.policy + able.policy)
            if forecast.is_made_anew(path):
                present, records = {}, {}
            linked = listing.linked if means.hard_links else {}
            for entry in listing.entries:
                where = join(path, entry.name)
                step = decide(where, entry, present.get(entry.name), records.get(entry.name), means)
                if step.action not in _SILENT:
                    shared = linked.get(entry.name)
                    file = FileId(shared.device, entry.inode) if shared else None
                    yield _planned(name, where, step, rights.lacking(step), file, met)
    except OSError as error:
        yield Planned(name, "fail", path, Kind.FOLDER, 0, _unreadable(error, "the folder"))


def _planned(pair: str, where: bytes, step: Step, why_not: str, file: FileId | None, met: set[FileId]) -> Planned:
    """Give the line of one step. `file` is set if it has several names; `met` holds those that have a line already."""
    entry = step.entry
    if why_not:
        return Planned(pair, "fail", where, entry.kind, 0, why_not)
    if step.action is Action.COPY and file is not None:
        if file in met:
            return Planned(pair, "link", where, entry.kind, 0, "another name of a file that is copied")
        met.add(file)
    return Planned(pair, str(step.action), where, entry.kind, entry.size, step.reason)


def _unreadable(error: OSError, what: str) -> str:
    own = isinstance(error, (NameNotHeldError, MirrorUnmountedError, MountMissingError))
    told = error.strerror if own else f"{what} cannot be read: {reason_text(error)}"
    return f"{failure_of(error)}: {told}"


class _Rights:
    """What this user may do with the entries of one folder, asked of the kernel; nothing is opened for it."""

    def __init__(self, path: bytes, sources: Trail, mirrors: Trail) -> None:
        self._source = sources.goto(path)
        try:
            self._may_write = may_write_in(mirrors.goto(path))
        except OSError:
            self._may_write = True  # it is made by the cycle, or the cycle tells what is in its place

    def lacking(self, step: Step) -> str:
        """Tell why a step would fail; empty if nothing is known against it."""
        if step.action in _WRITES and not self._may_write:
            return f"{Failure.PERMISSION}: the mirror folder cannot be written"
        if step.action in _READS and step.entry.kind is Kind.FILE and not may_read(step.entry.name, self._source):
            return f"{Failure.PERMISSION}: the file cannot be read"
        return ""


def _listings(view: Preview, change: Changed) -> Iterator[tuple[Listing, str]]:
    """List a folder, a huge one in parts; each time with what the index knows of it."""
    source, memory, path = view.source, view.memory, change.path
    known = memory.summary(path)
    rows = known.parts if known else 0
    if not change.huge and rows <= 1:
        with suppress(Huge):
            text = memory.rows(path)
            yield list_again(source, path, decoded(text), change.if_empty), text
            return
    sorter = Sorter(parts_for(sum(map(len, source.names(path))), rows))
    for names in source.names(path):
        sorter.add(names)
    for number, part in enumerate(sorter.parts()):
        yield source.part(path, names_of(part)), memory.rows(path, number % rows if rows else number)


def _mirror_entries(trail: Trail, listing: Listing) -> dict[bytes, Entry]:
    try:
        rows = rows_named(trail.goto(listing.path), [entry.name for entry in listing.entries], [])
    except OSError:
        return {}  # the folder is not there yet, or stands for something else: everything in it is new
    return {entry.name: entry for entry in entries_of(rows)}
