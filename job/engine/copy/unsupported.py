"""Notes: what there is to know of an entry that the mirror's file system cannot hold, for the index to keep."""

import os
from contextlib import suppress

from job.core.entry import Entry, Kind
from job.engine.copy.finish import Work
from job.fs.metadata import Keeper
from job.fs.stable_read import at_listed
from job.fs.xattrs import place_of
from job.store.unheld import MOST_BYTES, MOST_BYTES_EACH, Unheld

_TOO_LARGE = (
    f"the mirror's file system cannot hold the attributes, and the index keeps {MOST_BYTES_EACH >> 10} KiB of an entry"
    f" and {MOST_BYTES >> 20} MiB of a folder: they are not kept"
)


def note(work: Work, name: bytes, unheld: Unheld | None) -> None:
    """Have the index keep what the mirror cannot hold of an entry; attributes only as far as there is room for them."""
    size = unheld.size if unheld else 0
    if unheld and (size > MOST_BYTES_EACH or work.unheld_bytes + size > MOST_BYTES):
        work.volume.keeper.note_too_large(_TOO_LARGE)
        unheld, size = unheld._replace(attributes=()), 0
    work.unheld[name] = unheld
    work.unheld_bytes += size


def unheld_of(entry: Entry, source: int, keeper: Keeper) -> Unheld:
    """Look up a symlink or special file of the open source folder. Raises `OSError`, `ChangedWhileReadError`."""
    with at_listed(entry, source) as (place, seen):
        target = os.readlink(b"", dir_fd=place) if entry.kind is Kind.SYMLINK else b""
        kept = tuple(sorted(keeper.of_source(place).items()))
    return Unheld(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, target, seen.st_rdev, kept)


def attributes_of(entry: Entry, source: int, keeper: Keeper) -> Unheld | None:
    """Look up the attributes of a file; None if it has none, or went away."""
    attributes: dict[bytes, bytes] = {}
    with suppress(OSError):
        attributes = keeper.of_source(place_of(entry.name, source))
    if not attributes:
        return None
    kept = tuple(sorted(attributes.items()))
    return Unheld(entry.mode, entry.uid, entry.gid, entry.mtime_ns, attributes=kept)


def folder_of(seen: os.stat_result, attributes: dict[bytes, bytes]) -> Unheld:
    """Sum up a folder itself."""
    kept = tuple(sorted(attributes.items()))
    return Unheld(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, attributes=kept)
