"""Decide what one entry needs, from its source, its mirror and what the index remembers. Pure.

Every decision carries its reason in words; the log, the dry run and the tests show the same ones. ctime cannot be set
by a user, so an edit that keeps size and mtime is seen: the content is hashed first and copied only if it changed.
"""

from enum import StrEnum
from stat import S_IFBLK, S_IFCHR, S_IFLNK, S_IFREG
from typing import NamedTuple

from job.core.entry import STATE_FOLDER, TYPE_BITS, Entry, Kind, is_reserved
from job.core.outcome import Drift
from job.core.record import CLOCK_GRAIN_NS, Record, is_by

_DEVICES = {S_IFBLK, S_IFCHR}
NODEV_SOURCE = "the source is mounted nodev, so that devices have no effect there: none is made in the mirror"


class Action(StrEnum):
    """What is to be done with an entry."""

    KEEP = "keep"
    """Nothing."""
    COPY = "copy"
    """Copy the content (or make the symlink or special file) beside the final name and put it in place by rename."""
    COMPARE_SOURCE = "compare_source"
    """Hash the source; copy only if it is not what the index says the mirror holds."""
    COMPARE_BOTH = "compare_both"
    """Hash both sides (or read both links, or see what special files they are); copy only if they differ."""
    MAKE_FOLDER = "make_folder"
    """Make the folder; if something else has its name, replace it."""
    NOTE = "note"
    """The mirror's file system cannot hold it: have the index hold what it takes to make it again."""
    SKIP_SPECIAL = "skip_special"
    """Count it; never open it."""
    REFUSE_NAME = "refuse_name"
    """The name is one that Truecopy keeps for itself."""


class Decision(NamedTuple):
    """A decision about one entry."""

    action: Action
    entry: Entry
    reason: str
    drift: Drift | None = None
    """Set when the mirror is not as it was left. For COMPARE_BOTH: what it is if the contents differ."""


class Policy(NamedTuple):
    """What decides besides the entries."""

    checksum: str
    """Algorithm in force."""
    read_everything: bool
    """`compare: checksum`: believe no times."""
    specials: bool = False
    """Whether FIFOs, sockets and devices are made in the mirror, too."""
    fifos: bool = True
    """Whether the mirror can hold FIFOs and sockets."""
    devices: bool = True
    """Whether the mirror can hold devices."""
    symlinks: bool = True
    """Whether the mirror can hold symlinks."""
    hard_links: bool = True
    """Whether several names in the mirror can share a file."""
    nodev: bool = False
    """Whether devices have no effect where the source's folder lies."""
    user: int | None = None
    """The user that Truecopy runs as, where the mirror keeps owners; None where it does not."""


def is_device(entry: Entry) -> bool:
    """Tell a device from all else."""
    return entry.mode & TYPE_BITS in _DEVICES


def why_unsupported(source: Entry, policy: Policy) -> str:
    """Tell why the mirror cannot hold an entry of such a kind at all; empty if it can."""
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
    """Tell whether the mirror is to have an entry, whatever its name is."""
    return source.kind is Kind.FOLDER or not (
        (source.kind is Kind.SPECIAL and not policy.specials) or why_unsupported(source, policy)
    )


def is_unchanged(source: Entry, mirror: Entry | None, record: Record, policy: Policy) -> bool:
    """Tell at little cost what is true of nearly every entry: both sides look as they were left. False is no answer.

    `decide` would have it kept then, unless contents are always compared. What an index says of names and kinds that
    have no records is not believed: it may be hostile.
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
    """Decide about one source entry at `path`; `mirror` and `record` are None where there is none."""
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
            return Decision(Action.COPY, source, "new")
        return Decision(Action.COPY, source, "missing in the mirror", Drift.MISSING)
    if mirror.kind is not source.kind:
        return _decide_type(source, mirror, record)
    if record is not None and record.mirror == mirror:
        return _decide_as_left(source, record, policy)
    return _decide_unsure(source, mirror, record, policy)


def _decide_folder(source: Entry, mirror: Entry | None) -> Decision:
    if mirror is None:
        return Decision(Action.MAKE_FOLDER, source, "new folder")
    if mirror.kind is not Kind.FOLDER:
        return Decision(Action.MAKE_FOLDER, source, f"the mirror has a {mirror.kind} here")
    return Decision(Action.KEEP, source, "folder")


def _decide_type(source: Entry, mirror: Entry, record: Record | None) -> Decision:
    reason = f"the mirror has a {mirror.kind} here"
    drifted = record is not None and record.source.kind is source.kind
    return Decision(Action.COPY, source, reason, Drift.REPLACED if drifted else None)


def _decide_as_left(source: Entry, record: Record, policy: Policy) -> Decision:
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
        return Decision(Action.COPY, source, "modified")
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


def _decide_unsure(source: Entry, mirror: Entry, record: Record | None, policy: Policy) -> Decision:
    if why := why_foreign(source, mirror, record, policy):
        left = record is not None and record.source == source
        return Decision(Action.COPY, source, why, Drift.REPLACED if left else None)
    if record is None:
        if source.kind is Kind.FILE and source.size != mirror.size:
            return Decision(Action.COPY, source, "the mirror has another size and the index does not know it")
        return Decision(Action.COMPARE_BOTH, source, "the index does not know it")
    # Our own rename of an interrupted cycle looks like a stranger's change until the contents are compared.
    if source != record.source and source.kind is Kind.FILE and source.size != mirror.size:
        return Decision(Action.COPY, source, "modified")
    drift = Drift.REPLACED if mirror.inode != record.mirror.inode else Drift.CONTENT
    if source.kind is Kind.FILE and source.size != mirror.size:
        return Decision(Action.COPY, source, "the mirror was changed", drift)
    return Decision(Action.COMPARE_BOTH, source, "the mirror is not as it was left", drift)


def why_foreign(source: Entry, mirror: Entry, record: Record | None, policy: Policy) -> str:
    """Say why a mirror entry must not be made the source's, whatever its content; empty if it may be.

    Another user's entry may have been put there by that user, who can hold it open for writing: the next owner would
    get, and set-ID bits would run, what that user writes later.
    """
    owner = mirror.uid
    if policy.user is None or owner in {source.uid, policy.user}:
        return ""
    if record is not None and (record.mirror.inode, record.mirror.uid) == (mirror.inode, owner):
        return ""
    return f"the mirror's {mirror.kind} belongs to user {owner} and is not the one that was left there"


def is_racy(source: Entry, now_ns: int) -> bool:
    """Tell whether a source entry, seen at `now_ns`, is too young to be believed unchanged next time.

    An mtime far in the future was set by somebody and says nothing of its age; a ctime there means a clock gone wrong.
    """
    young_ns = now_ns - CLOCK_GRAIN_NS
    return source.ctime_ns > young_ns or young_ns < source.mtime_ns <= now_ns + CLOCK_GRAIN_NS
