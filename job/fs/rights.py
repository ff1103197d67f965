"""Rights: capabilities of this process, reasons of refusals, access checks, and narrowing in the mirror.

Access checks open nothing, so that no access time changes; a file server may still refuse.

Rights in the mirror are narrowed first: those of a folder before anything is put into it, those of an old copy before,
or instead of, the new one. Meanwhile no user has more rights than both sides grant. `MetadataWriter.apply` widens last.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from job.core.acl import ACCESS_ACL, Rights, common_mode, mode_for_other_group
from job.core.entry import Entry
from job.core.outcome import reason_text
from job.fs.dircursor import path_handle, single
from job.fs.mounts import kernel_text
from job.fs.xattrs import REFUSED, PartlyRead, Target, place_of, read_attribute

_NEEDED = {"owner": ("CAP_CHOWN", 0), "mode": ("CAP_FOWNER", 3), "times": ("CAP_FOWNER", 3), "acl": ("CAP_FOWNER", 3)}
"""The capability needed to set each kind of metadata on another user's files, and its number."""
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
"""Capabilities that affect reading a source or writing a mirror, and their numbers."""


def metadata_capabilities() -> list[str]:
    """Return the names of this process's capabilities that affect reading a source or writing a mirror."""
    has = _capabilities()
    return [name for name, number in _METADATA_CAPABILITIES.items() if has >> number & 1]


def refusal_reason(what: str, error: OSError) -> str:
    """Return why metadata of a kind was refused: the missing capability, or the system's error text."""
    if error.errno not in {errno.EPERM, errno.EACCES}:
        return reason_text(error)
    name, number = _NEEDED.get(what, ("", -1))
    if not name or _capabilities() >> number & 1:
        return f"the file system does not allow it ({error.strerror})"
    return f"this needs root ({name}), and Truecopy runs as user {os.geteuid()} without it"


def _capabilities() -> int:
    effective = _read_capabilities()
    return _INITIAL_CAPABILITIES if effective is None else effective


def _read_capabilities() -> int | None:
    """Return the effective capabilities of this thread as bits; None if /proc is not readable."""
    lines = kernel_text("/proc/thread-self/status").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), None)


_INITIAL_CAPABILITIES = _read_capabilities() or 0
"""Used in the sandbox, where /proc may be closed."""


def may_read(name: bytes, folder: int) -> bool:
    """Return whether a file in an open folder may be opened for reading. Links are not followed."""
    return os.access(single(name), os.R_OK, dir_fd=folder, effective_ids=True, follow_symlinks=False)


def may_write_folder(folder: int) -> bool:
    """Return whether entries of an open folder may be created and replaced; its owner can always get the right."""
    if os.fstat(folder).st_uid == os.geteuid():
        return True
    return os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)


_SHARED_BITS = 0o077


class NarrowedFolder(NamedTuple):
    """An open mirror folder after narrowing."""

    mode: int
    """The st_mode now."""
    owner: int
    changed: bool
    error: OSError | None
    """Why the mirror folder still grants too much; None if it does not."""


def wanted_rights(seen: os.stat_result, attributes: dict[bytes, bytes]) -> Rights:
    """Return the rights of a source entry from its stat and its attributes."""
    mode = seen.st_mode
    if isinstance(attributes, PartlyRead) and attributes.acl_unknown:
        mode = mode_for_other_group(mode)
    return Rights(seen.st_uid, seen.st_gid, mode, attributes.get(ACCESS_ACL))


def rights_at(target: Target, seen: os.stat_result) -> Rights:
    """Return the rights of an entry from its stat and its ACL, which is read."""
    try:
        acl, mode = read_attribute(target, ACCESS_ACL), seen.st_mode
    except FileNotFoundError:
        acl, mode = None, seen.st_mode
    except OSError as error:
        acl, mode = None, seen.st_mode if error.errno in REFUSED else mode_for_other_group(seen.st_mode)
    return Rights(seen.st_uid, seen.st_gid, mode, acl)


def narrow_as_listed(listed: bytes, source: int, mirror: int) -> bool:
    """Narrow an open mirror folder to its source, the entry `listed` in an open folder; True if its mode changed.

    For a source folder that cannot be opened. Raises `OSError`.
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
    """Narrow an open mirror folder to the rights that it and the source folder both grant.

    This user takes a folder from another owner, who could widen it again, until the final owner is set.
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
    return NarrowedFolder(mode, owner, changed, error)


def narrow_to_source(source: int, mirror: int) -> NarrowedFolder:
    """Narrow an open mirror folder to its open source folder. Raises `OSError`."""
    wanted, found = (rights_at(each, os.fstat(each)) for each in (source, mirror))
    return narrow_folder(mirror, found, wanted)


def needs_narrowing(found: Entry, wanted: Entry) -> bool:
    """Return whether a mirror file grants more than its source, judged by the listings, which have no ACLs."""
    bits = found.mode & _SHARED_BITS
    return bool(bits) and common_mode(_rights_of_entry(found), _rights_of_entry(wanted)) & _SHARED_BITS != bits


def _rights_of_entry(entry: Entry) -> Rights:
    return Rights(entry.uid, entry.gid, entry.mode)


def narrow_file(listed: Entry, source: int, mirror: Entry, mirror_folder: int, names: int) -> os.stat_result | None:
    """Narrow an old copy to the rights that it and its source both grant; return its stat if that changed it.

    A copy is left alone if it was replaced since the listing, or has more hard links than `names`, since the others
    would change too. Raises `OSError`.
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


_OWNER_MAY_CHANGE = 0o300


def make_writable(mirror: int, mode: int) -> bool:
    """Make an open mirror folder writable for its owner if its st_mode forbids that; True if it was tried."""
    if mode & _OWNER_MAY_CHANGE == _OWNER_MAY_CHANGE:
        return False
    with suppress(OSError):  # then each entry fails with an error of its own
        os.fchmod(mirror, (mode & 0o7777) | 0o700)
    return True


def in_writable(mirror: int, change: Callable[[], object]) -> None:
    """Make a change in an open mirror folder; if it is refused, make the folder writable, and try again.

    The folder has to be synced after it, which sets its mode. Raises `OSError`.
    """
    try:
        change()
    except PermissionError:
        if not make_writable(mirror, os.fstat(mirror).st_mode):
            raise
        change()
