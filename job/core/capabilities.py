"""What a mirror's file system can hold, as `fs/probe.py` found it out. Pure.

Spelling: which names a mirror can hold, and which it takes for the same. Pure.

File systems that fold case do it character by character, by tables of their own; upper case of single characters is
what these have in common. Nothing is decided by it but that two such names are not both written.
"""

import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from job.core.entry import Entry, printable

_MOST_NUMBER = 2**63


class Capabilities(NamedTuple):
    """What a mirror can hold, for the user that Truecopy runs as. The defaults hold everything."""

    file_system: str = ""
    """Type as the mount table has it; empty if unknown."""
    case_sensitive: bool = True
    """Whether names that differ in case only are two."""
    normalises: bool = False
    """Whether names that differ in their Unicode normalisation only are one, or are kept in another form."""
    symlinks: bool = True
    symlink_metadata: bool = True
    """Whether owners and times of symlinks are their own; else they may go to what a symlink points to."""
    hard_links: bool = True
    fifos: bool = True
    """FIFOs and sockets."""
    devices: bool = True
    """Whether this user may make devices there."""
    modes: bool = True
    owners: bool = True
    """Whether files can be given to any user and group."""
    xattrs: bool = True
    """`user.*` attributes."""
    acls: bool = True
    """POSIX ACLs."""
    sparse: bool = True
    """Whether holes take no room."""
    syncfs: bool = True
    """Whether a sync of the whole file system means anything."""
    any_bytes: bool = True
    """Whether names may be other than UTF-8."""
    trailing: bool = True
    """Whether names may end with a dot or a space."""
    forbidden: str = ""
    """Characters that no name may have, of those that file systems are known to refuse."""
    longest_name: int = 255
    """In bytes."""
    largest_file: int = 0
    """In bytes; 0 if no limit was found."""
    mtime_grain_ns: int = 1
    """Modification times are kept to so many nanoseconds."""

    @property
    def keeps_all_names(self) -> bool:
        """Whether it holds every name just as it is."""
        return self.case_sensitive and not self.normalises and self.any_bytes and self.trailing and not self.forbidden

    @property
    def keeps_attributes(self) -> bool:
        """Whether it holds all extended attributes that are carried over."""
        return self.xattrs and self.acls

    @property
    def keeps_metadata(self) -> bool:
        """Whether it holds all that is to be known of a folder besides what is in it."""
        return self.keeps_attributes and self.modes and self.owners and self.mtime_grain_ns == 1

    @property
    def options_bytes(self) -> bytes:
        """What makes a difference to how a mirror looks; empty if it holds everything."""
        return (repr(tuple(self)) + self.options_key).encode("ascii", "backslashreplace") if self.lacks else b""

    @property
    def options_key(self) -> str:
        """What makes a difference to who may do what with an entry; what was made under another one is mended.

        Empty if everything is kept, or nothing can be mended.
        """
        if not self.modes:
            return ""
        return ("" if self.owners else "-o") + ("" if self.acls else "-a")

    @property
    def lacks(self) -> list[str]:
        """What it does not hold, in words; nothing if it holds everything."""
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
    """Write characters so that each can be seen."""
    return " ".join(each if each.isprintable() else ascii(each) for each in characters)


def decode_capabilities(document: Any) -> Capabilities:  # whatever JSON can say
    """Make capabilities of what `_asdict` gave and somebody stored. Raises `ValueError` if it makes no sense."""
    known = Capabilities()._asdict()
    if not isinstance(document, dict) or document.keys() != known.keys():
        raise ValueError("not the fields of this version")
    if any(type(value) is not type(known[name]) for name, value in document.items()):
        raise ValueError("not of their types")
    numbers = [document[name] for name in ("longest_name", "largest_file", "mtime_grain_ns")]
    if not all(0 <= number < _MOST_NUMBER for number in numbers) or not document["mtime_grain_ns"]:
        raise ValueError("no numbers that a file system can have")
    if not document["file_system"].isprintable():
        raise ValueError("not the name of a file system")
    return Capabilities(**document)


class NameRules:
    """The names of one mirror that does not hold every name as it is."""

    def __init__(self, mirror: Capabilities) -> None:
        self._mirror = mirror

    def refusal(self, name: bytes) -> str:
        """Tell why the mirror cannot hold a name; empty if it can."""
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
        """Give what is equal for names that the mirror takes for the same."""
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
        """Tell which names of one folder cannot be written, and why: refused ones, and all that would become one."""
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
        """Give the mirror's entries under the source's names, where it has them under names that it takes for those.

        `names` are one source folder's, of which no two are taken for the same.
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
        """Tell whether two names that the mirror takes for the same differ in more than their normalisation."""
        try:
            return _composed(name) != _composed(other)
        except UnicodeDecodeError:
            return True

    def _where(self) -> str:
        kind = self._mirror.file_system
        return f"the mirror's file system ({kind})" if kind else "the mirror's file system"


def _composed(name: bytes) -> str:
    return unicodedata.normalize("NFC", name.decode("utf-8"))
