"""The kinds of metadata that a backup may meet: how to make an instance of each, and who judges its mirror."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fidelity.scope import ACCESS, DEFAULT, acl
from tests.fidelity.sight import Sight
from tests.fidelity.variety import CAP_NET_RAW, CAPABILITY, write
from tests.fidelity.verdicts import attributes, content, facts, holes, names_of_one_file, nodes, targets, times

MIB = 1 << 20


class Row(NamedTuple):
    """A line of the table."""

    plant: Callable[[Path], object]
    """Makes what is to be judged in an empty folder."""
    judge: Callable[[Sight], str]


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
