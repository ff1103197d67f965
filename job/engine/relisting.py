"""List a folder that was looked at before: two looks that contradict each other are an error, never an answer.

Servers and FUSE file systems have given empty or short listings without an error. What such a listing does not show is
unknown, never gone (design 3.1).
"""

import errno
from collections.abc import Collection
from operator import itemgetter

from job.core.entry import printable
from job.engine.context import Source
from job.fs.listing import Listing

_name_of = itemgetter(0)


def list_again(source: Source, path: bytes, known: Collection[bytes], if_empty: bytes) -> Listing:
    """List a folder of the source, of which the index knows some names.

    `if_empty` is the fingerprint that it has if it lost all its entries since the look, but did not change itself;
    empty if the look saw none. Raises `OSError` if the listing contradicts that, or does not show a known name that can
    be examined, twice: a rename hides a name from one listing only. Raises `Huge`, too.
    """
    listing = source.list(path)
    if _doubt(source, listing, known, if_empty):
        listing = source.list(path)
        if why := _doubt(source, listing, known, if_empty):
            raise OSError(errno.EIO, why)
    return listing


def _doubt(source: Source, listing: Listing, known: Collection[bytes], if_empty: bytes) -> str:
    if if_empty and listing.fingerprint == if_empty and not listing.entries:
        return "its listing is empty now, though it was not a moment ago and nothing in it was changed"
    listed = {*map(_name_of, listing.entries), *map(_name_of, listing.unreadable)}
    missing = [name for name in known if name not in listed]
    there = source.part(listing.path, sorted(missing)).entries if missing else []
    if not there:
        return ""
    others = f" and {len(there) - 1} more" if len(there) > 1 else ""
    return f"its listing does not show {printable(there[0].name)}{others}, which can be examined: it is not believed"
