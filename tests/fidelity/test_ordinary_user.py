"""What a user like any other cannot keep is exactly the owner and group of what is somebody else's, and their rights.

What members of the group, or the owner, might do goes to no other group, and to nobody who was shut out.
"""

import os
import stat
from pathlib import Path

import pytest

from tests.faults.conftest import unprivileged  # noqa: F401  # a fixture
from tests.faults.rig import Rig
from tests.fidelity.oracle import below, differences, left_to_do
from tests.fidelity.scope import Scope
from tests.fidelity.variety import plant

pytestmark = pytest.mark.needs_tool("rsync")

AS_ROOT = os.geteuid() == 0
LETTERS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "L", stat.S_IFIFO: "S"}


def limited(seen: os.stat_result, *, owner: bool, group: bool) -> int:
    """Give the mode of a copy that did not get the owner or the group: nobody has a right by that."""
    mode = stat.S_IMODE(seen.st_mode)
    if owner:
        mode &= 0o7700 | (mode >> 6 & 7) * 0o11
    if group:
        mode = mode & 0o7700 | (mode >> 3 & mode & 7) * 0o11
    return mode


def lost(source: Path, mirror: Path) -> set[str]:
    """Give the lines of rsync for what belongs to others."""
    lines = set()
    for name in below(source):
        path = source / os.fsdecode(name)
        seen = path.lstat()
        owner, group = seen.st_uid != os.geteuid(), seen.st_gid not in {os.getegid(), *os.getgroups()}
        if owner or group:
            letter, slash = LETTERS[stat.S_IFMT(seen.st_mode)], "/" * stat.S_ISDIR(seen.st_mode)
            shown = os.fsdecode(name) + slash if name else "./"
            shown += f" -> {path.readlink()}" if path.is_symlink() else ""
            mode, is_link = limited(seen, owner=owner, group=group), path.is_symlink()
            assert is_link or stat.S_IMODE((mirror / os.fsdecode(name)).lstat().st_mode) == mode, shown
            rights = "p" if not is_link and mode != stat.S_IMODE(seen.st_mode) else "."
            lines.add(f".{letter}...{rights}{'o' if owner else '.'}{'g' if group else '.'}... {shown}")
    return lines


def test_nothing_is_lost_but_owners_and_that_is_told_once(tmp_path: Path, unprivileged: tuple[str, ...]) -> None:  # noqa: F811
    rig = Rig(tmp_path, {"specials": "recreate", "keep_setuid": True})
    plant(rig.source, Scope(owners=AS_ROOT, devices=False, unreadable=False, security=False))
    if AS_ROOT:
        os.chown(rig.source, 0, 0)  # a folder of somebody else's takes no times from us
        for mode in (0o640, 0o604, 0o664, 0o755):
            (rig.source / f"of a group {mode:o}").touch(mode)
            (rig.source / f"of a group {mode:o}").chmod(mode)
            os.chown(rig.source / f"of a group {mode:o}", 0, 4321)

    first = rig.once(prefix=unprivileged)
    second = rig.once(prefix=unprivileged)

    assert (first.code, first.failed) == (0, {})
    assert [line["what"] for line in first.of("metadata_not_kept")] == ["owner", "mode"] * AS_ROOT
    assert set(left_to_do(rig.source, rig.mirror, delete=True)) == lost(rig.source, rig.mirror)
    assert differences(rig.source, rig.mirror, lost=frozenset({"owner", "group", "mode"})) == []
    assert second.counts == (0, 0, sum(first.counts), 0)
