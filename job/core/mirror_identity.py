"""Whether the mirror at the path of a pair may be used, by what is remembered and what is found there. Pure.

A mirror has a random id in its `identity.json`. Outside of it the adopted ids of each pair are remembered, as disks may
take turns. Each cycle that writes gives the mirror a new mark, so that a clone is found out: only one of both has the
remembered mark.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from job.core.file_systems import FileSystemId, FileSystemMatch, match_file_system


class MirrorFound(StrEnum):
    """What is at the path of a mirror."""

    MISSING = "missing"
    EMPTY = "empty"
    """A folder without content, as a blank disk or a mount point without its disk; also one that was being adopted."""
    UNMARKED = "unmarked"
    """Content without an identity, as by the original script or `cp`."""
    OWN = "own"
    """An adopted mirror of the pair, or one that names its source while nothing is remembered."""
    OTHER_PAIR = "other_pair"
    """The mirror of another pair or source."""
    UNKNOWN = "unknown"
    """A mirror that names the pair's source, and none of the remembered ones."""


class MirrorVerdict(StrEnum):
    """The outcome of the check. Refusals have the values of their public reasons."""

    MAKE = "make"
    """Make the folder and adopt it."""
    ADOPT = "adopt"
    """Adopt an empty folder."""
    COMPARE = "compare"
    """Adopt it and compare all contents: nothing in it is believed."""
    GO_ON = "go_on"
    MISSING = "mirror_missing"
    UNKNOWN = "mirror_unknown"
    OTHER = "mirror_other"
    NOT_MOUNTED = "mirror_not_mounted"

    @property
    def refuses(self) -> bool:
        """Whether the pair must not be backed up to this mirror."""
        return self in _REFUSALS


_REFUSALS = frozenset({MirrorVerdict.MISSING, MirrorVerdict.UNKNOWN, MirrorVerdict.OTHER, MirrorVerdict.NOT_MOUNTED})


class CycleMark(NamedTuple):
    """The last cycle that wrote to a mirror, as the mirror and the memory have it."""

    number: int
    mark: str
    """Random."""
    upcoming: str = ""
    """In the memory: the mark that was about to be written to the mirror; a kill may have come before or after."""


class MirrorFacts(NamedTuple):
    """All that the verdict depends on."""

    found: MirrorFound
    remembered: bool
    """Whether a mirror of the pair was adopted before."""
    on_layer: bool = False
    """Whether the path lies on the root file system of a container, which is lost with it."""
    same_disk: bool = False
    """Whether the file system is that of the remembered mirror, by a proof such as its UUID."""
    continued: bool = True
    """Whether the mirror has the remembered mark."""
    duplicated: bool = False
    """Whether another mirror that can be reached now has the same id."""
    made_since: bool = False
    """Whether an empty folder was provably made in the place of the remembered mirror since its last cycle."""


class MirrorPlace(NamedTuple):
    """Where the root folder of a mirror is."""

    file_system: FileSystemId
    device: int
    inode: int
    generation: str
    """Differs for folders that had one inode number, one after the other; empty if unknown."""
    location: str
    """Path on the file system, not on the machine; empty if unknown."""

    @property
    def folder(self) -> tuple[int, int, str]:
        """Identifies the folder, wherever it is mounted."""
        return self.device, self.inode, self.generation

    def is_at(self, other: "MirrorPlace") -> bool:
        """Return whether both are provably at one location of one file system."""
        same_system = match_file_system(self.file_system, other.file_system) is FileSystemMatch.SAME
        return same_system and bool(self.location) and self.location == other.location


def is_made_since(found: MirrorPlace, changed_ns: int, known: Iterable[tuple[MirrorPlace, int]]) -> bool:
    """Return whether an empty folder was provably made anew in the place of a mirror, as by `rm -r` and `mkdir`.

    `known` are the remembered mirrors, each with the end of its last cycle; `changed_ns` is the ctime of the folder.
    A mount point without its disk lies on another file system, or at another location of one, and is older than the
    last cycle. A mirror that was emptied is still the same folder.
    """
    before = [(place, last_cycle_ns) for place, last_cycle_ns in known if place.is_at(found)]
    return bool(before and found.generation) and all(
        place.generation and place.folder != found.folder and changed_ns > last_cycle_ns
        for place, last_cycle_ns in before
    )


def classify(
    mirror_id: str | None,
    *,
    holds_content: bool | None,
    names_source: bool,
    never_written: bool,
    adopted: Collection[str],
    of_others: Collection[str],
) -> MirrorFound:
    """Classify what is at the path of a mirror.

    `holds_content` is None if nothing is there. `mirror_id` is that of its identity, None without one; `names_source`
    tells whether that names the pair's source, `never_written` whether no cycle wrote since it was made. `adopted` are
    the remembered ids of the pair, `of_others` those of other pairs.
    """
    if holds_content is None:
        return MirrorFound.MISSING
    if mirror_id is None:
        return MirrorFound.UNMARKED if holds_content else MirrorFound.EMPTY
    if mirror_id in of_others or not names_source:
        return MirrorFound.OTHER_PAIR
    if mirror_id in adopted or not adopted:
        return MirrorFound.OWN
    return MirrorFound.EMPTY if never_written and not holds_content else MirrorFound.UNKNOWN


def is_continued(on_mirror: CycleMark | None, remembered: CycleMark | None) -> bool:
    """Return whether a mirror is as the last remembered cycle left it. Without a memory of it, it counts as such."""
    if remembered is None:
        return True
    return on_mirror is not None and on_mirror.mark in {remembered.mark, remembered.upcoming} - {""}


