"""Carry mode, owner, times and attributes over, on open descriptors only, and remember what the mirror refuses.

A refusal is a fact about the mirror (FAT has no owners, an ordinary user may not give files away), not a failure of the
file: it is reported once for each kind, `owner`, `mode`, `times`, `acl`, `xattr`, `hard_links` or
`symlink_metadata`. So are attributes of the source that cannot be read (`source_xattr`).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from job.core.entry import kept_mode
from job.core.record import CLOCK_GRAIN_NS
from job.files.attributes import (
    ATTRIBUTES,
    DEFAULT_ACL,
    REFUSED,
    PartlyRead,
    Target,
    is_acl,
    read_attributes,
    read_readable,
    remove_attribute,
    set_attribute,
)
from job.files.rights import why_not
from job.files.trail import Place

_UNCHANGED_ID = -1
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
_PERMISSIONS = 0o7777

_NO_ATTRIBUTE = {errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EIO}
"""What file systems say of an attribute that does not fit beside the file, which may well fit itself; and, with EIO, of
any attribute at all. A disk that fails says so of the content, too.
"""


_NOT_KEPT = OSError(errno.ENOTSUP, "taken without an error, but not kept")
_NOT_OF_ITS_OWN = OSError(errno.ENOTSUP, "the file system would set them on what the symlink points to")


class Refused(NamedTuple):
    """What a mirror would not take, and the words of the operating system."""

    what: str
    error: str


class Keeper:
    """Puts metadata on mirror entries. One for each mirror and cycle: it learns what that mirror cannot hold."""

    def __init__(
        self, *, security: bool = False, setuid: bool = False, grain_ns: int = 1, symlinks: bool = True
    ) -> None:
        """`security` and `setuid` carry over, too, what gives rights to a program or belongs to the kernel.

        `grain_ns` is to how many nanoseconds the mirror keeps times. Without `symlinks` nothing is ever set on one, for
        it would be set on what the link points to.
        """
        self._symlinks = symlinks
        self._grain_ns = grain_ns
        self._bare = False
        self.entered: dict[bytes, bytes] = {}
        """The attributes of the mirror folder that was entered last."""
        self._security = security
        self._setuid = setuid
        self._untold: list[Refused] = []
        self._told: set[str] = set()
        self._given_up: set[tuple[str, int | bytes]] = set()
        self._unread = 0

    def news(self) -> list[Refused]:
        """Give each kind of refusal once, the first time it was met."""
        news, self._untold = self._untold, []
        return news

    def attributes_of(self, target: Target) -> dict[bytes, bytes]:
        """Read the extended attributes of something that are carried over, ACLs among them. Raises `OSError`."""
        return read_attributes(target, security=self._security)

    def of_source(self, target: Target) -> dict[bytes, bytes]:
        """Read the attributes of an entry of the source; `PartlyRead` if that fails, which is noted and counted.

        Content must not stay away for their sake: rclone's mounts have answered with I/O errors. Raises
        `FileNotFoundError`.
        """
        try:
            return read_attributes(target, security=self._security)
        except FileNotFoundError:
            raise
        except OSError as error:
            text = f"the source's attributes cannot be read: {error.strerror}"
            self.refused("source_xattr", OSError(error.errno, text))
            self._unread += 1
            return read_readable(target, security=self._security)

    def take_unread(self) -> int:
        """Give how often attributes of the source could not be read since this was asked last."""
        unread, self._unread = self._unread, 0
        return unread

    def mode_of(self, mode: int) -> int:
        """Give the permission bits that the mirror of something with such an st_mode is to have."""
        # Asked twice for each copy, and hardly ever of anything that has such bits.
        return kept_mode(mode, setuid=self._setuid) if mode & _SPECIAL_BITS else mode & _PERMISSIONS

    def enter(self, folder: int) -> None:
        """Look whether what is made in an open mirror folder has ACLs by that; until the next one is entered.

        Saves a look at each copy: most folders give nothing down, and what the kernel gives is not asked for.
        """
        self.entered = self.present(folder)
        self._bare = not self._security and not self.entered.keys() & {DEFAULT_ACL}

    def leave(self) -> None:
        """Take nothing for granted of what is made from now on."""
        self._bare = False

    def suits(self, found: os.stat_result, wanted: os.stat_result) -> bool:
        """Tell whether a mirror's mode, owner and times are what they are to be; attributes are not looked at."""
        if not self._symlinks and stat.S_ISLNK(found.st_mode):
            return True  # it cannot be given others
        return (
            abs(found.st_mtime_ns - wanted.st_mtime_ns) < self._grain_ns
            and _is_owned(found, wanted)
            and stat.S_IMODE(found.st_mode) == self.mode_of(wanted.st_mode)
        )

    def refused(self, what: str, error: OSError) -> None:
        """Note that the mirror does not keep something, to be told once."""
        if what not in self._told:
            self._told.add(what)
            self._untold.append(Refused(what, why_not(what, error)))

    def apply(self, descriptor: int, wanted: os.stat_result, xattrs: dict[bytes, bytes] | None) -> bool:
        """Give an open mirror file or folder the wanted metadata; True if anything really changed.

        The owner goes first because chown clears mode bits, times go last because everything else may move them.
        `xattrs` None leaves them alone.
        """
        before = os.fstat(descriptor)
        self._own(lambda uid, gid: os.fchown(descriptor, uid, gid), before, wanted)
        changed = xattrs is not None and self._set_attributes(descriptor, xattrs)
        now = os.fstat(descriptor)
        mode = self._mode_for(wanted, now)
        if stat.S_IMODE(now.st_mode) != mode:
            self._try("mode", 0, lambda: os.fchmod(descriptor, mode))
        times = (wanted.st_atime_ns, wanted.st_mtime_ns)
        if before.st_mtime_ns != wanted.st_mtime_ns:
            self._try("times", 0, lambda: os.utime(descriptor, ns=times))
        after = os.fstat(descriptor)
        self._tell_lost(after, wanted, mode)
        return changed or _visible(after) != _visible(before)

    def _tell_lost(self, after: os.stat_result, wanted: os.stat_result, mode: int) -> None:
        """Note what the mirror took without a word and did not keep, as NTFS, exFAT and servers for Windows do."""
        if not _is_owned(after, wanted):
            self.refused("owner", _NOT_KEPT)
        if stat.S_IMODE(after.st_mode) != mode:
            self.refused("mode", _NOT_KEPT)
        if abs(after.st_mtime_ns - wanted.st_mtime_ns) > CLOCK_GRAIN_NS:
            self.refused("times", _NOT_KEPT)

    def _mode_for(self, wanted: os.stat_result, now: os.stat_result) -> int:
        mode = self.mode_of(wanted.st_mode)
        if mode & _SPECIAL_BITS and stat.S_ISREG(wanted.st_mode) and not _is_owned(now, wanted):
            return mode & ~_SPECIAL_BITS  # it would give the rights of somebody else
        return mode

    def dress(self, descriptor: int, wanted: os.stat_result, xattrs: dict[bytes, bytes]) -> os.stat_result:
        """Give a temp of ours, new and complete, the wanted metadata; gives its size, inode and times as they are kept.

        Only for local file systems, where neither chown nor chmod moves a time: there one stat, after the times, tells
        what a folder's default group or ACL made of the temp, and what the mirror keeps. The mode goes last: until the
        owner is right, nobody else may read it.
        """
        try:
            os.utime(descriptor, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        except OSError as error:
            self._refuse("times", 0, error)
        made = os.fstat(descriptor)
        if not _is_owned(made, wanted):
            self._own(lambda uid, gid: os.fchown(descriptor, uid, gid), made, wanted)
        # After the owner, since chown takes capabilities away; the folder's default ACL may have given it one, too.
        changed = bool(xattrs or not self._bare) and self._set_attributes(descriptor, xattrs)
        mode = self.mode_of(wanted.st_mode)
        if mode & _SPECIAL_BITS:
            mode = self._mode_for(wanted, os.fstat(descriptor))
        if changed or stat.S_IMODE(made.st_mode) != mode:
            try:
                os.fchmod(descriptor, mode)
            except OSError as error:
                self._refuse("mode", 0, error)
        return made

    def apply_at(self, place: Place, wanted: os.stat_result, attributes: dict[bytes, bytes] | None = None) -> bool:
        """Give a symlink or special file, which is not opened, the wanted metadata; True if anything really changed."""
        before = os.fstat(place)
        if not self._symlinks and stat.S_ISLNK(before.st_mode):
            self.refused("symlink_metadata", _NOT_OF_ITS_OWN)
            return False
        self._own(lambda uid, gid: os.chown(place.path, uid, gid), before, wanted)
        mode = self.mode_of(wanted.st_mode)
        changed = attributes is not None and self._set_attributes(place, attributes)
        # A link has no mode of its own.
        if not stat.S_ISLNK(before.st_mode) and (stat.S_IMODE(before.st_mode) != mode or changed):
            self._try("mode", 0, lambda: os.chmod(place.path, mode))
        times = (wanted.st_atime_ns, wanted.st_mtime_ns)
        if before.st_mtime_ns != wanted.st_mtime_ns:
            # That a link or device takes no times says nothing about files.
            self._try("times", 1, lambda: os.utime(place.path, ns=times))
        return changed or _visible(os.fstat(place)) != _visible(before)

    def _own(self, chown: Callable[[int, int], None], before: os.stat_result, wanted: os.stat_result) -> None:
        uid, gid = wanted.st_uid, wanted.st_gid
        if (before.st_uid, before.st_gid) == (uid, gid) or self._try("owner", uid, lambda: chown(uid, gid)):
            return
        # Who may not give a file away may still give it to another of their groups.
        if before.st_gid != gid:
            self._try("group", gid, lambda: chown(_UNCHANGED_ID, gid))

    def _set_attributes(self, target: Target, wanted: dict[bytes, bytes]) -> bool:
        before = present = self.present(target)
        if before == wanted:
            return False
        if isinstance(target, int) and not isinstance(target, Place):
            mode = stat.S_IMODE(os.fstat(target).st_mode)
            if not mode & stat.S_IWUSR:
                # Who may not write to their own file may not give it attributes either; its mode is set after this.
                with contextlib.suppress(OSError):
                    os.fchmod(target, mode | stat.S_IWUSR)
                present = self.present(target)  # what an ACL grants the owner went with it
        for name in () if isinstance(wanted, PartlyRead) else present.keys() - wanted.keys():
            self._try(*_kind(name), partial(remove_attribute, target, name))
        # ACLs go last: they may take from the owner what the others need.
        for name in sorted(wanted, key=is_acl):
            if present.get(name) != wanted[name]:
                self._try(*_kind(name), partial(set_attribute, target, name, wanted[name]))
        now = self.present(target)
        for name, _ in wanted.items() - now.items():
            self.refused(_kind(name)[0], _NOT_KEPT)  # NTFS takes ACLs without a word
        return now != before

    def present(self, target: Target) -> dict[bytes, bytes]:
        """Give the attributes of a mirror entry; none if they cannot be read."""
        try:
            return self.attributes_of(target)
        except OSError:
            return {}

    def _try(self, what: str, which: int | bytes, action: Callable[[], None]) -> bool:
        if (what, which) in self._given_up:
            return False
        try:
            action()
        except OSError as error:
            self._refuse(what, which, error)
            return False
        return True

    def _refuse(self, what: str, which: int | bytes, error: OSError) -> None:
        if error.errno not in REFUSED and not (what in ATTRIBUTES and error.errno in _NO_ATTRIBUTE):
            raise error
        self.refused("owner" if what == "group" else what, error)
        if what in {"owner", "group"} or error.errno == errno.ENOTSUP:
            self._given_up.add((what, which))


def _kind(name: bytes) -> tuple[str, bytes]:
    # A file system may hold the attributes of users, and none of the kernel's: each family is given up by itself.
    return "acl" if is_acl(name) else "xattr", name.partition(b".")[0]


def _is_owned(found: os.stat_result, wanted: os.stat_result) -> bool:
    return found.st_uid == wanted.st_uid and found.st_gid == wanted.st_gid


def _visible(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns
