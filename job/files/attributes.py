"""Extended attributes that are carried over: the user's own and POSIX ACLs; what the kernel acts upon only if asked.

`security.*` holds the capabilities of programs and the labels of SELinux, `trusted.*` what other file systems note for
themselves; both give rights or mean something on this machine only.
"""

import errno
import os
from contextlib import suppress

ATTRIBUTES = ("acl", "xattr")
"""Kinds of metadata that are kept as extended attributes."""

_ACL = "system.posix_acl_"
_ACCESS = _ACL + "access"
_ORDINARY = ("user.", _ACL)
_ALL = (*_ORDINARY, "security.", "trusted.")
_ACL_OF_XFS = "trusted.SGI_ACL_"
"""XFS shows ACLs by a second name, too: what goes with the one is not there to be removed by the other."""
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EOVERFLOW}
"""What file systems say of metadata that they do not hold, or do not let us have or set."""


def is_acl(name: bytes) -> bool:
    """Tell an access or default ACL from other attributes."""
    return name.startswith(_ACL.encode("ascii"))


def read_attributes(descriptor: int, *, security: bool) -> dict[bytes, bytes]:
    """Read the attributes of an open file or folder that are carried over; none where they are not supported.

    Raises `OSError`.
    """
    try:
        names = os.listxattr(descriptor)
    except OSError as error:
        if error.errno in REFUSED:
            return {}
        raise
    found: dict[bytes, bytes] = {}
    for name in names:
        if name.startswith(_ALL if security else _ORDINARY) and not name.startswith(_ACL_OF_XFS):
            with suppress(FileNotFoundError):
                found[os.fsencode(name)] = _value(descriptor, name)
    return found


def without_acl(path: str) -> bool:
    """Take away what else than its mode says who may do what with a file; False if there is nothing. Raises `OSError`.

    Not every file system tells whether there was one to be removed.
    """
    if _ACCESS not in os.listxattr(path):
        return False
    os.removexattr(path, _ACCESS)
    return True


def _value(descriptor: int, name: str) -> bytes:
    try:
        return os.getxattr(descriptor, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise FileNotFoundError from None
        raise
