"""Extended attributes that are carried over: the user's own and POSIX ACLs; what the kernel acts upon only if asked.

`security.*` holds the capabilities of programs and the labels of SELinux, `trusted.*` what other file systems note for
themselves; both give rights or mean something on this machine only.
"""

import errno
import os
from contextlib import suppress
from typing import TypeAlias

from job.core.posix_acl import ACCESS_ACL
from job.files.trail import Place, single

ATTRIBUTES = ("acl", "xattr")
"""Kinds of metadata that are kept as extended attributes."""

_ACL = "system.posix_acl_"
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

    acl_unknown = False
    """Whether there may be an access ACL that could not be read."""
    is_for_new = False
    """Whether they are for something new, that is to have none but these."""


def for_new(attributes: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Give attributes that were read for something new, which keeps nothing that its folder gave it."""
    if isinstance(attributes, PartlyRead):
        attributes.is_for_new = True
    return attributes


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
    if ACCESS_ACL not in found:
        # Who cannot list attributes may still say that there is no ACL: then the mode says all about access.
        try:
            found[ACCESS_ACL] = _value(target, os.fsdecode(ACCESS_ACL))
        except OSError as error:
            found.acl_unknown = not isinstance(error, FileNotFoundError) and error.errno not in REFUSED
    return found


def read_attribute(target: Target, name: bytes) -> bytes:
    """Read one attribute. Raises `FileNotFoundError` if there is none, or another `OSError`."""
    return _value(target, os.fsdecode(name))


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
