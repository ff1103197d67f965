"""What a mirror that is no Linux file system loses is just what is documented, as rsync and `compare` see it."""

import os
import stat
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.fidelity import foreign
from tests.fidelity.judging import compared
from tests.fidelity.nature import NATURES
from tests.fidelity.oracle import left_to_do
from tests.fidelity.scope import ACCESS, acl

pytestmark = pytest.mark.needs_tool("rsync")
ODD_NS = 1_600_000_001_123_456_789

MODE, MODE_OWNER, MODE_ACL, MODE_XATTR = "...p.....", "...pog...", "...p...a.", "...p....x"
ORDINARY = ["Case", "file", "folder/again", "folder/inner", "private"]
EXFAT = {
    **dict.fromkeys([".", *ORDINARY, "folder"], MODE),
    "owned": MODE_OWNER,
    "acl": MODE_ACL,
    "xattr": MODE_XATTR,
    **dict.fromkeys(["dev", "fifo", "link", "colon:name"], "+++++++++"),
}
NTFS = {
    **dict.fromkeys([".", *ORDINARY, "folder", "xattr", "dev", "fifo", "colon:name"], MODE),
    "owned": MODE_OWNER,
    "acl": MODE_ACL,
}
FAT = {name: flags for name, flags in EXFAT.items() if name not in {".", "colon:name"}}
"""Of a server's folder; its root has its mode from the server."""
HFS = {"acl": "...p...a."}
"""Without its ACL the group has the rights of its own entry, and the mode no mask."""


def nas(nature: str) -> foreign.Mounting:
    def at(place: Path, image: Path) -> AbstractContextManager[Path]:
        del image
        return foreign.nas(place, NATURES[nature])

    return at


DISKS = [
    pytest.param(foreign.exfat, EXFAT, {"colon:name": "name"}, marks=foreign.EXFAT, id="exfat"),
    pytest.param(foreign.ntfs, NTFS, {}, marks=foreign.NTFS, id="ntfs"),
    pytest.param(nas("fat"), FAT, {}, marks=foreign.NAS, id="fat"),
    pytest.param(nas("hfs"), HFS, {}, marks=foreign.NAS, id="hfs"),
]


def plant(source: Path) -> None:
    """Plant something that each of the file systems loses in its own way."""
    (source / "folder").mkdir()
    for name in ("file", "folder/inner", "private", "owned", "xattr", "acl", "colon:name", "Case"):
        (source / name).write_text(name)
    (source / "private").chmod(0o640)
    os.chown(source / "owned", 1234, 1234)
    os.setxattr(source / "xattr", "user.colour", b"blue")
    os.setxattr(source / "acl", ACCESS, acl(7))
    (source / "link").symlink_to("file")
    os.link(source / "file", source / "folder/again")
    os.mkfifo(source / "fifo")
    os.mknod(source / "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for path in (*source.rglob("*"), source):
        os.utime(path, ns=(ODD_NS, ODD_NS), follow_symlinks=False)


def losses(lines: list[str]) -> dict[str, str]:
    """Give rsync's flags by name, those of what it would copy anew, and of what it would mend."""
    found = {}
    for line in lines:
        flags, _, name = line.partition(" ")
        found[name.partition(" -> ")[0].partition(" => ")[0].rstrip("/") or "."] = flags[2:]
    return {name.removeprefix("./") or ".": flags for name, flags in found.items()}


@pytest.mark.parametrize(("disk", "lost", "failed"), DISKS)
def test_nothing_is_lost_but_what_is_documented(
    tmp_path: Path,
    disk: foreign.Mounting,
    lost: dict[str, str],
    failed: dict[str, str],
) -> None:
    with disk(tmp_path / "mirror", tmp_path / "image"):
        rig = Rig(tmp_path, {"specials": "recreate"})
        plant(rig.source)
        if "colon:name" not in lost:  # rsync cannot even look for it there
            (rig.source / "colon:name").unlink()
            os.utime(rig.source, ns=(ODD_NS, ODD_NS))

        done = rig.once()

        assert (done.failed, done.code) == (failed, 3 if failed else 0)
        assert losses(left_to_do(rig.source, rig.mirror, delete=True, window=2)) == lost
        said = {line.split()[2]: line.split()[0] for line in compared(rig)}
        absent = [name for name, flags in lost.items() if "+" in flags]
        assert said == {name: "missing" if name in failed else "unsupported" for name in absent}
