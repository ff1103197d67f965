"""Read and write the mirrored extended attributes: `user.*`, POSIX ACLs and, if configured, security attributes.

`security.*` holds the capabilities of programs and the labels of SELinux, `trusted.*` notes of other file systems; both
grant rights or have a meaning on this machine only.
"""

import errno
import os
import stat
from contextlib import suppress
from typing import TypeAlias

from job.core.acl import ACCESS_ACL, mode_for_other_group, mode_without_acl
from job.fs.dircursor import PathHandle, single

ATTRIBUTES = ("acl", "xattr")
"""Kinds of metadata that are kept as extended attributes."""

_ACL = "system.posix_acl_"
DEFAULT_ACL = b"system.posix_acl_default"
"""Inherited by new entries of a folder."""
_ORDINARY = ("user.", _ACL)
_ALL = (*_ORDINARY, "security.", "trusted.")
_ACL_OF_XFS = "trusted.SGI_ACL_"
"""XFS shows ACLs by a second name, too; they are set and removed by the first."""
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EOVERFLOW}
"""Errors for metadata that a file system does not hold, or does not let us read or set."""


MOST_BYTES = 17 << 16
"""Names and values of one entry that are read, in bytes: sixteen of the largest that Linux takes (64 KiB each, such as
the resource forks of macOS). ext4 and btrfs hold fewer; XFS holds hundreds of megabytes, which would all be in memory.
"""
TOO_LARGE = f"all of them are more than {MOST_BYTES >> 20} MiB, or have names of more than 64 KiB"
_UNLISTED = {errno.E2BIG, errno.ERANGE}
"""Errors if the names alone are more than 64 KiB, the largest list."""
_BY_NAME = ("system.posix_acl_access", "system.posix_acl_default", "security.capability")
"""Read by name if there is no list: these decide about rights."""


class PartlyRead(dict[bytes, bytes]):
    """Attributes of which some were not read: missing ones are unknown, never gone."""

    acl_unknown = False
    """Whether there may be an access ACL that could not be read."""
    is_for_new = False
    """Whether they are for a new entry, which gets no others."""


