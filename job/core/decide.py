"""Decide the action for one entry from its source, its mirror and its index record. Pure.

Each decision has a reason in words, which the log and the dry run show. ctime cannot be set by a user, so an edit that
keeps size and mtime is noticed: the content is hashed, and copied only if it changed.
"""

from enum import StrEnum
from stat import S_IFBLK, S_IFCHR, S_IFLNK, S_IFREG
from typing import NamedTuple

from job.core.entry import STATE_FOLDER, TYPE_BITS, Entry, Kind, is_reserved
from job.core.outcome import Drift
from job.core.record import CLOCK_GRAIN_NS, Record, is_by

_DEVICES = {S_IFBLK, S_IFCHR}
NEW = "new"
"""Reason to copy an entry that neither the mirror nor the index has."""
MODIFIED = "modified"
"""Reason to copy a file whose mtime or size differs from the record."""
NODEV_SOURCE = "the source is mounted nodev, so that devices have no effect there: none is made in the mirror"


class Action(StrEnum):
    """The action for an entry."""

    KEEP = "keep"
    """Nothing."""
    COPY = "copy"
    """Copy the content, or create the symlink or special file, under a temporary name, then rename it."""
    COMPARE_SOURCE = "compare_source"
    """Hash the source; copy only if the hash differs from the index record."""
    COMPARE_BOTH = "compare_both"
    """Hash both sides, or compare both symlinks or special files; copy only if they differ."""
    MAKE_FOLDER = "make_folder"
    """Create the folder; replace a non-folder of the same name."""
    NOTE = "note"
    """The mirror's file system does not support it: store in the index what a restore needs."""
    SKIP_SPECIAL = "skip_special"
    """Count it; never open it."""
    REFUSE_NAME = "refuse_name"
    """The name is reserved for Truecopy."""


class Decision(NamedTuple):
    """A decision about one entry."""

    action: Action
    entry: Entry
    reason: str
    drift: Drift | None = None
    """Set if the mirror differs from its record; for COMPARE_BOTH it applies if the contents differ."""


class Policy(NamedTuple):
    """The options and capabilities that decisions depend on."""

    checksum: str
    """Algorithm in force."""
    read_everything: bool
    """`compare: checksum`: compare all contents, even if times are equal."""
    specials: bool = False
    """Whether FIFOs, sockets and devices are created in the mirror."""
    fifos: bool = True
    """Whether the mirror supports FIFOs and sockets."""
    devices: bool = True
    """Whether the mirror supports devices."""
    symlinks: bool = True
    """Whether the mirror supports symlinks."""
    hard_links: bool = True
    """Whether the mirror supports hard links."""
    nodev: bool = False
    """Whether the source is mounted nodev."""
    user: int | None = None
    """The user that Truecopy runs as; None if the mirror does not store owners."""


def is_device(entry: Entry) -> bool:
    """Return whether an entry is a device."""
    return entry.mode & TYPE_BITS in _DEVICES


def why_unsupported(source: Entry, policy: Policy) -> str:
    """Return why the mirror cannot hold an entry of this kind; empty if it can."""
    kind = source.mode & TYPE_BITS
    if kind == S_IFLNK and not policy.symlinks:
        return "the mirror's file system holds no symlinks"
    if kind in _DEVICES and policy.nodev:
        return NODEV_SOURCE
    if kind in _DEVICES and not policy.devices:
        return "devices cannot be made in the mirror by this user"
    if source.kind is Kind.SPECIAL and kind not in _DEVICES and not policy.fifos:
        return "the mirror's file system holds no FIFOs or sockets"
    return ""


def is_mirrored(source: Entry, policy: Policy) -> bool:
    """Return whether the mirror gets an entry of this kind, under any name."""
    return source.kind is Kind.FOLDER or not (
        (source.kind is Kind.SPECIAL and not policy.specials) or why_unsupported(source, policy)
    )


def is_unchanged(source: Entry, mirror: Entry | None, record: Record, policy: Policy) -> bool:
    """Return whether both sides match the record, the case of nearly all entries; False leaves it to `decide`.

    `decide` would return KEEP then, unless contents are always compared. Records of names and kinds that never have one
    are ignored: the index may be hostile.
    """
    if record.source != source or record.mirror != mirror or record.racy:
        return False
    kind = source.mode & TYPE_BITS
    if record.mirror.mode & TYPE_BITS != kind:
        return False
    if kind == S_IFREG:
        known = record.checksum.startswith(policy.checksum + ":") or is_by(record.checksum, policy.checksum)
    else:
        known = kind == S_IFLNK and policy.symlinks
    return known and not source.name.startswith(STATE_FOLDER)


