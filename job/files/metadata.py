"""Carry mode, owner, times and user xattrs over, on open descriptors only, and remember what the mirror refuses.

A refusal is a fact about the mirror (FAT has no owners, an ordinary user may not give files away), not a failure of the
file: it is told once for each kind, `owner`, `mode`, `times` or `xattr`.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from job.core.entry import kept_mode
from job.files.trail import single

_REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EOVERFLOW}
_UNCHANGED_ID = -1


_TOO_BIG = {errno.ENOSPC, errno.E2BIG, errno.ERANGE}
"""What file systems say of an attribute that does not fit beside the file; the file itself may well fit."""


class Refused(NamedTuple):
    """What a mirror would not take, and the words of the operating system."""

    what: str
    error: str


class Keeper:
    """Puts metadata on mirror entries. One for each mirror and cycle: it learns what that mirror cannot hold."""

    def __init__(self) -> None:
        self._untold: list[Refused] = []
        self._told: set[str] = set()
        self._given_up: set[tuple[str, int]] = set()

    def news(self) -> list[Refused]:
        """Give each kind of refusal once, the first time it was met."""
        news, self._untold = self._untold, []
        return news

    def apply(self, descriptor: int, wanted: os.stat_result, xattrs: dict[bytes, bytes] | None) -> bool:
        """Give an open mirror file or folder the wanted metadata; True if anything really changed.

        The owner goes first because chown clears mode bits, times go last because everything else may move them.
        `xattrs` None leaves them alone.
        """
        before = os.fstat(descriptor)
        self._own(lambda uid, gid: os.fchown(descriptor, uid, gid), before, wanted)
        changed = xattrs is not None and self._set_xattrs(descriptor, xattrs)
        mode = kept_mode(wanted.st_mode)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            self._try("mode", 0, lambda: os.fchmod(descriptor, mode))
        times = (wanted.st_atime_ns, wanted.st_mtime_ns)
        if before.st_mtime_ns != wanted.st_mtime_ns:
            self._try("times", 0, lambda: os.utime(descriptor, ns=times))
        return changed or _visible(os.fstat(descriptor)) != _visible(before)

    def dress(self, descriptor: int, wanted: os.stat_result, xattrs: dict[bytes, bytes]) -> os.stat_result:
        """Give a temp of ours, new and complete, the wanted metadata; gives its size, inode and times as they are kept.

        Only for local file systems, where neither chown nor chmod moves a time: there one stat, after the times, tells
        what a folder's default group or ACL made of the temp, and what the mirror keeps. The mode goes last: until the
        owner is right, nobody else may read it.
        """
        for name, value in xattrs.items():
            self._try("xattr", 0, lambda n=name, v=value: os.setxattr(descriptor, n, v))  # type: ignore[misc]
        try:
            os.utime(descriptor, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        except OSError as error:
            self._refuse("times", 0, error)
        made = os.fstat(descriptor)
        if made.st_uid != wanted.st_uid or made.st_gid != wanted.st_gid:
            self._own(lambda uid, gid: os.fchown(descriptor, uid, gid), made, wanted)
        mode = kept_mode(wanted.st_mode)
        if stat.S_IMODE(made.st_mode) != mode:
            try:
                os.fchmod(descriptor, mode)
            except OSError as error:
                self._refuse("mode", 0, error)
        return made

    def apply_to_link(self, name: bytes, folder: int, wanted: os.stat_result) -> bool:
        """Give a symlink the wanted owner and times; True if anything really changed."""
        before = os.stat(single(name), dir_fd=folder, follow_symlinks=False)
        self._own(
            lambda uid, gid: os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False),
            before,
            wanted,
        )
        times = (wanted.st_atime_ns, wanted.st_mtime_ns)
        if before.st_mtime_ns != wanted.st_mtime_ns:
            self._try("times", 0, lambda: os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False))
        return _visible(os.stat(name, dir_fd=folder, follow_symlinks=False)) != _visible(before)

    def _own(self, chown: Callable[[int, int], None], before: os.stat_result, wanted: os.stat_result) -> None:
        uid, gid = wanted.st_uid, wanted.st_gid
        if (before.st_uid, before.st_gid) == (uid, gid) or self._try("owner", uid, lambda: chown(uid, gid)):
            return
        # Who may not give a file away may still give it to another of their groups.
        if before.st_gid != gid:
            self._try("group", gid, lambda: chown(_UNCHANGED_ID, gid))

    def _set_xattrs(self, descriptor: int, wanted: dict[bytes, bytes]) -> bool:
        if ("xattr", 0) in self._given_up:
            return False
        try:
            present = user_xattrs(descriptor)
        except OSError:
            present = {}
        if present == wanted:
            return False
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if not mode & stat.S_IWUSR:
            # Who may not write to their own file may not give it attributes either; its mode is set after this.
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, mode | stat.S_IWUSR)
        changed = False
        for name in present.keys() - wanted.keys():
            changed |= self._try("xattr", 0, lambda n=name: os.removexattr(descriptor, n))  # type: ignore[misc]
        for name, value in wanted.items():
            if present.get(name) != value:
                changed |= self._try("xattr", 0, lambda n=name, v=value: os.setxattr(descriptor, n, v))  # type: ignore[misc]
        return changed

    def _try(self, what: str, which: int, action: Callable[[], None]) -> bool:
        if (what, which) in self._given_up:
            return False
        try:
            action()
        except OSError as error:
            self._refuse(what, which, error)
            return False
        return True

    def _refuse(self, what: str, which: int, error: OSError) -> None:
        if error.errno not in _REFUSED and not (what == "xattr" and error.errno in _TOO_BIG):
            raise error
        kind = "owner" if what == "group" else what
        if kind not in self._told:
            self._told.add(kind)
            self._untold.append(Refused(kind, error.strerror or str(error)))
        if what in {"owner", "group"} or error.errno == errno.ENOTSUP:
            self._given_up.add((what, which))


def user_xattrs(descriptor: int) -> dict[bytes, bytes]:
    """Read the `user.*` extended attributes of an open file or folder; none where they are not supported."""
    try:
        names = os.listxattr(descriptor)
    except OSError as error:
        if error.errno in _REFUSED:
            return {}
        raise
    found = {}
    for name in names:
        if name.startswith("user."):
            with contextlib.suppress(FileNotFoundError):
                found[os.fsencode(name)] = _value(descriptor, name)
    return found


def _value(descriptor: int, name: str) -> bytes:
    try:
        return os.getxattr(descriptor, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise FileNotFoundError from None
        raise


def _visible(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns
