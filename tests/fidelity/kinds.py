"""The kinds of metadata that a backup may meet: how to make an instance of each, and how to judge its mirror."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from job.core.unheld import Unheld
from tests.fidelity.scope import ACCESS, DEFAULT, acl
from tests.fidelity.sight import KEPT, LOST, RECORDED, Note, Sight, worst
from tests.fidelity.small import ODD_NS
from tests.fidelity.variety import CAP_NET_RAW, CAPABILITY, write

MIB = 1 << 20
_SECOND_NAME = "trusted.SGI_ACL_"
"""XFS shows ACLs by another name, too."""
_UNITS = {10**9: "s", 10**6: "ms", 10**3: "\u00b5s", 1: "ns"}
_GRAINS_NS = (100, 10**3, 10**6, 10**7, 10**9, 2 * 10**9)


class Row(NamedTuple):
    """A line of the table."""

    plant: Callable[[Path], object]
    """Makes what is to be judged in an empty folder."""
    judge: Callable[[Sight], str]


# Judges ---------------------------------------------------------------------------------------------------------------


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
            lambda note: isinstance(note, Unheld) and dict(note.attributes) == wanted,
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
            lambda note: stat.S_ISLNK(note.mode) and isinstance(note, Unheld) and note.target == wanted,
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
    return isinstance(note, Unheld) and (stat.S_IFMT(note.mode), note.rdev) == _node(wanted)


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


# Instances ------------------------------------------------------------------------------------------------------------


def _contents(folder: Path) -> None:
    write(folder / "empty", b"")
    write(folder / "large", os.urandom(300_000))


def _modes(folder: Path) -> None:
    for mode in (0o640, 0o751, 0o600):  # no mode that a mirror gives to all files is among them alone
        write(folder / f"{mode:o}").chmod(mode)


def _owners(folder: Path) -> None:
    os.chown(write(folder / "file"), 1234, 2345)


def _xattrs(folder: Path) -> None:
    (folder / "folder").mkdir()
    for path in (write(folder / "file"), folder / "folder"):
        os.setxattr(path, "user.colour", b"blue\0\xff")


def _acls(folder: Path) -> None:
    (folder / "folder").mkdir()
    for path, name in ((write(folder / "file"), ACCESS), (folder / "folder", DEFAULT)):
        os.setxattr(path, name, acl(4))


def _symlinks(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere/at all")


def _owned_symlinks(folder: Path) -> None:
    _symlinks(folder)
    os.chown(folder / "link", 1234, 2345, follow_symlinks=False)


def _hard_links(folder: Path) -> None:
    os.link(write(folder / "one"), folder / "other")


def _specials(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o644)


def _devices(folder: Path) -> None:
    os.mknod(folder / "character", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(folder / "block", stat.S_IFBLK | 0o600, os.makedev(7, 99))


def _sparse(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.seek(8 * MIB)
        file.write(b"end")


def _named(*names: str) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        for name in names:
            write(folder / name, os.fsencode(name))

    return plant


def _folders(folder: Path) -> None:
    for mode in (0o751, 0o700):
        (folder / f"{mode:o}").mkdir()
        write(folder / f"{mode:o}" / "inside")
        (folder / f"{mode:o}").chmod(mode)


def _setuid(folder: Path) -> None:
    write(folder / "program").chmod(0o4751)


def _capabilities(folder: Path) -> None:
    os.setxattr(write(folder / "program"), CAPABILITY, CAP_NET_RAW)


ROWS = {
    "content": Row(_contents, content),
    "modification times": Row(_contents, times),
    "modes": Row(_modes, facts("mode")),
    "owner and group": Row(_owners, facts("uid", "gid")),
    "extended attributes of users": Row(_xattrs, attributes),
    "POSIX ACLs": Row(_acls, attributes),
    "folders' modes": Row(_folders, facts("mode")),
    "folders' times": Row(_folders, times),
    "symlinks": Row(_symlinks, targets),
    "symlinks' owner and group": Row(_owned_symlinks, facts("uid", "gid")),
    "symlinks' times": Row(_symlinks, times),
    "hard links": Row(_hard_links, names_of_one_file),
    'FIFOs and sockets, with `"specials": "recreate"`': Row(_specials, nodes),
    'devices, with `"specials": "recreate"`': Row(_devices, nodes),
    "holes in sparse files": Row(_sparse, holes),
    "names that are not UTF-8": Row(_named("bytes\udcff"), content),
    "names that differ in case only": Row(_named("Case", "case"), content),
    "names that differ in Unicode normalisation only": Row(_named("caf\u00e9", "cafe\u0301"), content),
    "setuid bits, with `keep_setuid`": Row(_setuid, facts("mode")),
    "capabilities, with `keep_security`": Row(_capabilities, attributes),
}
"""What is judged, by the words of the table."""