def for_new(attributes: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Mark attributes as those of a new entry, which keeps none that it inherited."""
    if isinstance(attributes, PartlyRead):
        attributes.is_for_new = True
    return attributes


Target: TypeAlias = int | bytes
"""An open file or folder, a `PathHandle`, or a path as `place_of` gives it, whose last name is never followed."""


def is_acl(name: bytes) -> bool:
    """Return whether an attribute is an access or default ACL."""
    return name.startswith(_ACL.encode("ascii"))


def place_of(name: bytes, folder: int) -> bytes:
    """Return a path to read and set the attributes of a name in an open folder without opening it."""
    return b"/proc/self/fd/%d/%s" % (folder, single(name))


def read_attributes(target: Target, names: list[str] | None = None, *, security: bool) -> dict[bytes, bytes]:
    """Read the attributes that are carried over; none where they are not supported. Raises `OSError`.

    `names` are those that the target has, if they were listed already. Beyond `MOST_BYTES`, or the names that the
    kernel lists, only some are returned, as `PartlyRead`: ACLs first.
    """
    found: dict[bytes, bytes] = {}
    size = 0
    try:
        carried = _listed(target, security=security) if names is None else carried_over(names, security=security)
        for name in carried:
            with suppress(FileNotFoundError):
                value = read_attribute(target, name)
                size += len(name) + len(value)
                if size > MOST_BYTES:
                    return _as_many_as_fit(target, security=security)
                found[os.fsencode(name)] = value
    except OSError as error:
        if error.errno in _UNLISTED:
            return _as_many_as_fit(target, security=security)
        raise
    return found


def _listed(target: Target, *, security: bool) -> list[str]:
    try:
        path, how = _call_target(target)
        names = os.listxattr(path, **how)
    except OSError as error:
        if error.errno in REFUSED:
            return []
        raise
    return carried_over(names, security=security)


def has_attributes(descriptor: int, *, security: bool) -> bool:
    """Return whether an open file has attributes that are copied, as `carried_over` says.

    A host with SELinux labels every file. Raises `OSError` if it is unknown.
    """
    try:
        names = os.listxattr(descriptor)
    except OSError as error:
        if error.errno in REFUSED:
            return False
        raise
    return bool(names and carried_over(names, security=security))


def carried_over(names: list[str], *, security: bool) -> list[str]:
    """Return the names of attributes that are copied; `security` includes `security.*` and `trusted.*`."""
    return [name for name in names if _is_carried_over(name, security=security)]


def _is_carried_over(name: str, *, security: bool) -> bool:
    return name.startswith(_ALL if security else _ORDINARY) and not name.startswith(_ACL_OF_XFS)


def read_readable(target: Target, *, security: bool) -> PartlyRead:
    """Read those of the attributes that can be read, as far as `MOST_BYTES` allow."""
    names: list[str] = []
    with suppress(OSError):
        names = _listed(target, security=security)
    return _read_in_limit(target, names)


def _as_many_as_fit(target: Target, *, security: bool) -> PartlyRead:
    try:
        # In the same order on both sides, so that the same ones are left out.
        names = sorted(_listed(target, security=security), key=lambda name: (name not in _BY_NAME, name))
    except OSError:
        names = [name for name in _BY_NAME if _is_carried_over(name, security=security)]
    return _read_in_limit(target, names)


def _read_in_limit(target: Target, names: list[str]) -> PartlyRead:
    found, size = PartlyRead(), 0
    for name in names:
        with suppress(OSError):
            value = read_attribute(target, name)
            size += len(name) + len(value)
            if size > MOST_BYTES:
                break
            found[os.fsencode(name)] = value
    if ACCESS_ACL not in found:
        # Without a list the ACL can still be read by name; if there is none, the mode alone decides.
        try:
            found[ACCESS_ACL] = read_attribute(target, ACCESS_ACL)
        except OSError as error:
            found.acl_unknown = not isinstance(error, FileNotFoundError) and error.errno not in REFUSED
    return found


def read_attribute(target: Target, name: str | bytes) -> bytes:
    """Read one attribute. Raises `FileNotFoundError` if there is none, or another `OSError`."""
    try:
        path, how = _call_target(target)
        return os.getxattr(path, name, **how)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise FileNotFoundError from None
        raise


def set_attribute(target: Target, name: bytes, value: bytes) -> None:
    """Set one attribute. Raises `OSError`."""
    path, how = _call_target(target)
    os.setxattr(path, name, value, **how)


def remove_attribute(target: Target, name: bytes) -> None:
    """Remove one attribute. Raises `OSError`."""
    path, how = _call_target(target)
    os.removexattr(path, name, **how)


def _call_target(target: Target) -> tuple[Target, dict[str, bool]]:
    if isinstance(target, bytes):
        return target, {"follow_symlinks": False}
    return target.path if isinstance(target, PathHandle) else target, {}


def limited_mode(mode: int, wanted: dict[bytes, bytes], held: dict[bytes, bytes]) -> int:
    """Limit a mode if the mirror does not have its ACL, so that no user gains a right."""
    acl, there = wanted.get(ACCESS_ACL), held.get(ACCESS_ACL)
    if acl == there:
        # An unreadable attribute may be an ACL, whose mask the group bits are.
        unknown = acl is None and isinstance(wanted, PartlyRead) and wanted.acl_unknown
        return mode_for_other_group(mode) if unknown else mode
    if acl is None and isinstance(wanted, PartlyRead) and not wanted.is_for_new:
        return mode  # an ACL that was left is the one that cannot be read now
    mode = mode_without_acl(mode, acl)
    return mode if there is None else mode & ~stat.S_IRWXG  # these are the mask of an ACL that could not be removed


def with_acl(attributes: dict[bytes, bytes], acl: bytes) -> dict[bytes, bytes]:
    """Return attributes with another access ACL."""
    changed = attributes.copy() if type(attributes) is dict else PartlyRead(attributes)
    changed[ACCESS_ACL] = acl
    if isinstance(attributes, PartlyRead) and isinstance(changed, PartlyRead):
        changed.is_for_new = attributes.is_for_new
    return changed