_NO, _YES = False, True
_TABLE: Mapping[tuple[MirrorFound, bool, bool], MirrorVerdict] = {
    # found, remembered, on the layer of a container
    (MirrorFound.MISSING, _NO, _NO): MirrorVerdict.MAKE,
    (MirrorFound.MISSING, _NO, _YES): MirrorVerdict.NOT_MOUNTED,
    (MirrorFound.MISSING, _YES, _NO): MirrorVerdict.MISSING,
    (MirrorFound.MISSING, _YES, _YES): MirrorVerdict.NOT_MOUNTED,
    (MirrorFound.EMPTY, _NO, _NO): MirrorVerdict.ADOPT,
    (MirrorFound.EMPTY, _NO, _YES): MirrorVerdict.NOT_MOUNTED,
    (MirrorFound.EMPTY, _YES, _NO): MirrorVerdict.MISSING,
    (MirrorFound.EMPTY, _YES, _YES): MirrorVerdict.NOT_MOUNTED,
    (MirrorFound.UNMARKED, _NO, _NO): MirrorVerdict.COMPARE,
    (MirrorFound.UNMARKED, _NO, _YES): MirrorVerdict.NOT_MOUNTED,
    (MirrorFound.UNMARKED, _YES, _NO): MirrorVerdict.UNKNOWN,
    (MirrorFound.UNMARKED, _YES, _YES): MirrorVerdict.NOT_MOUNTED,
    (MirrorFound.OWN, _NO, _NO): MirrorVerdict.GO_ON,
    (MirrorFound.OWN, _NO, _YES): MirrorVerdict.GO_ON,
    (MirrorFound.OWN, _YES, _NO): MirrorVerdict.GO_ON,
    (MirrorFound.OWN, _YES, _YES): MirrorVerdict.GO_ON,
    (MirrorFound.OTHER_PAIR, _NO, _NO): MirrorVerdict.OTHER,
    (MirrorFound.OTHER_PAIR, _NO, _YES): MirrorVerdict.OTHER,
    (MirrorFound.OTHER_PAIR, _YES, _NO): MirrorVerdict.OTHER,
    (MirrorFound.OTHER_PAIR, _YES, _YES): MirrorVerdict.OTHER,
    (MirrorFound.UNKNOWN, _NO, _NO): MirrorVerdict.UNKNOWN,
    (MirrorFound.UNKNOWN, _NO, _YES): MirrorVerdict.UNKNOWN,
    (MirrorFound.UNKNOWN, _YES, _NO): MirrorVerdict.UNKNOWN,
    (MirrorFound.UNKNOWN, _YES, _YES): MirrorVerdict.UNKNOWN,
}


def judge_mirror(facts: MirrorFacts) -> MirrorVerdict:
    """Return what a cycle does with the mirror of a pair."""
    if facts.found is MirrorFound.OWN:
        if facts.duplicated:
            return MirrorVerdict.OTHER
        if not facts.continued:
            return MirrorVerdict.UNKNOWN
    if facts.found is MirrorFound.UNMARKED and facts.same_disk and not facts.on_layer:
        return MirrorVerdict.COMPARE  # its `.truecopy` was deleted
    if facts.found is MirrorFound.EMPTY and facts.made_since and not facts.on_layer:
        return MirrorVerdict.ADOPT
    return _TABLE[facts.found, facts.remembered, facts.on_layer]


def judge_adoption(facts: MirrorFacts, *, take_over: bool = False) -> MirrorVerdict:
    """Return what `truecopy adopt` does with it; `take_over` accepts the mirror of another pair."""
    match facts.found:
        case MirrorFound.MISSING:
            return MirrorVerdict.MISSING
        case MirrorFound.EMPTY:
            return MirrorVerdict.ADOPT
        case MirrorFound.OWN if facts.continued and not facts.duplicated:
            return MirrorVerdict.GO_ON
        case MirrorFound.OTHER_PAIR if not take_over:
            return MirrorVerdict.OTHER
        case _:
            return MirrorVerdict.COMPARE


def needs_new_id(facts: MirrorFacts) -> bool:
    """Return whether an adopted mirror gets a new id, because it has none or another mirror keeps it."""
    return facts.duplicated or facts.found not in {MirrorFound.OWN, MirrorFound.UNKNOWN}


def next_step(facts: MirrorFacts, pair: str, mirror: str) -> str:
    """Return the safe next step after a refusal by `judge_mirror`."""
    adopt = f"truecopy adopt {pair}"
    verdict = judge_mirror(facts)
    if verdict is MirrorVerdict.NOT_MOUNTED:
        return (
            f"Mount a volume or a folder of the host at {mirror} or above it: what is written now is lost with the "
            f"container. If that is meant: {adopt}"
        )
    if verdict is MirrorVerdict.MISSING:
        make = f"mkdir {mirror} && " if facts.found is MirrorFound.MISSING else ""
        return f"Mount the disk of the mirror. If another disk is to take turns or to begin anew: {make}{adopt}"
    if verdict is MirrorVerdict.OTHER and facts.found is MirrorFound.OWN:
        return f"Unmount the clone. If this is a disk of its own from now on: {adopt}"
    if verdict is MirrorVerdict.OTHER:
        return (
            f"Compare the order of sources and mirrors in the configuration. If {mirror} is to be the mirror of this "
            f"pair from now on: {adopt} --take-over"
        )
    if facts.found is MirrorFound.OWN:
        return (
            "Another instance wrote to it, or it is a clone or was restored from an image: use the one that was "
            f"written last. If this is the right one: {adopt}"
        )
    return f"Mount the disk of the mirror. If this one is to be a mirror of the pair, too: {adopt}"
