"""Set mode, owner, times and attributes on mirror entries, and record metadata that the mirror refuses.

A refusal is a property of the mirror (FAT has no owners, an ordinary user may not give files away), not a failure of
the file. It is reported once for each kind: `owner`, `mode`, `times`, `acl`, `xattr`, `hard_links`, `symlink_metadata`;
`nosuid` for set-ID bits and capabilities without effect in the source; `source_xattr` and `source_xattr_size` for
source attributes that cannot be read or are too large.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from job.core.acl import ACCESS_ACL, acl_for_other_group, mode_for_other_group, mode_without_acl
from job.core.entry import kept_mode
from job.core.record import CLOCK_GRAIN_NS
from job.fs.dircursor import PathHandle
from job.fs.mounts import NOSUID
from job.fs.rights import refusal_reason
from job.fs.xattrs import (
    ATTRIBUTES,
    DEFAULT_ACL,
    REFUSED,
    TOO_LARGE,
    PartlyRead,
    Target,
    is_acl,
    limited_mode,
    read_attributes,
    read_readable,
    remove_attribute,
    set_attribute,
    with_acl,
)

_UNCHANGED_ID = -1
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
_PERMISSIONS = 0o7777
_OWN_BITS = 0o7700

_NO_ATTRIBUTE = {errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EIO}
"""The attribute does not fit, though the file may; some file systems return EIO for any attribute. A failing disk also
fails on the content.
"""
_NOT_KEPT = OSError(errno.ENOTSUP, "taken without an error, but not kept")
_CAPABILITIES = b"security.capability"
_NO_EFFECT = OSError(
    errno.ENOTSUP,
    "the source is mounted nosuid, so that set-ID bits and capabilities have no effect there: they are not kept",
)
_OF_OTHERS = OSError(
    errno.ENOTSUP, "the owner or group could not be kept, and nobody else gets the rights that were theirs"
)
_NOT_OF_ITS_OWN = OSError(errno.ENOTSUP, "the file system would set them on what the symlink points to")


class MetadataRefusal(NamedTuple):
    """A kind of metadata that a mirror refused, and the error text."""

    what: str
    error: str


class MetadataWriter:
    """Sets metadata on mirror entries. One instance for each mirror and cycle: it remembers refused operations."""

    def __init__(
        self,
        *,
        security: bool = False,
        setuid: bool = False,
        grain_ns: int = 1,
        symlinks: bool = True,
        owners: bool = False,
        modes: bool = False,
    ) -> None:
        """`security` keeps `security.*` and `trusted.*` attributes, `setuid` keeps set-ID bits.

        `grain_ns` is the mirror's time resolution. Without `symlinks` no metadata is set on symlinks, because the file
        system would set it on their targets. `owners` and `modes`: the mirror keeps these if setting them succeeds.
        """
        self._owners, self._modes = owners, modes
        self._symlinks = symlinks
        self._grain_ns = grain_ns
        self.inherits_nothing = False
        self._user = os.geteuid()
        self.entered: dict[bytes, bytes] = {}
        """Attributes of the current mirror folder."""
        self.security = security
        self._setuid = setuid
        self._nosuid = False
        self.unreported: list[MetadataRefusal] = []
        """Refusals that `take_refusals` has not returned yet."""
        self._reported: set[str] = set()
        self._given_up: set[tuple[str, int | bytes]] = set()
        self._unread = 0
        self.denied = 0
        """Number of modes that could not be set on a mirror with modes; the next cycle tries again."""

    def take_refusals(self) -> list[MetadataRefusal]:
        """Return each new kind of refusal once."""
        refusals, self.unreported = self.unreported, []
        return refusals

    def attributes_of(self, target: Target) -> dict[bytes, bytes]:
        """Read the extended attributes to copy, including ACLs. Raises `OSError`."""
        return read_attributes(target, security=self.security)

    def of_source(self, target: Target) -> dict[bytes, bytes]:
        """Read the attributes of a source entry; on failure report, count, and return a `PartlyRead`.

        The content is still copied: rclone mounts return I/O errors here. Raises `FileNotFoundError`.
        """
        names: list[str] | None = None
        if type(target) is int:
            try:
                names = os.listxattr(target)
            except OSError as error:
                names = [] if error.errno in REFUSED else None  # `read_attributes` handles other errors
            if names == []:
                return {}  # the usual case
        try:
            found = read_attributes(target, names, security=self.security)
        except FileNotFoundError:
            raise
        except OSError as error:
            text = f"the source's attributes cannot be read: {error.strerror}"
            self.refused("source_xattr", OSError(error.errno, text))
            self._unread += 1
            return read_readable(target, security=self.security)
        if isinstance(found, PartlyRead):
            self.note_too_large(f"{len(found)} of the source's attributes are kept: {TOO_LARGE}")
        if self._nosuid and found.pop(_CAPABILITIES, None) is not None:
            self.refused("nosuid", _NO_EFFECT)
        return found

    def note_too_large(self, text: str) -> None:
        """Report and count a source entry with too many attributes to keep."""
        self.refused("source_xattr_size", OSError(errno.E2BIG, text))
        self._unread += 1

    def take_unread(self) -> int:
        """Return the number of source entries with unread attributes since the last call."""
        unread, self._unread = self._unread, 0
        return unread

    def mode_of(self, mode: int) -> int:
        """Return the permission bits for the mirror of an entry with this st_mode."""
        # Called twice for each copy; special bits are rare.
        if not mode & _SPECIAL_BITS:
            return mode & _PERMISSIONS
        if self._setuid and self._nosuid and stat.S_ISREG(mode):
            self.refused("nosuid", _NO_EFFECT)
        return kept_mode(mode, setuid=self._setuid and not self._nosuid)

    def enter(self, attributes: dict[bytes, bytes], owner: int) -> None:
        """Set the current mirror folder, and decide whether new entries may inherit an ACL from it.

        Most folders have no default ACL, so the attributes of new copies need not be read. Another `owner` may add one
        at any time, so there they are read. A folder new in this run belongs to this user until it is complete.
        """
        self.entered = attributes
        self.inherits_nothing = not self.security and DEFAULT_ACL not in attributes and owner in {0, self._user}

    def leave(self, restrictions: str = "") -> None:
        """Leave the mirror folder: new entries may inherit an ACL. `restrictions` are those of the source folder."""
        self.inherits_nothing = False
        self.restrict(restrictions)

    def restrict(self, restrictions: str) -> None:
        """From now on, set only metadata that has an effect under these mount restrictions of the source folder."""
        self._nosuid = NOSUID in restrictions

    def mode_for(
        self, wanted: os.stat_result, found: os.stat_result, attributes: dict[bytes, bytes], *, acls: bool
    ) -> int:
        """Return the permission bits for an entry with owner and group of `found`; `acls`: the mirror keeps ACLs."""
        mode, fitting = self._limit_to_owner(wanted, found, attributes)
        return mode if acls else limited_mode(mode, fitting or {}, {})

    def suits(self, found: os.stat_result, wanted: os.stat_result) -> bool:
        """Return whether mode, owner and mtime of a mirror entry match; attributes are not compared."""
        if not self._symlinks and stat.S_ISLNK(found.st_mode):
            return True  # nothing can be set
        return (
            abs(found.st_mtime_ns - wanted.st_mtime_ns) < self._grain_ns
            and _is_owned(found, wanted)
            and stat.S_IMODE(found.st_mode) == self.mode_of(wanted.st_mode)
        )

    def refused(self, what: str, error: OSError) -> None:
        """Record once that the mirror does not keep a kind of metadata."""
        if what not in self._reported:
            self._reported.add(what)
            self.unreported.append(MetadataRefusal(what, refusal_reason(what, error)))

    def apply(self, descriptor: int, wanted: os.stat_result, xattrs: dict[bytes, bytes] | None) -> bool:
        """Set the wanted metadata on an open mirror file or folder; True if anything changed.

        The owner comes first because chown clears mode bits, times come last because other calls may change them.
        Rights are revoked before an owner or ACL changes and granted after. `xattrs` None leaves attributes alone.
        """
        found = before = os.fstat(descriptor)
        if not _is_owned(before, wanted):
            self._revoke(before, wanted, lambda mode: os.fchmod(descriptor, mode))
            done = self._chown(lambda uid, gid: os.fchown(descriptor, uid, gid), before, wanted)
            found = wanted if done and self._owners else os.fstat(descriptor)
        mode, attributes = self._limit_to_owner(wanted, found, xattrs)
        changed = False
        if attributes is not None:
            changed, held = self._set_attributes(descriptor, attributes)
            mode = limited_mode(mode, attributes, held)
        now = os.fstat(descriptor)
        if stat.S_IMODE(now.st_mode) != mode:
            self._try("mode", 0, lambda: os.fchmod(descriptor, mode))
        times = (wanted.st_atime_ns, wanted.st_mtime_ns)
        if before.st_mtime_ns != wanted.st_mtime_ns:
            self._try("times", 0, lambda: os.utime(descriptor, ns=times))
        after = os.fstat(descriptor)
        self._report_lost(after, wanted, mode)
        return changed or _visible(after) != _visible(before)

    def _report_lost(self, after: os.stat_result, wanted: os.stat_result, mode: int) -> None:
        """Report metadata that was set without an error but not kept, as on NTFS, exFAT and SMB servers."""
        if not _is_owned(after, wanted):
            self.refused("owner", _NOT_KEPT)
        if stat.S_IMODE(after.st_mode) != mode:
            self.refused("mode", _NOT_KEPT)
        if abs(after.st_mtime_ns - wanted.st_mtime_ns) > CLOCK_GRAIN_NS:
            self.refused("times", _NOT_KEPT)

    def _revoke(self, before: os.stat_result, wanted: os.stat_result, chmod: Callable[[int], None]) -> None:
        """Revoke the rights of group and others before the owner or group changes, unless that was refused before."""
        mode = stat.S_IMODE(before.st_mode)
        if mode & ~_OWN_BITS and not {("owner", wanted.st_uid), ("group", wanted.st_gid)} & self._given_up:
            with contextlib.suppress(OSError):  # without this right, chown fails too
                chmod(mode & _OWN_BITS)

    def _limit_to_owner(
        self, wanted: os.stat_result, found: os.stat_result, xattrs: dict[bytes, bytes] | None
    ) -> tuple[int, dict[bytes, bytes] | None]:
        """Return mode and attributes for an entry with owner and group of `found`, so that no user gains a right."""
        mode = self.mode_of(wanted.st_mode)
        if _is_owned(found, wanted):
            return mode, xattrs
        if mode & _SPECIAL_BITS and stat.S_ISREG(wanted.st_mode):
            mode &= ~_SPECIAL_BITS  # they would grant another user's rights
        limited = mode
        if found.st_uid != wanted.st_uid:
            limited &= _OWN_BITS | (mode >> 6 & 7) * 0o11  # the wanted owner falls under "others"
        if found.st_gid != wanted.st_gid:
            acl = (xattrs or {}).get(ACCESS_ACL)
            changed = None if acl is None else acl_for_other_group(acl, limited)
            if xattrs is None or changed is None:
                limited = mode_for_other_group(mode_without_acl(limited, acl))
            else:
                value, limited = changed
                xattrs = with_acl(xattrs, value)
        if limited != mode:
            self.refused("mode", _OF_OTHERS)
        return limited, xattrs

    def set_initial(
        self, descriptor: int, wanted: os.stat_result, xattrs: dict[bytes, bytes], made: os.stat_result | None = None
    ) -> os.stat_result:
        """Set the wanted metadata on a new, complete temp; return `made`, or its stat after the times were set.

        Only for local file systems, where chown and chmod leave times alone: one stat shows the inherited group and ACL
        and the metadata that the mirror keeps. The mode is set last, after the owner and the removal of that ACL.
        """
        try:
            os.utime(descriptor, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        except OSError as error:
            self._refuse("times", 0, error)
        found = made = made or os.fstat(descriptor)
        if not _is_owned(made, wanted):
            done = self._chown(lambda uid, gid: os.fchown(descriptor, uid, gid), made, wanted)
            found = wanted if done and self._owners else os.fstat(descriptor)
        mode, attributes = self.mode_of(wanted.st_mode), xattrs
        if found is not wanted and not _is_owned(found, wanted):
            mode, fitting = self._limit_to_owner(wanted, found, xattrs)
            attributes = fitting or xattrs
        changed = False
        if attributes or not self.inherits_nothing:
            # After the owner, since chown clears capabilities. The folder's default ACL may have added an ACL.
            changed, held = self._set_attributes(descriptor, attributes)
            mode = limited_mode(mode, attributes, held)
        if changed or stat.S_IMODE(made.st_mode) != mode:
            try:
                os.fchmod(descriptor, mode)
            except OSError as error:
                self._refuse("mode", 0, error)
        return made

    def apply_at(
        self, handle: PathHandle, wanted: os.stat_result, attributes: dict[bytes, bytes] | None = None
    ) -> bool:
        """Set the wanted metadata on a symlink or special file, without opening it; True if anything changed."""
        found = before = os.fstat(handle)
        is_link = stat.S_ISLNK(before.st_mode)
        if not self._symlinks and is_link:
            self.refused("symlink_metadata", _NOT_OF_ITS_OWN)
            return False
        if not _is_owned(before, wanted):
            if not is_link:
                self._revoke(before, wanted, lambda mode: os.chmod(handle.path, mode))
            self._chown(lambda uid, gid: os.chown(handle.path, uid, gid), before, wanted)
            found = os.fstat(handle)
        mode = self.mode_of(wanted.st_mode)
        if not is_link:
            mode, attributes = self._limit_to_owner(wanted, found, attributes)
        changed = False
        if attributes is not None:
            changed, held = self._set_attributes(handle, attributes)
            mode = limited_mode(mode, attributes, held)
        # A link has no mode of its own.
        if not is_link and (stat.S_IMODE(found.st_mode) != mode or changed):
            self._try("mode", 0, lambda: os.chmod(handle.path, mode))
        times = (wanted.st_atime_ns, wanted.st_mtime_ns)
        if before.st_mtime_ns != wanted.st_mtime_ns:
            # A refusal for a link or device does not hold for files.
            self._try("times", 1, lambda: os.utime(handle.path, ns=times))
        return changed or _visible(os.fstat(handle)) != _visible(before)

    def _chown(self, chown: Callable[[int, int], None], before: os.stat_result, wanted: os.stat_result) -> bool:
        """Set owner and group; False if one of them was refused."""
        uid, gid = wanted.st_uid, wanted.st_gid
        if (before.st_uid, before.st_gid) == (uid, gid) or self._try("owner", uid, lambda: chown(uid, gid)):
            return True
        # An unprivileged user may still set any of their own groups.
        if before.st_gid != gid:
            self._try("group", gid, lambda: chown(_UNCHANGED_ID, gid))
        return False

    def _set_attributes(self, target: Target, wanted: dict[bytes, bytes]) -> tuple[bool, dict[bytes, bytes]]:
        """Set the wanted attributes and remove all others; return whether any changed, and the resulting attributes."""
        before = present = self.present(target)
        if before == wanted:
            return False, before
        keeps = isinstance(wanted, PartlyRead) and not wanted.is_for_new
        surplus = () if keeps else present.keys() - wanted.keys()
        if isinstance(target, int) and not isinstance(target, PathHandle):
            mode = stat.S_IMODE(os.fstat(target).st_mode)
            if not mode & stat.S_IWUSR or (ACCESS_ACL in surplus and mode & stat.S_IRWXG):
                # Setting attributes needs write permission, even for the owner; removing the ACL would turn its mask
                # into the group's rights. The final mode is set later.
                with contextlib.suppress(OSError):
                    os.fchmod(target, (mode | stat.S_IWUSR) & ~(stat.S_IRWXG if ACCESS_ACL in surplus else 0))
                present = self.present(target)  # chmod changes the ACL
        for name in surplus:
            self._try(*_kind(name), partial(remove_attribute, target, name))
        # ACLs last: they may remove write permission.
        for name in sorted(wanted, key=is_acl):
            if present.get(name) != wanted[name]:
                self._try(*_kind(name), partial(set_attribute, target, name, wanted[name]))
        now = self.present(target)
        for name, _ in wanted.items() - now.items():
            self.refused(_kind(name)[0], _NOT_KEPT)  # NTFS accepts ACLs and drops them
        return now != before, now

    def present(self, target: Target) -> dict[bytes, bytes]:
        """Return the attributes of a mirror entry; empty if they cannot be read."""
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
        self.denied += what == "mode" and self._modes
        self.refused("owner" if what == "group" else what, error)
        if what in {"owner", "group"} or error.errno == errno.ENOTSUP:
            self._given_up.add((what, which))


def _kind(name: bytes) -> tuple[str, bytes]:
    # A file system may support `user.*` only, so each namespace is given up separately.
    return "acl" if is_acl(name) else "xattr", name.partition(b".")[0]


def _is_owned(found: os.stat_result, wanted: os.stat_result) -> bool:
    return found.st_uid == wanted.st_uid and found.st_gid == wanted.st_gid


def _visible(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns
