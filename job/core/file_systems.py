"""File systems of a source and a mirror: abilities, names, identity, values by mount point, left-out mounts. Pure."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from job.core.entry import Entry, printable
from job.core.stored_values import UNUSABLE

_MOST_NUMBER = 2**63


class Capabilities(NamedTuple):
    """Capabilities for the user that Truecopy runs as. The defaults support everything."""

    file_system: str = ""
    """Type as the mount table has it; empty if unknown."""
    case_sensitive: bool = True
    """Whether names that differ in case only are different."""
    normalises: bool = False
    """Whether names that differ in Unicode normalisation only are equal, or names are stored in another form."""
    symlinks: bool = True
    symlink_metadata: bool = True
    """Whether symlinks have owners and times of their own; if not, setting them may change the target."""
    hard_links: bool = True
    fifos: bool = True
    """FIFOs and sockets."""
    devices: bool = True
    """Whether this user can create devices."""
    modes: bool = True
    owners: bool = True
    """Whether files can be given to any user and group."""
    xattrs: bool = True
    """`user.*` attributes."""
    acls: bool = True
    """POSIX ACLs."""
    sparse: bool = True
    """Whether holes use no space."""
    syncfs: bool = True
    """Whether `syncfs` is reliable."""
    any_bytes: bool = True
    """Whether names need not be UTF-8."""
    trailing: bool = True
    """Whether names may end with a dot or a space."""
    forbidden: str = ""
    """The characters that names must not contain, of those that some file systems refuse."""
    largest_file: int = 0
    """In bytes; 0 for no limit."""
    mtime_grain_ns: int = 1
    """Granularity of modification times, in nanoseconds."""

    @property
    def keeps_all_names(self) -> bool:
        """Whether every name is stored unchanged."""
        return self.case_sensitive and not self.normalises and self.any_bytes and self.trailing and not self.forbidden

    @property
    def keeps_attributes(self) -> bool:
        """Whether all copied extended attributes are stored."""
        return self.xattrs and self.acls

    @property
    def keeps_metadata(self) -> bool:
        """Whether all metadata of a folder is stored."""
        return self.keeps_attributes and self.modes and self.owners and self.mtime_grain_ns == 1

    @property
    def keeps_plain_files(self) -> bool:
        """Whether every small file without attributes is stored unchanged, if its owner can be set."""
        return self.keeps_all_names and self.keeps_attributes and self.modes and self.mtime_grain_ns == 1

    @property
    def options_bytes(self) -> bytes:
        """All limitations, for folder fingerprints; empty if there are none."""
        return (repr(tuple(self)) + self.options_key).encode("ascii", "backslashreplace") if self.lacks else b""

    @property
    def options_key(self) -> str:
        """The limitations that affect access rights; entries written under another key are examined again.

        Empty if rights are stored completely, or not at all.
        """
        if not self.modes:
            return ""
        return ("" if self.owners else "-o") + ("" if self.acls else "-a")

    @property
    def lacks(self) -> list[str]:
        """The limitations in words."""
        found = [words for words, has in self._words() if not has]
        if self.forbidden:
            found.append(f"names with {shown(self.forbidden)}")
        if self.mtime_grain_ns > 1:
            found.append(f"times finer than {self.mtime_grain_ns / 1e9:g} s")
        if self.largest_file:
            found.append(f"files of more than {self.largest_file:,} bytes")
        return found

    def _words(self) -> list[tuple[str, bool]]:
        return [
            ("names that differ in case only", self.case_sensitive),
            ("names that differ in Unicode normalisation only", not self.normalises),
            ("names that are not UTF-8", self.any_bytes),
            ("names that end with a dot or a space", self.trailing),
            ("symlinks", self.symlinks),
            ("owners and times of symlinks", self.symlink_metadata),
            ("hard links", self.hard_links),
            ("FIFOs and sockets", self.fifos),
            ("devices", self.devices),
            ("modes", self.modes),
            ("owners", self.owners),
            ("extended attributes", self.xattrs),
            ("ACLs", self.acls),
            ("holes in sparse files", self.sparse),
            ("a sync of everything at once", self.syncfs),
        ]


def shown(characters: Iterable[str]) -> str:
    """Join characters by spaces, with escapes for those that are not printable."""
    return " ".join(each if each.isprintable() else ascii(each) for each in characters)


def decode_capabilities(document: Any) -> Capabilities:  # any JSON value
    """Build capabilities from the stored form of `_asdict`. Raises `ValueError` for anything else."""
    known = Capabilities()._asdict()
    if not isinstance(document, dict) or document.keys() != known.keys():
        raise ValueError("not the fields of this version")
    if any(type(value) is not type(known[name]) for name, value in document.items()):
        raise ValueError("not of their types")
    numbers = [document[name] for name in ("largest_file", "mtime_grain_ns")]
    if not all(0 <= number < _MOST_NUMBER for number in numbers) or not document["mtime_grain_ns"]:
        raise ValueError("no numbers that a file system can have")
    if not document["file_system"].isprintable():
        raise ValueError("not the name of a file system")
    return Capabilities(**document)


class NameRules:
    """Which names a mirror can store, and which it treats as equal.

    File systems that ignore case use tables of their own; upper case of single characters is common to all. It is used
    only to refuse both of two such names.
    """

    def __init__(self, mirror: Capabilities, noun: str = "mirror") -> None:
        """`noun` names the place in messages."""
        self._mirror, self._noun = mirror, noun

    def refusal(self, name: bytes) -> str:
        """Return why the mirror cannot store a name; empty if it can."""
        mirror = self._mirror
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            return "" if mirror.any_bytes else f"{self._where()} holds names in UTF-8 only"
        bad = sorted(set(text).intersection(mirror.forbidden))
        if bad:
            return f"{self._where()} holds no names with {shown(bad)}"
        if not mirror.trailing and text[-1] in ". ":
            return f"{self._where()} holds no names that end with a dot or a space"
        return ""

    def key(self, name: bytes) -> bytes:
        """Return a key that is equal for names that the mirror treats as equal."""
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            return name
        if self._mirror.normalises:
            text = unicodedata.normalize("NFD", text)
        if not self._mirror.case_sensitive:
            text = "".join(upper if len(upper := each.upper()) == 1 else each for each in text)
        return text.encode("utf-8")

    def faults(self, names: Iterable[bytes]) -> dict[bytes, str]:
        """Return the names of one folder that cannot be written, with the reason: refused ones, and equal ones."""
        found: dict[bytes, str] = {}
        alike: dict[bytes, list[bytes]] = {}
        for name in names:
            if why := self.refusal(name):
                found[name] = why
            else:
                alike.setdefault(self.key(name), []).append(name)
        for several in alike.values():
            if len(several) > 1:
                both = " and ".join(f"'{printable(each)}'" for each in sorted(several))
                found.update(dict.fromkeys(several, f"{self._where()} takes {both} for one name; rename one of them"))
        return found

    def matched(self, names: Iterable[bytes], present: dict[bytes, Entry]) -> dict[bytes, Entry]:
        """Return the mirror's entries by the source's names, if the mirror stores these in another form.

        `names` are those of one source folder; no two of them are equal for the mirror.
        """
        missing = {self.key(name): name for name in names if name not in present}
        if not missing:
            return present
        found: dict[bytes, Entry] = {}
        for held, entry in present.items():
            name = missing.get(self.key(held), held)
            found[name] = entry if name == held else entry._replace(name=name)
        return found

    @staticmethod
    def respelled(name: bytes, other: bytes) -> bool:
        """Return whether two names that are equal for the mirror differ in more than their normalisation."""
        try:
            return _composed(name) != _composed(other)
        except UnicodeDecodeError:
            return True

    def _where(self) -> str:
        kind = self._mirror.file_system
        return f"the {self._noun}'s file system ({kind})" if kind else f"the {self._noun}'s file system"


def _composed(name: bytes) -> str:
    return unicodedata.normalize("NFC", name.decode("utf-8"))


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
    former: frozenset[bytes] = frozenset()
    """Former mount points whose folder is gone, or empty: an unplugged disk is no deletion."""


NO_MOUNTS = KnownMounts({}, frozenset())
