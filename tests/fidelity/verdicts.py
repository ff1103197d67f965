"""Judges of kinds of metadata: each gives one word for all entries of a folder, by mirror and index."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from job.store.codec import UnsupportedMetadata
from tests.fidelity.sight import KEPT, LOST, RECORDED, Note, Sight, worst
from tests.fidelity.small import ODD_NS

_SECOND_NAME = "trusted.SGI_ACL_"
"""XFS shows ACLs by another name, too."""
_UNITS = {10**9: "s", 10**6: "ms", 10**3: "\u00b5s", 1: "ns"}
_GRAINS_NS = (100, 10**3, 10**6, 10**7, 10**9, 2 * 10**9)


def facts(*fields: str) -> Callable[[Sight], str]:
    """Judge by fields of stat, which index and kernel call the same."""

    def judged(sight: Sight, name: bytes) -> str:
        wanted = sight.here(name).lstat()
        return sight.verdict(
            name,
            lambda found: all(getattr(found, f"st_{each}") == getattr(wanted, f"st_{each}") for each in fields),
            lambda note: all(getattr(note, each) == getattr(wanted, f"st_{each}") for each in fields),
        )

    return lambda sight: worst([judged(sight, name) for name in sight.names])


def times(sight: Sight) -> str:
    """Judge by modification times; where the index only has them exactly, tell how coarse the mirror's are."""
    verdict = facts("mtime_ns")(sight)
    found = [there.st_mtime_ns for name in sight.names if (there := sight.held(name))]
    if verdict != RECORDED or not found:
        return verdict
    explaining = [
        grain for grain in _GRAINS_NS if all(0 <= ODD_NS - each < grain and not each % grain for each in found)
    ]
    return f"to {_shown(explaining[0])}" if explaining else verdict


def _shown(grain_ns: int) -> str:
    unit = next(unit for unit in _UNITS if grain_ns >= unit)
    return f"{grain_ns // unit} {_UNITS[unit]}"


def attributes(sight: Sight) -> str:
    """Judge by extended attributes."""

    def judged(name: bytes) -> str:
        wanted = _attributes(sight.here(name))
        assert wanted, "nothing to be judged"
        return sight.verdict(
            name,
            lambda _: _attributes(sight.there(name)) == wanted,
            lambda note: isinstance(note, UnsupportedMetadata) and dict(note.attributes) == wanted,
        )

    return worst([judged(name) for name in sight.names])


def _attributes(path: Path) -> dict[bytes, bytes]:
    try:
        names = os.listxattr(path)
    except OSError:
        return {}  # it knows of no such thing
    return {os.fsencode(name): os.getxattr(path, name) for name in names if not name.startswith(_SECOND_NAME)}


def content(sight: Sight) -> str:
    """Judge by what is in files, and by their names."""

    def judged(name: bytes) -> str:
        return sight.verdict(name, lambda _: sight.there(name).read_bytes() == sight.here(name).read_bytes())

    return worst([judged(name) for name in sight.names])


def targets(sight: Sight) -> str:
    """Judge by what symlinks say."""

    def judged(name: bytes) -> str:
        wanted = os.readlink(os.fsencode(sight.here(name)))
        return sight.verdict(
            name,
            lambda found: stat.S_ISLNK(found.st_mode) and os.readlink(os.fsencode(sight.there(name))) == wanted,
            lambda note: stat.S_ISLNK(note.mode) and isinstance(note, UnsupportedMetadata) and note.target == wanted,
        )

    return worst([judged(name) for name in sight.names])


def nodes(sight: Sight) -> str:
    """Judge by what special files stand for."""

    def judged(name: bytes) -> str:
        wanted = sight.here(name).lstat()
        return sight.verdict(name, lambda found: _node(found) == _node(wanted), lambda note: _is_noted(note, wanted))

    return worst([judged(name) for name in sight.names])


def _node(seen: os.stat_result) -> tuple[int, int]:
    return stat.S_IFMT(seen.st_mode), seen.st_rdev


def _is_noted(note: Note, wanted: os.stat_result) -> bool:
    return isinstance(note, UnsupportedMetadata) and (stat.S_IFMT(note.mode), note.rdev) == _node(wanted)


def names_of_one_file(sight: Sight) -> str:
    """Judge by which names share a file."""
    found = [sight.held(name) for name in sight.names]
    if None not in found and len({each.st_ino for each in found if each}) == 1:
        return KEPT
    inode = sight.here(sight.names[0]).lstat().st_ino
    known = {name for path, _, name in sight.index.linked(inode) if path == sight.path}
    return RECORDED if known == set(sight.names) else LOST


def holes(sight: Sight) -> str:
    """Judge by the room that sparse files take."""

    def is_sparse(path: Path) -> bool:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path.stat().st_blocks * 512 < path.stat().st_size // 2

    assert all(is_sparse(sight.here(name)) for name in sight.names), "nothing to be judged"
    return worst([sight.verdict(name, lambda _, name=name: is_sparse(sight.there(name))) for name in sight.names])  # type: ignore[misc]
