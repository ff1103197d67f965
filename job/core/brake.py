"""The brake: whether the destructive part of a cycle is held until a person approves it. Pure.

Destructive is what replaces or retires a content of the mirror; new files and changes of metadata are not. Each held
change has a digest, so that an approval releases exactly these: what changed since is judged anew.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from hashlib import blake2b
from stat import S_IFREG
from typing import NamedTuple

from job.core.entry import TYPE_BITS, Entry, Kind
from job.core.outcome import BrakeReason

MOST_EXAMPLES = 10
"""Paths that an event shows."""
DIGEST_BYTES = 16
"""Size of the digest of one change."""


class BrakeLimits(NamedTuple):
    """Limits of a pair; a pair without a brake has none."""

    share: float = 0.3
    """Of the files that the index knows."""
    files: int = 100
    """0 trips on the first file."""


class DestructiveCounts(NamedTuple):
    """The destructive part of a cycle, without what is approved or exempt."""

    replaced: int = 0
    retired: int = 0
    emptied: int = 0
    """Those of the replaced that are empty or all zeros now."""
    canaries: tuple[bytes, ...] = ()
    """Paths of changed or missing canary files."""

    @property
    def total(self) -> int:
        """All files that would be replaced or retired."""
        return self.replaced + self.retired

    def __add__(self, other: object) -> "DestructiveCounts":
        """Add the counts of another folder or process."""
        if not isinstance(other, DestructiveCounts):
            return NotImplemented
        return DestructiveCounts(
            self.replaced + other.replaced,
            self.retired + other.retired,
            self.emptied + other.emptied,
            (*self.canaries, *other.canaries)[:MOST_EXAMPLES],
        )


class ContentChange(StrEnum):
    """What two listings tell about the content of a file that the mirror holds."""

    NONE = "none"
    """Its content stays."""
    REPLACED = "replaced"
    EMPTIED = "emptied"
    DOUBTFUL = "doubtful"
    """Only the contents can tell: nothing but its ctime or inode number moved, as by a mass chmod."""


def content_change(before: Entry, now: Entry) -> ContentChange:
    """Compare the recorded source entry of a file with the present one. Zeros are found by the copy only."""
    if not before[2] & TYPE_BITS == S_IFREG == now[2] & TYPE_BITS:
        # A new kind replaces the content; the text of a symlink is one, too.
        unchanged = before.kind is now.kind and (before.kind is not Kind.SYMLINK or before[5:7] == now[5:7])
        return ContentChange.NONE if unchanged else ContentChange.REPLACED
    if before.size and not now.size:
        return ContentChange.EMPTIED
    if (before.size, before.mtime_ns) != (now.size, now.mtime_ns):
        return ContentChange.REPLACED
    is_same = (before.inode, before.ctime_ns) == (now.inode, now.ctime_ns)
    return ContentChange.NONE if is_same else ContentChange.DOUBTFUL


def why_held(
    counts: DestructiveCounts, known_files: int, limits: BrakeLimits | None, *, held_before: bool = False
) -> BrakeReason | None:
    """Return why the destructive part of a cycle is held; None if it may go on.

    `known_files` is the number of files in the index, 0 at a first adoption. A pair that was held stays so while
    anything destructive is left that was not approved, even if its index was lost since.
    """
    if limits is None or not (known_files or held_before):
        return None
    if counts.canaries:
        return BrakeReason.CANARY
    if counts.emptied > limits.files:
        return BrakeReason.EMPTIED
    is_over = counts.total > max(limits.files, limits.share * known_files)
    return BrakeReason.SHARE if is_over or (held_before and counts.total) else None


def needs_sample(replaced: int, doubtful: int, known_files: int, limits: BrakeLimits | None) -> bool:
    """Return whether doubtful files have to be read before anything is done: with them, the brake might trip."""
    if limits is None:
        return False
    counts = DestructiveCounts(replaced)
    with_doubtful = DestructiveCounts(replaced + doubtful)
    return why_held(counts, known_files, limits) is None and why_held(with_doubtful, known_files, limits) is not None


def change_digest(name: bytes, entry: Entry | None) -> bytes:
    """Digest a held change: a name, and the source's entry that would replace its content, None if it left the source.

    Another ctime makes another digest, so what is changed again is judged anew.
    """
    content = "" if entry is None else f"{entry[1]},{entry[2]},{','.join(map(str, entry[5:]))}"
    return blake2b(len(name).to_bytes(4, "little") + name + content.encode("ascii"), digest_size=DIGEST_BYTES).digest()


def plan_hash(folders: Mapping[bytes, Collection[bytes]]) -> str:
    """Return the hash of a held plan, as `approve` names it: 32 hexadecimal digits.

    It depends on the digests of each folder, not on their order; folders without any do not count.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    for folder, changes in sorted(folders.items()):
        if changes:
            unique = sorted(set(changes))
            for part in (folder, *unique, b""):
                digest.update(len(part).to_bytes(4, "little") + part)
    return digest.hexdigest()
