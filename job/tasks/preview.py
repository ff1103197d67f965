"""Preview: what the next cycle would do, each line with its reason. Changes nothing, locks nothing, hashes nothing."""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from job.core.capabilities import Capabilities
from job.core.config.effective import Pair
from job.core.entry import Entry, FileId, Kind, join
from job.core.outcome import failure_of
from job.core.plan import Action, decide
from job.core.rows import decoded
from job.files.crowd import rows_named
from job.files.listing import Huge, Listing, entries_of
from job.files.trail import Trail
from job.tasks import gate
from job.tasks.bench import Memory, Source, Watch, means_of
from job.tasks.look import Changed, Looked, care_for
from job.tasks.parts import Sorter, names_of, parts_for
from job.tasks.survey import survey

_SILENT = {Action.KEEP, Action.SKIP_SPECIAL}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a dry run of one pair needs."""

    pair: Pair
    source: Source
    watch: Watch
    mirror_root: int
    memory: Memory
    mirror: Capabilities
    """What the mirror can hold, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of the plan."""

    pair: str
    action: str
    """A `core.plan.Action` that does something; `link` for another name of a copied file, `fail` for what cannot
    be read, `leave_out` for another file system.
    """
    path: bytes
    kind: Kind
    bytes: int
    """Size of the content that would be read."""
    reason: str


def preview(view: Preview, now: float, notice: Callable[[Looked], None]) -> Iterator[Planned]:
    """Plan one pair at the moment `now`. Raises `Refused` where the gate would, and what `notice` raises."""
    pair = view.pair
    gate.check_source(view.source, view.memory.entries_known(), pair, view.mirror_root)
    care, awake = care_for(pair, view.memory.audited, now)
    found = survey(view, pair, notice, care)
    if found.changed and care is not awake:
        found = survey(view, pair, notice, awake)
    for path, error in found.unlisted:
        yield Planned(pair.name, "fail", path, Kind.FOLDER, 0, f"{failure_of(error)}: {error.strerror}")
    for path in sorted(found.mounts):
        why = "another file system is mounted there, and cross_mounts is off"
        yield Planned(pair.name, "leave_out", path, Kind.FOLDER, 0, why)
    with closing(Trail(view.mirror_root)) as trail:
        met: set[FileId] = set()
        for change in found.changes():
            yield from _folder(view, change, trail, met)


def _folder(view: Preview, change: Changed, trail: Trail, met: set[FileId]) -> Iterator[Planned]:
    path, name = change.path, view.pair.name
    means = means_of(view.pair, view.mirror)
    try:
        for listing, rows in _listings(view, path, huge=change.huge):
            for unknown, trouble in listing.unreadable:
                why = f"{failure_of(trouble)}: {trouble.strerror}"
                yield Planned(name, "fail", join(path, unknown), Kind.FILE, 0, why)
            present, records = _mirror_entries(trail, listing), decoded(rows, view.pair.policy)
            linked = listing.linked if means.hard_links else {}
            for entry in listing.entries:
                where = join(path, entry.name)
                step = decide(where, entry, present.get(entry.name), records.get(entry.name), means)
                if step.action is Action.COPY and entry.name in linked:
                    file = FileId(linked[entry.name].device, entry.inode)
                    if file in met:
                        yield Planned(name, "link", where, entry.kind, 0, "another name of a file that is copied")
                        continue
                    met.add(file)
                if step.action not in _SILENT:
                    yield Planned(name, str(step.action), where, entry.kind, entry.size, step.reason)
    except OSError as error:
        yield Planned(name, "fail", path, Kind.FOLDER, 0, f"{failure_of(error)}: {error.strerror}")


def _listings(view: Preview, path: bytes, *, huge: bool) -> Iterator[tuple[Listing, str]]:
    """List a folder, a huge one in parts; each time with what the index knows of it."""
    source, memory = view.source, view.memory
    known = memory.summary(path)
    rows = known.parts if known else 0
    if not huge and rows <= 1:
        with suppress(Huge):
            yield source.list(path), memory.rows(path)
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