def decide(path: bytes, source: Entry, mirror: Entry | None, record: Record | None, policy: Policy) -> Decision:
    """Decide about the source entry at `path`; `mirror` and `record` are None if they do not exist."""
    if is_reserved(path):
        return Decision(Action.REFUSE_NAME, source, "Truecopy keeps this name for itself")
    kind = source.kind
    if kind is Kind.SPECIAL and not policy.specials:
        return Decision(Action.SKIP_SPECIAL, source, "a FIFO, socket or device")
    if kind is Kind.FOLDER:
        return _decide_folder(source, mirror)
    if kind is not Kind.FILE and (why := why_unsupported(source, policy)):
        return Decision(Action.NOTE, source, why)
    return _decide_content(source, mirror, record, policy)


def _decide_content(source: Entry, mirror: Entry | None, record: Record | None, policy: Policy) -> Decision:
    if mirror is None:
        if record is None:
            return Decision(Action.COPY, source, NEW)
        return Decision(Action.COPY, source, "missing in the mirror", Drift.MISSING)
    if mirror.kind is not source.kind:
        drift = Drift.REPLACED if record is not None and record.source.kind is source.kind else None
        return Decision(Action.COPY, source, f"the mirror has a {mirror.kind} here", drift)
    if record is not None and record.mirror == mirror:
        return _decide_recorded(source, record, policy)
    return _decide_unrecorded(source, mirror, record, policy)


def _decide_folder(source: Entry, mirror: Entry | None) -> Decision:
    if mirror is None:
        return Decision(Action.MAKE_FOLDER, source, "new folder")
    if mirror.kind is not Kind.FOLDER:
        return Decision(Action.MAKE_FOLDER, source, f"the mirror has a {mirror.kind} here")
    return Decision(Action.KEEP, source, "folder")


def _decide_recorded(source: Entry, record: Record, policy: Policy) -> Decision:
    before = record.source
    has_content = source.kind is Kind.FILE
    if policy.read_everything:
        return Decision(Action.COMPARE_BOTH, source, "contents are always compared", Drift.CONTENT)
    if source == before and not record.racy:
        if not has_content or is_by(record.checksum, policy.checksum):
            return Decision(Action.KEEP, source, "unchanged")
        return Decision(Action.COMPARE_BOTH, source, "another checksum algorithm is configured", Drift.CONTENT)
    if source.size != before.size:
        return Decision(Action.COPY, source, "size changed")
    if source.mtime_ns != before.mtime_ns:
        return Decision(Action.COPY, source, MODIFIED)
    both = not has_content or not is_by(record.checksum, policy.checksum)
    return Decision(Action.COMPARE_BOTH if both else Action.COMPARE_SOURCE, source, _why_compare(source, before))


def _why_compare(source: Entry, before: Entry) -> str:
    if source == before:
        return "it was very young when it was last read, or done under other options"
    if source.mode != before.mode:
        return "mode changed"
    if (source.uid, source.gid) != (before.uid, before.gid):
        return "owner changed"
    return "ctime moved though size and mtime did not"


def _decide_unrecorded(source: Entry, mirror: Entry, record: Record | None, policy: Policy) -> Decision:
    if why := why_untrusted(source, mirror, record, policy):
        left = record is not None and record.source == source
        return Decision(Action.COPY, source, why, Drift.REPLACED if left else None)
    if record is None:
        if source.kind is Kind.FILE and source.size != mirror.size:
            return Decision(Action.COPY, source, "the mirror has another size and the index does not know it")
        return Decision(Action.COMPARE_BOTH, source, "the index does not know it")
    # A rename of an interrupted cycle looks like a foreign change until the contents are compared.
    if source != record.source and source.kind is Kind.FILE and source.size != mirror.size:
        return Decision(Action.COPY, source, MODIFIED)
    drift = Drift.REPLACED if mirror.inode != record.mirror.inode else Drift.CONTENT
    if source.kind is Kind.FILE and source.size != mirror.size:
        return Decision(Action.COPY, source, "the mirror was changed", drift)
    return Decision(Action.COMPARE_BOTH, source, "the mirror is not as it was left", drift)


def why_untrusted(source: Entry, mirror: Entry, record: Record | None, policy: Policy) -> str:
    """Return why a mirror entry must be replaced even if its content is equal; empty if it may be kept.

    Another user may have created it and hold it open for writing, so it must not get the source's owner or set-ID bits.
    """
    owner = mirror.uid
    if policy.user is None or owner in {source.uid, policy.user}:
        return ""
    if record is not None and (record.mirror.inode, record.mirror.uid) == (mirror.inode, owner):
        return ""
    return f"the mirror's {mirror.kind} belongs to user {owner} and is not the one that was left there"


def is_racy(source: Entry, now_ns: int) -> bool:
    """Return whether a source entry, read at `now_ns`, is too young for its times to prove that it is unchanged.

    An mtime far in the future was set by a program and is no age; a ctime there means a wrong clock.
    """
    young_ns = now_ns - CLOCK_GRAIN_NS
    return source.ctime_ns > young_ns or young_ns < source.mtime_ns <= now_ns + CLOCK_GRAIN_NS
