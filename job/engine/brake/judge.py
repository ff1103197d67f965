"""Judge between scan and sync whether a cycle would replace too much (`core/brake.py`). Nothing is changed.

The changed folders of a scan are compared with their rows in the index: what the source had when it was copied. So
drift of the mirror, which is repaired, does not count, nor does a first copy; a mass chmod leaves all contents.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from job.config.settings import BrakeSettings, Pair
from job.core.brake import (
    BrakeLimits,
    ContentChange,
    DestructiveCounts,
    change_digest,
    content_change,
    needs_sample,
    why_held,
)
from job.core.entry import Entry, Kind, join
from job.core.file_systems import ByMount, Capabilities, NameRules
from job.core.outcome import BrakeReason
from job.core.record import Record
from job.core.stored_values import UNUSABLE
from job.engine.brake.holder import Exempt
from job.engine.scan import ChangedFolder, ScanContext, ScanResult
from job.engine.versions.due_orphans import DueOrphans
from job.fs.listing import Huge, unpack_rows
from job.store.codec import changed_sources, decode_records

if TYPE_CHECKING:
    from job.engine.brake.stored import StoredHold

_MOST_SAMPLED = 100
_NONE: frozenset[bytes] = frozenset()

HashOf = Callable[[bytes, Entry, str], str]
"""Returns the checksum of a source file, by the path of its folder, its entry, and the algorithm. Raises `OSError`."""


class View:
    """What a judgement looks at."""

    def __init__(
        self,
        context: ScanContext,
        pair: Pair,
        mirror: ByMount[Capabilities],
        due: Sequence[DueOrphans],
        hash_of: HashOf | None = None,
    ) -> None:
        """`due` is what the cycle would retire; `hash_of` is None in a dry run, which reads no contents."""
        self.context, self.pair, self.mirror, self.due, self.hash_of = context, pair, mirror, due, hash_of


class BrakeVerdict(NamedTuple):
    """Whether a cycle is held, and why."""

    reason: BrakeReason | None
    exempt: int = 0
    canaries: tuple[bytes, ...] = ()
    """Paths of canaries that were changed or are missing."""
    gone: Mapping[bytes, frozenset[bytes]] = MappingProxyType({})
    """Digests by key of the folder, of missing canaries, and of what would be retired."""
    retired: tuple[bytes, ...] = ()
    """Paths of some entries that would be retired."""
    more_files: int = 0
    """Files in folders that would be retired, besides these."""


class _Counted:
    def __init__(self) -> None:
        self.replaced = self.emptied = self.exempt = self.doubtful = 0
        self.sample: list[tuple[bytes, int, bytes]] = []
        """Folder, part and name of some doubtful files, evenly spread."""
        self._step = 1

    def doubt(self, path: bytes, part: int, name: bytes) -> None:
        """Count a file of which only the content can tell."""
        if self.doubtful % self._step == 0:
            self.sample.append((path, part, name))
            if len(self.sample) >= 2 * _MOST_SAMPLED:
                self.sample, self._step = self.sample[::2], 2 * self._step
        self.doubtful += 1


def limits_of(brake: BrakeSettings) -> BrakeLimits:
    """Return the limits of a pair."""
    return BrakeLimits(brake.share, brake.files)


def judge(view: View, found: ScanResult, known_files: int, before: "StoredHold | None") -> BrakeVerdict:
    """Judge what a scan found. What was held before stays held, and is not counted again. Raises `OSError`."""
    brake = view.pair.brake
    is_held = before is not None and before.is_held
    if brake is None or not (known_files or is_held):
        return BrakeVerdict(None)
    with view.context.index.read_transaction():
        canaries, gone = _canaries(view, brake, before)
        retired, files = _retired(view, before, gone)
        counted = _Counted()
        if not is_held and found.may_trip(brake.files, brake.share, known_files, files):
            counted = _count(view, found, before)
        replaced = counted.replaced
        if needs_sample(replaced + files, counted.doubtful, known_files, limits_of(brake)):
            replaced += _sampled(view, counted)
    counts = DestructiveCounts(replaced, files, counted.emptied, canaries)
    reason = before.reason if before and is_held else why_held(counts, known_files, limits_of(brake))
    return BrakeVerdict(reason, counted.exempt, canaries, gone, retired, files - len(retired))


def _retired(
    view: View, before: "StoredHold | None", gone: dict[bytes, frozenset[bytes]]
) -> tuple[tuple[bytes, ...], int]:
    """Add the digests of what would be retired; return the paths, and the number of files in all of them."""
    exempt, paths, files = Exempt(view.pair), list[bytes](), 0
    for folder, rows in view.due:
        from job.store.held_table import held_key  # noqa: PLC0415  # retiring is off by default

        approved = before.approved(folder, 0) if before else _NONE
        for name, row in rows.items():
            entry = Entry(name, row.inode, row.mode, 0, 0, row.size, row.mtime_ns, 0)
            digest = change_digest(b"/" + name, entry)  # no file is replaced by that name
            if digest not in approved and not exempt(folder, entry):
                key = held_key(folder, 0)
                gone[key] = gone.get(key, _NONE) | {digest}
                paths.append(join(folder, name))
                files += row.files
    return tuple(paths), files


def _count(view: View, found: ScanResult, before: "StoredHold | None") -> _Counted:
    counted, exempt = _Counted(), Exempt(view.pair)
    for change in found.changes():
        path = change.path
        with suppress(*UNUSABLE):  # rows that were tampered with: their entries are compared again
            for part, recorded, present in _compared(view, found, change):
                approved = before.approved(path, part) if before else _NONE
                for entry in recorded:
                    now = present.get(entry[0])
                    if now is None or (approved and change_digest(entry[0], now) in approved):
                        continue  # it left the source, and stays in the mirror
                    what = content_change(entry, now)
                    if what is ContentChange.NONE:
                        continue
                    if exempt.is_any and exempt(path, now):
                        counted.exempt += 1
                    elif what is ContentChange.DOUBTFUL:
                        counted.doubt(path, part, entry[0])
                    else:
                        counted.replaced += 1
                        counted.emptied += what is ContentChange.EMPTIED
    return counted


def _compared(
    view: View, found: ScanResult, change: ChangedFolder
) -> Iterator[tuple[int, Sequence[Entry], Mapping[bytes, Entry]]]:
    """Yield the recorded entries of a folder that differ now, and present ones by name, part by part."""
    path, index, source = change.path, view.context.index, view.context.source
    if change.same_source:
        return
    known = index.summary(path)
    if known is None or not known.entries:
        return
    if known.parts == 1 and not change.huge:
        with suppress(Huge):
            packed = found.packed.get(path)
            try:
                rows = unpack_rows(packed) if packed else source.list(path).entries
            except OSError as error:
                if isinstance(error, Huge):
                    raise
                return  # reported by its sync
            recorded, present = changed_sources(index.rows(path), rows)
            if recorded:
                yield 0, recorded, _by_recorded_name(view, path, recorded, present)
            return
    for part in range(known.parts):
        recorded, _ = changed_sources(index.rows(path, part), ())
        with suppress(OSError):
            now = {entry.name: entry for entry in source.part(path, [each.name for each in recorded]).entries}
            yield part, [each for each in recorded if now.get(each.name) != each], now


def _by_recorded_name(
    view: View, path: bytes, recorded: Sequence[Entry], present: Sequence[Entry]
) -> Mapping[bytes, Entry]:
    """Return changed and new entries by the recorded names, also on a mirror that treats different names as equal."""
    able, by_name = view.mirror.at(path), {entry[0]: entry for entry in present}
    if able.keeps_all_names:
        return by_name
    rules = NameRules(able)
    by_key = {rules.key(name): entry for name, entry in by_name.items()}
    keys = {entry.name: rules.key(entry.name) for entry in recorded if entry.name not in by_name}
    return {**by_name, **{name: by_key[key] for name, key in keys.items() if key in by_key}}


def _sampled(view: View, counted: _Counted) -> int:
    """Read up to 100 doubtful files; return how many of all have another content by their share."""
    sample = counted.sample[:: -(-len(counted.sample) // _MOST_SAMPLED)]
    changed = 0
    for path, part, name in sample:
        record = decode_records(view.context.index.rows(path, part)).get(name)
        now = _entry_at(view, path, name)
        changed += record is not None and now is not None and _differs(view, path, record, now)
    return -(-changed * counted.doubtful // len(sample))


def _differs(view: View, path: bytes, record: Record, now: Entry) -> bool:
    """Return whether a file of a source folder has another content than the record; unread, it counts as the same."""
    if record.source.kind is not Kind.FILE or now.kind is not Kind.FILE or record.source.size != now.size:
        return content_change(record.source, now) is not ContentChange.NONE
    if view.hash_of is None or not record.checksum:
        return False
    with suppress(OSError):
        return view.hash_of(path, now, record.checksum.partition(":")[0]) != record.checksum
    return False


def _entry_at(view: View, path: bytes, name: bytes) -> Entry | None:
    """Return a source entry; None if it is missing. Raises `OSError` if that is unknown."""
    try:
        found = view.context.source.part(path, [name])
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    if found.unreadable:
        raise found.unreadable[0][1]
    return next((entry for entry in found.entries if not stat.S_ISDIR(entry.mode)), None)


def _canaries(
    view: View, brake: BrakeSettings, before: "StoredHold | None"
) -> tuple[tuple[bytes, ...], dict[bytes, frozenset[bytes]]]:
    """Return the canaries that were changed since they were copied, or are missing, and the digests of the latter."""
    changed: list[bytes] = []
    gone: dict[bytes, frozenset[bytes]] = {}
    for text in brake.canary:
        path = b"/".join(each for each in os.fsencode(text).split(b"/") if each not in {b"", b"."})
        folder, _, name = path.rpartition(b"/")
        with suppress(OSError):  # unknown: an unreadable folder is reported by the scan
            part, record = _recorded(view, folder, name)
            now = _entry_at(view, folder, name)
            digest = change_digest(name, now)
            if before and digest in before.approved(folder, part):
                continue
            if now is None and (record is not None or (before and digest in before.known(folder, part))):
                from job.store.held_table import held_key  # noqa: PLC0415  # rarely needed

                key = held_key(folder, part)
                gone[key] = gone.get(key, frozenset()) | {digest}
                changed.append(path)
            elif now is not None and record is not None and _is_touched(view, folder, record, now):
                changed.append(path)
    return tuple(changed), gone


def _is_touched(view: View, folder: bytes, record: Record, now: Entry) -> bool:
    return record.source != now and _differs(view, folder, record, now)


def _recorded(view: View, folder: bytes, name: bytes) -> tuple[int, Record | None]:
    """Return the part and the record of a source file; part 0 if there is none."""
    known = view.context.index.summary(folder)
    for part in range(known.parts if known else 0):
        record = decode_records(view.context.index.rows(folder, part)).get(name)
        if record is not None:
            return part, record
    return 0, None
