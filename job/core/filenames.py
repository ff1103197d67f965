"""Spelling: which names a mirror can hold, and which it takes for the same. Pure.

File systems that fold case do it character by character, by tables of their own; upper case of single characters is
what these have in common. Nothing is decided by it but that two such names are not both written.
"""

import unicodedata
from collections.abc import Iterable

from job.core.capabilities import Capabilities, shown
from job.core.entry import Entry, printable


class Spelling:
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
