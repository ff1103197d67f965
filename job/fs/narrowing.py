"""Take rights away in the mirror before the source's new ones are given: nobody ever has more than both sides grant.

A folder is narrowed before anything is put into it, and an old copy before, or instead of, the new one is made. What is
to be granted beyond that comes last (`Keeper.apply`).
"""

import os
import stat
from typing import NamedTuple

from job.core.acl import ACCESS_ACL, Rights, common, for_others, grants_more
from job.core.entry import Entry
from job.fs.dircursor import at_place
from job.fs.xattrs import REFUSED, PartlyRead, Target, place_of, read_attribute

_SHARED_BITS = 0o077


class Narrowed(NamedTuple):
    """What was done to an open mirror folder."""

    mode: int
    """Its st_mode now."""
    owner: int
    """Its owner now."""
    changed: bool
    opens: bool
    """Whether the source's folder grants anybody more than it did before."""
    error: OSError | None
    """Why it still grants more than the source's folder does; None if it does not."""


def wanted_rights(seen: os.stat_result, attributes: dict[bytes, bytes]) -> Rights:
    """Sum up who may do what with something in the source, of which the attributes were read."""
    mode = seen.st_mode
    if isinstance(attributes, PartlyRead) and attributes.acl_unknown:
        mode = for_others(mode)
    return Rights(seen.st_uid, seen.st_gid, mode, attributes.get(ACCESS_ACL))


def rights_at(target: Target, seen: os.stat_result) -> Rights:
    """Sum up who may do what with something of which the stat is known."""
    try:
        acl, mode = read_attribute(target, ACCESS_ACL), seen.st_mode
    except FileNotFoundError:
        acl, mode = None, seen.st_mode
    except OSError as error:
        acl, mode = None, seen.st_mode if error.errno in REFUSED else for_others(seen.st_mode)
    return Rights(seen.st_uid, seen.st_gid, mode, acl)


def close_folder(listed: bytes, source: int, mirror: int) -> bool:
    """Let an open mirror folder grant nobody more than its source, which is `listed` in an open folder; True if it did.

    For a source that cannot be opened. Raises `OSError`.
    """
    seen, held = os.stat(listed, dir_fd=source, follow_symlinks=False), os.fstat(mirror)
    if not stat.S_ISDIR(seen.st_mode):
        return False
    bits = stat.S_IMODE(common(rights_at(mirror, held), rights_at(place_of(listed, source), seen)))
    if bits == stat.S_IMODE(held.st_mode):
        return False
    os.fchmod(mirror, bits)
    return True


def narrow_folder(mirror: int, found: Rights, wanted: Rights) -> Narrowed:
    """Let an open mirror folder grant nobody more than the source's folder grants, too.

    A folder that belonged to somebody else belongs to this user until it is handed over: its owner could open it again.
    """
    mode, owner, error = found.mode, found.uid, None
    bits = stat.S_IMODE(common(found, wanted)) | (wanted.mode & stat.S_ISVTX)
    try:
        if bits != stat.S_IMODE(mode):
            os.fchmod(mirror, bits)
            mode = stat.S_IFMT(mode) | bits
        if owner != wanted.uid and owner not in {0, os.geteuid()}:
            os.fchown(mirror, os.geteuid(), -1)
            owner = os.geteuid()
    except OSError as caught:
        error = caught
    changed = (mode, owner) != (found.mode, found.uid)
    return Narrowed(mode, owner, changed, grants_more(wanted, found), error)


def narrow_as(source: int, mirror: int) -> Narrowed:
    """Let an open mirror folder grant nobody more than its open source grants now. Raises `OSError`."""
    wanted, found = (rights_at(each, os.fstat(each)) for each in (source, mirror))
    return narrow_folder(mirror, found, wanted)


def needs_narrowing(found: Entry, wanted: Entry) -> bool:
    """Tell by the listings alone whether a mirror file grants more than its source does; ACLs are not in them."""
    bits = found.mode & _SHARED_BITS
    return bool(bits) and common(_listed(found), _listed(wanted)) & _SHARED_BITS != bits


def _listed(entry: Entry) -> Rights:
    return Rights(entry.uid, entry.gid, entry.mode)


def narrow_file(listed: Entry, source: int, mirror: Entry, mirror_folder: int, names: int) -> os.stat_result | None:
    """Let an old copy grant nobody more than its source grants, too; its stat if that changed it.

    The copy is left alone if it is not the one that was listed, or has more than so many `names`, of which others would
    be changed with it. Raises `OSError`.
    """
    wanted = rights_at(place_of(listed.name, source), os.stat(listed.name, dir_fd=source, follow_symlinks=False))
    with at_place(mirror.name, mirror_folder) as place:
        seen = os.fstat(place)
        if seen.st_ino != mirror.inode or not stat.S_ISREG(seen.st_mode) or seen.st_nlink > names:
            return None
        bits = stat.S_IMODE(common(rights_at(place, seen), wanted))
        if bits == stat.S_IMODE(seen.st_mode):
            return None
        os.chmod(place.path, bits)
        return os.fstat(place)
