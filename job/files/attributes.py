"""Extended attributes that are carried over: the user's own and POSIX ACLs; what the kernel acts upon only if asked.

`security.*` holds the capabilities of programs and the labels of SELinux, `trusted.*` what other file systems note for
themselves; both give rights or mean something on this machine only.
"""

import errno
import os
from contextlib import suppress
from typing import TypeAlias

from job.files.trail import Place, single

ATTRIBUTES = ("acl", "xattr")
"""Kinds of metadata that are kept as extended attributes."""

_ACL = "system.posix_acl_"
ACCESS_ACL = b"system.posix_acl_access"
DEFAULT_ACL = b"system.posix_acl_default"
"""What a folder gives to all that is made in it."""
_ORDINARY = ("user.", _ACL)
_ALL = (*_ORDINARY, "security.", "trusted.")
_ACL_OF_XFS = "trusted.SGI_ACL_"
"""XFS shows ACLs by a second name, too: what goes with the one is not there to be removed by the other."""
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EOVERFLOW}
"""What file systems say of metadata that they do not hold, or do not let us have or set."""


class PartlyRead(dict[bytes, bytes]):
    """Attributes of which some could not be read: what is not among them is unknown, never gone."""


Target: TypeAlias = int | bytes
"""An open file or folder, a `Place`, or a path as `place_of` gives it, whose last name is never followed."""


def is_acl(name: bytes) -> bool:
    """Tell an access or default ACL from other attributes."""
    return name.startswith(_ACL.encode("ascii"))


def place_of(name: bytes, folder: int) -> bytes:
    """Give a path by which what has a name in an open folder can have attributes without being opened."""
    return b"/proc/self/fd/%d/%s" % (folder, single(name))


def read_attributes(target: Target, *, security: bool) -> dict[bytes, bytes]:
    """Read the attributes that are carried over; none where they are not supported. Raises `OSError`."""
    try:
        path, how = _how(target)
        names = os.listxattr(path, **how)
    except OSError as error:
        if error.errno in REFUSED:
            return {}
        raise
    found: dict[bytes, bytes] = {}
    for name in names:
        if _is_carried_over(name, security=security):
            with suppress(FileNotFoundError):
                found[os.fsencode(name)] = _value(target, name)
    return found


def _is_carried_over(name: str, *, security: bool) -> bool:
    return name.startswith(_ALL if security else _ORDINARY) and not name.startswith(_ACL_OF_XFS)


def read_readable(target: Target, *, security: bool) -> PartlyRead:
    """Read those of the attributes that can be read."""
    found, (path, how) = PartlyRead(), _how(target)
    with suppress(OSError):
        for name in os.listxattr(path, **how):
            if _is_carried_over(name, security=security):
                with suppress(OSError):
                    found[os.fsencode(name)] = _value(target, name)
    return found


def set_attribute(target: Target, name: bytes, value: bytes) -> None:
    """Set one attribute. Raises `OSError`."""
    path, how = _how(target)
    os.setxattr(path, name, value, **how)


def remove_attribute(target: Target, name: bytes) -> None:
    """Remove one attribute. Raises `OSError`."""
    path, how = _how(target)
    os.removexattr(path, name, **how)


def _how(target: Target) -> tuple[Target, dict[str, bool]]:
    if isinstance(target, bytes):
        return target, {"follow_symlinks": False}
    return target.path if isinstance(target, Place) else target, {}


def _value(target: Target, name: str) -> bytes:
    try:
        path, how = _how(target)
        return os.getxattr(path, name, **how)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise FileNotFoundError from None
        raise
