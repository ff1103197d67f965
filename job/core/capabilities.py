"""What a mirror's file system can hold, as `fs/probe.py` found it out. Pure."""

from collections.abc import Iterable
from typing import Any, NamedTuple

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
    def exact(self) -> bool:
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
    def outlook(self) -> bytes:
        """What makes a difference to how a mirror looks; empty if it holds everything."""
        return (repr(tuple(self)) + self.policy).encode("ascii", "backslashreplace") if self.lacks else b""

    @property
    def policy(self) -> str:
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


def capabilities_of(document: Any) -> Capabilities:  # whatever JSON can say
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
