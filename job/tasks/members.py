"""Members: names of files that have several, as a visit of their folder meets them."""

from collections.abc import Collection

from job.core.entry import Entry, Kind, is_reserved, join
from job.core.plan import Means, is_as_known, not_held
from job.core.record import Member, Record
from job.tasks.deeds import Place


def members_of(
    place: Place, present: dict[bytes, Entry], shared: Collection[bytes], records: dict[bytes, Record], means: Means
) -> list[Member]:
    """Give the names in a folder whose files have others; none if nothing is to be done about any of them.

    `shared` are those of the mirror. A source file that has one name only counts, too, if in the mirror it has several:
    what was linked may have been parted.
    """
    if not means.hard_links:
        return []
    listing = place.work.listing
    ours, theirs = set(listing.linked), set(shared)
    part = place.work.portion.number if place.work.portion else 0
    members, to_do = [], False
    for entry in listing.entries:
        name = entry.name
        if name not in ours and name not in theirs:
            continue
        kind = entry.kind
        left_out = kind is Kind.FOLDER or (kind is Kind.SPECIAL and not means.specials) or not_held(entry, means)
        if left_out or is_reserved(join(listing.path, name)):
            continue
        record = records.get(name)
        known = record is not None and is_as_known(entry, present.get(name), record, means)
        to_do |= not known
        if name in ours or not known:
            mirror = present.get(name)
            inode = None if mirror is None or mirror.kind is not kind else mirror.inode
            members.append(Member(entry.inode, listing.path, part, name, entry.size, inode, record))
    return members if to_do else []
