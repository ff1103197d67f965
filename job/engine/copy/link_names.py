"""Members: names of files that have several, as a visit of their folder meets them."""

from collections.abc import Mapping
from contextlib import suppress

from job.core.decide import Means, is_as_known, not_held
from job.core.entry import Entry, FileId, Kind, is_reserved, join
from job.core.record import Member, Record
from job.engine.copy.actions import Place
from job.fs.listing import Shared, file_at


def members_of(
    place: Place,
    present: dict[bytes, Entry],
    shared: Mapping[bytes, Shared],
    records: dict[bytes, Record],
    means: Means,
) -> list[Member]:
    """Give the names in a folder whose files have others; none if nothing is to be done about any of them.

    `shared` are those of the mirror. A source file that has one name only counts, too, if in the mirror it has several:
    what was linked may have been parted.
    """
    if not means.hard_links:
        return []
    listing = place.work.listing
    ours = listing.linked
    found, to_do = [], False
    for entry in listing.entries:
        name = entry.name
        if name not in ours and name not in shared:
            continue
        left_out = entry.kind is Kind.FOLDER or (entry.kind is Kind.SPECIAL and not means.specials)
        if left_out or not_held(entry, means) or is_reserved(join(listing.path, name)):
            continue
        record = records.get(name)
        known = record is not None and is_as_known(entry, present.get(name), record, means)
        to_do |= not known
        if name in ours or not known:
            found.append(entry)
    if not to_do:
        return []
    members = [_member(entry, place, present.get(entry.name), shared, records.get(entry.name)) for entry in found]
    return [each for each in members if each is not None]


def _member(
    entry: Entry, place: Place, mirror: Entry | None, shared: Mapping[bytes, Shared], record: Record | None
) -> Member | None:
    """Make a member of a listed entry; None if its name stands for something else by now."""
    listing, name = place.work.listing, entry.name
    ours = listing.linked.get(name)
    file = FileId(ours.device, entry.inode) if ours else _file_at(name, place.source)
    if file is None or file.inode != entry.inode:
        return None
    theirs, held = shared.get(name), None
    if mirror is not None and mirror.kind is entry.kind:
        held = FileId(theirs.device, mirror.inode) if theirs else _file_at(name, place.mirror)
    names = max(ours.names if ours else 1, theirs.names if theirs else 1)
    part = place.work.portion.number if place.work.portion else 0
    return Member(file, listing.path, part, name, entry.size, held, record, names=names)


def _file_at(name: bytes, folder: int) -> FileId | None:
    with suppress(OSError):
        return file_at(name, folder)
    return None
