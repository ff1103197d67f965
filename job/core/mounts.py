"""The file systems of one mirror: which of them holds a path, and whether the index speaks of the same one. Pure.

What is left out of a source besides what `exclude` says, and what is mounted in it. Pure.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from job.core.capabilities import Capabilities, NameRules
from job.core.stored import UNUSABLE

T = TypeVar("T")


class ByMount(Generic[T]):
    """One value for the file system of the mirror's root, and one for each that is mounted below it."""

    def __init__(self, root: T, others: Mapping[bytes, T], name_rules: NameRules | None = None) -> None:
        """`others` are by the path of their mount point below the root.

        `name_rules` is of a root whose file system takes different names for the same.
        """
        self.root = root
        self._key = key = None if name_rules is None else name_rules.key
        self._others = {key(point): value for point, value in others.items()} if key else dict(others)

    def items(self) -> Iterator[tuple[bytes, T]]:
        """Give all values with their mount points, the root's first, under an empty path."""
        yield b"", self.root
        yield from self._others.items()

    def at(self, path: bytes) -> T:
        """Give the value of the file system that holds the folder at `path`."""
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
    """What each file system of a mirror can hold."""

    root: Capabilities
    others: tuple[tuple[bytes, Capabilities], ...] = ()
    """Of those mounted below the root, by the path of their mount point."""
    gone: tuple[bytes, ...] = ()
    """Where a file system was mounted once, and now only the empty mount point is left."""


class FileSystemId(NamedTuple):
    """What tells a file system from others. Plain text, only ever compared."""

    proof: str
    """Goes with the file system wherever it is attached, such as its UUID; empty if it tells none."""
    place: str
    """Where it is attached at present: the device, and what else changes when another one takes its place."""


class FileSystemMatch(StrEnum):
    """What an identity says about what the index knows of a file system."""

    SAME = "same"
    MOVED = "moved"
    """The same file system, attached anew."""
    OTHER = "other"
    """Another one, or one that cannot be shown to be the same: nothing that is known of it may be believed."""


def match_file_system(known: FileSystemId | None, found: FileSystemId) -> FileSystemMatch:
    """Compare the identity that the index was made for with the one that is found."""
    if known is None or known.proof != found.proof:
        return FileSystemMatch.OTHER
    if known.place == found.place:
        return FileSystemMatch.SAME
    return FileSystemMatch.MOVED if found.proof else FileSystemMatch.OTHER


def encode_file_system_id(identity: FileSystemId) -> str:
    """Write it down."""
    return json.dumps(identity)


def decode_file_system_id(text: object) -> FileSystemId | None:
    """Read what `encode_unsupported` wrote; None if the text makes no sense."""
    if not isinstance(text, str):
        return None
    try:
        proof, place = json.loads(text)
    except UNUSABLE:
        return None
    return FileSystemId(proof, place) if isinstance(proof, str) and isinstance(place, str) else None


class LeftOutReason(StrEnum):
    """Why something is left out."""

    MOUNT = "mount"
    """A file system of its own, and `cross_mounts` is off."""
    KERNEL = "kernel"
    """A view into the kernel, which holds no files."""
    OWN = "own"
    """State or temporary files of Truecopy itself."""


class LeftOut(NamedTuple):
    """One entry of a source that is left out."""

    path: bytes
    why: LeftOutReason
    kind: str
    """The type of the file system; empty for what is our own."""

    @property
    def words(self) -> str:
        """Why, in words that follow the path."""
        if self.why is LeftOutReason.OWN:
            return "it is Truecopy's own"
        if self.why is LeftOutReason.KERNEL:
            return f"{self.kind} shows the kernel and holds no files"
        return f"{file_system_of(self.kind)}, and cross_mounts is off"


SUBVOLUME = " subvolume"
"""Ends the type of a file system that has a device of its own, but no mount."""


def file_system_of(kind: str) -> str:
    """Say what lies at a path, by the type of its file system."""
    if kind.endswith(SUBVOLUME):
        return f"it is a {kind}"
    return f"{kind or 'another file system'} is mounted there"


KERNEL_TYPES = frozenset(
    {
        "autofs",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "functionfs",
        "fuse.lxcfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nfsd",
        "nsfs",
        "ocfs2_dlmfs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sysfs",
        "tracefs",
        "usbfs",
        "xenfs",
    }
)
"""File systems whose entries the kernel (or lxcfs, in its place) makes up when they are looked at: there is nothing to
restore. `autofs` is what an automounter shows until something is mounted. tmpfs and ramfs hold files of users.
"""


class KnownMounts(NamedTuple):
    """What is remembered of a source from cycle to cycle."""

    taken: dict[bytes, str]
    """Where file systems are mounted that are backed up, and their types."""
    left_out: frozenset[LeftOut]
    """What was reported as left out."""
    missing: frozenset[bytes] = frozenset()
    """Those of `taken` that were reported as missing."""


NO_MOUNTS = KnownMounts({}, frozenset())
