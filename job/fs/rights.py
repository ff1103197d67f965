"""Rights: capabilities of this process, reasons of refusals, access checks, and narrowing in the mirror.

Access is asked of the kernel without opening anything, so that no access time changes; a file server may still refuse.

Rights in the mirror are narrowed before the new ones of the source are granted: a folder before anything is put into
it, and an old copy before, or instead of, the new one. Nobody ever has more than both sides grant. Wider rights come
last (`MetadataWriter.apply`).
"""

import errno
import os
import stat
from typing import NamedTuple

from job.core.acl import ACCESS_ACL, Rights, common_mode, grants_more, mode_for_other_group
from job.core.entry import Entry
from job.core.outcome import reason_text
from job.fs.dircursor import path_handle, single
from job.fs.xattrs import REFUSED, PartlyRead, Target, place_of, read_attribute

_NEEDED = {"owner": ("CAP_CHOWN", 0), "mode": ("CAP_FOWNER", 3), "times": ("CAP_FOWNER", 3), "acl": ("CAP_FOWNER", 3)}
"""The capability by which each kind of metadata may be set on whatever belongs to somebody else, and its number."""


_METADATA_CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "SYS_ADMIN": 21,
    "MKNOD": 27,
    "SETFCAP": 31,
}
"""Capabilities that make a difference to what can be read of a source or kept in a mirror, and their numbers."""


def metadata_capabilities() -> list[str]:
    """Name the capabilities of this process that make a difference to what a mirror is like."""
    has = _capabilities()
    return [name for name, number in _METADATA_CAPABILITIES.items() if has >> number & 1]


def refusal_reason(what: str, error: OSError) -> str:
    """Say why metadata of a kind was refused: the right that is missing, or the words of the file system."""
    if error.errno not in {errno.EPERM, errno.EACCES}:
        return reason_text(error)
    name, number = _NEEDED.get(what, ("", -1))
    if not name or _has(number):
        return f"the file system does not allow it ({error.strerror})"
    return f"this needs root ({name}), and Truecopy runs as user {os.geteuid()} without it"


def _has(capability: int) -> bool:
    return bool(_capabilities() >> capability & 1)


def _capabilities() -> int:
    effective = _read_capabilities()
    return _INITIAL_CAPABILITIES if effective is None else effective


def _read_capabilities() -> int | None:
    """Give the capabilities of this thread as bits, of which root in a container has few; None if /proc is closed."""
    try:
        with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return None


_INITIAL_CAPABILITIES = _read_capabilities() or 0
"""Used in the sandbox, where /proc may be closed."""


def may_read(name: bytes, folder: int) -> bool:
    """Tell whether a file in an open folder may be opened for reading. A link is not followed."""
    return os.access(single(name), os.R_OK, dir_fd=folder, effective_ids=True, follow_symlinks=False)


def may_write_folder(folder: int) -> bool:
    """Tell whether names in an open folder may be made and replaced: its owner can always give the right to it."""
    if os.fstat(folder).st_uid == os.geteuid():
        return True
    return os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)


_SHARED_BITS = 0o077


class NarrowedFolder(NamedTuple):
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
        mode = mode_for_other_group(mode)
    return Rights(seen.st_uid, seen.st_gid, mode, attributes.get(ACCESS_ACL))


def rights_at(target: Target, seen: os.stat_result) -> Rights:
    """Sum up who may do what with something of which the stat is known."""
    try:
        acl, mode = read_attribute(target, ACCESS_ACL), seen.st_mode
    except FileNotFoundError:
        acl, mode = None, seen.st_mode
    except OSError as error:
        acl, mode = None, seen.st_mode if error.errno in REFUSED else mode_for_other_group(seen.st_mode)
    return Rights(seen.st_uid, seen.st_gid, mode, acl)


def narrow_as_listed(listed: bytes, source: int, mirror: int) -> bool:
    """Let an open mirror folder grant nobody more than its source, which is `listed` in an open folder; True if it did.

    For a source that cannot be opened. Raises `OSError`.
    """
    seen, held = os.stat(listed, dir_fd=source, follow_symlinks=False), os.fstat(mirror)
    if not stat.S_ISDIR(seen.st_mode):
        return False
    bits = stat.S_IMODE(common_mode(rights_at(mirror, held), rights_at(place_of(listed, source), seen)))
    if bits == stat.S_IMODE(held.st_mode):
        return False
    os.fchmod(mirror, bits)
    return True


def narrow_folder(mirror: int, found: Rights, wanted: Rights) -> NarrowedFolder:
    """Let an open mirror folder grant nobody more than the source's folder grants, too.

    A folder that belonged to somebody else belongs to this user until it is handed over: its owner could open it again.
    """
    mode, owner, error = found.mode, found.uid, None
    bits = stat.S_IMODE(common_mode(found, wanted)) | (wanted.mode & stat.S_ISVTX)
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
    return NarrowedFolder(mode, owner, changed, grants_more(wanted, found), error)


def narrow_to_source(source: int, mirror: int) -> NarrowedFolder:
    """Let an open mirror folder grant nobody more than its open source grants now. Raises `OSError`."""
    wanted, found = (rights_at(each, os.fstat(each)) for each in (source, mirror))
    return narrow_folder(mirror, found, wanted)


def needs_narrowing(found: Entry, wanted: Entry) -> bool:
    """Tell by the listings alone whether a mirror file grants more than its source does; ACLs are not in them."""
    bits = found.mode & _SHARED_BITS
    return bool(bits) and common_mode(_rights_of_entry(found), _rights_of_entry(wanted)) & _SHARED_BITS != bits


def _rights_of_entry(entry: Entry) -> Rights:
    return Rights(entry.uid, entry.gid, entry.mode)


def narrow_file(listed: Entry, source: int, mirror: Entry, mirror_folder: int, names: int) -> os.stat_result | None:
    """Let an old copy grant nobody more than its source grants, too; its stat if that changed it.

    The copy is left alone if it is not the one that was listed, or has more than so many `names`, of which others would
    be changed with it. Raises `OSError`.
    """
    wanted = rights_at(place_of(listed.name, source), os.stat(listed.name, dir_fd=source, follow_symlinks=False))
    with path_handle(mirror.name, mirror_folder) as place:
        seen = os.fstat(place)
        if seen.st_ino != mirror.inode or not stat.S_ISREG(seen.st_mode) or seen.st_nlink > names:
            return None
        bits = stat.S_IMODE(common_mode(rights_at(place, seen), wanted))
        if bits == stat.S_IMODE(seen.st_mode):
            return None
        os.chmod(place.path, bits)
        return os.fstat(place)
