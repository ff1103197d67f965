"""What is left out of a source besides what `exclude` says, and what is mounted in it. Pure."""

from enum import StrEnum
from typing import NamedTuple


class Why(StrEnum):
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
    why: Why
    kind: str
    """The type of the file system; empty for what is our own."""

    @property
    def words(self) -> str:
        """Why, in words that follow the path."""
        if self.why is Why.OWN:
            return "it is Truecopy's own"
        if self.why is Why.KERNEL:
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
