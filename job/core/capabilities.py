"""The capabilities of a mirror's file system, as `fs/probe.py` measures them, and its rules for names. Pure."""

import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from job.core.entry import Entry, printable

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

    def __init__(self, mirror: Capabilities) -> None:
        self._mirror = mirror

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
        return f"the mirror's file system ({kind})" if kind else "the mirror's file system"


def _composed(name: bytes) -> str:
    return unicodedata.normalize("NFC", name.decode("utf-8"))
