"""The file systems of a mirror and of a source: values by mount point, their identity, and mounts left out. Pure."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from job.core.capabilities import Capabilities, NameRules
from job.core.stored_values import UNUSABLE

T = TypeVar("T")


class ByMount(Generic[T]):
    """One value for the file system of the mirror's root, and one for each file system mounted below it."""

    def __init__(self, root: T, others: Mapping[bytes, T], name_rules: NameRules | None = None) -> None:
        """`others` have the paths of their mount points below the root as keys.

        `name_rules` is given if the root's file system treats different names as equal.
        """
        self.root = root
        self._key = key = None if name_rules is None else name_rules.key
        self._others = {key(point): value for point, value in others.items()} if key else dict(others)

    def items(self) -> Iterator[tuple[bytes, T]]:
        """Yield all values with their mount points, the root's first, with an empty path."""
        yield b"", self.root
        yield from self._others.items()

    def at(self, path: bytes) -> T:
        """Return the value of the file system that holds the folder at `path`."""
        others = self._others
        if not others:
            return self.root
        if self._key is not None:
            path = self._key(path)
        while path:
            if path in others:
                return others[path]
            path = path.rpartition(b"/")[0]
        return self.root


class MirrorCapabilities(NamedTuple):
    """The capabilities of each file system of a mirror."""

    root: Capabilities
    others: tuple[tuple[bytes, Capabilities], ...] = ()
    """Of file systems mounted below the root, by the path of the mount point."""
    gone: tuple[bytes, ...] = ()
    """Empty mount points of file systems that are no longer mounted."""


class FileSystemId(NamedTuple):
    """Identity of a file system, as text that is only compared."""

    proof: str
    """Belongs to the file system wherever it is attached, such as its UUID; empty if it has none."""
    place: str
    """Its present attachment: the device, and other values that differ for another file system."""


class FileSystemMatch(StrEnum):
    """Comparison of a file system with the one that the index was made for."""

    SAME = "same"
    MOVED = "moved"
    """The same file system, attached anew."""
    OTHER = "other"
    """Another one, or not provably the same: the index must not be used for it."""


def match_file_system(known: FileSystemId | None, found: FileSystemId) -> FileSystemMatch:
    """Compare the identity in the index with the present one."""
    if known is None or known.proof != found.proof:
        return FileSystemMatch.OTHER
    if known.place == found.place:
        return FileSystemMatch.SAME
    return FileSystemMatch.MOVED if found.proof else FileSystemMatch.OTHER


def encode_file_system_id(identity: FileSystemId) -> str:
    """Serialise an identity for the index."""
    return json.dumps(identity)


def decode_file_system_id(text: object) -> FileSystemId | None:
    """Read the text of `encode_file_system_id`; None if it is invalid."""
    if not isinstance(text, str):
        return None
    try:
        proof, place = json.loads(text)
    except UNUSABLE:
        return None
    return FileSystemId(proof, place) if isinstance(proof, str) and isinstance(place, str) else None


class LeftOutReason(StrEnum):
    """Why an entry of a source is left out, besides `exclude`."""

    MOUNT = "mount"
    """A file system of its own, and `cross_mounts` is off."""
    KERNEL = "kernel"
    """A file system of the kernel without stored files."""
    OWN = "own"
    """State or temporary files of Truecopy itself."""


class LeftOut(NamedTuple):
    """One entry of a source that is left out."""

    path: bytes
    why: LeftOutReason
    kind: str
    """The type of the file system; empty for `OWN`."""

    @property
    def words(self) -> str:
        """The reason, in words that follow the path."""
        if self.why is LeftOutReason.OWN:
            return "it is Truecopy's own"
        if self.why is LeftOutReason.KERNEL:
            return f"{self.kind} shows the kernel and holds no files"
        return f"{file_system_of(self.kind)}, and cross_mounts is off"


SUBVOLUME = " subvolume"
"""Suffix of the type of a file system with its own device number and no mount."""


def file_system_of(kind: str) -> str:
    """Describe a path by the type of its file system."""
    if kind.endswith(SUBVOLUME):
        return f"it is a {kind}"
    return f"{kind or 'another file system'} is mounted there"


LOCAL_TYPES = frozenset({
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "overlay", "tmpfs", "vfat", "xfs",
    "zfs",
})  # fmt: skip
"""File systems of this machine's kernel, whose listings are believed at once; servers have returned short ones."""
KERNEL_TYPES = frozenset({
    "autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts",
    "devtmpfs", "efivarfs", "functionfs", "fuse.lxcfs", "fusectl", "hugetlbfs", "mqueue", "nfsd", "nsfs",
    "ocfs2_dlmfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs",
    "tracefs", "usbfs", "xenfs",
})  # fmt: skip
"""File systems whose entries the kernel, or lxcfs, generates: nothing in them can be restored. `autofs` is the
placeholder of an automounter. tmpfs and ramfs are not among them, as they hold files of users.
"""


class KnownMounts(NamedTuple):
    """The mounts in a source, as stored from cycle to cycle."""

    mounted: dict[bytes, str]
    """Mount points that are backed up, with the types of their file systems."""
    left_out: frozenset[LeftOut]
    """Reported as left out."""
    missing: frozenset[bytes] = frozenset()
    """Those of `mounted` that were reported as missing."""


NO_MOUNTS = KnownMounts({}, frozenset())
