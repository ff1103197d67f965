"""What a user like any other cannot keep is exactly the owner and group of what is somebody else's."""

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


def lost(source: Path) -> set[str]:
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
            lines.add(f".{letter}....{'o' if owner else '.'}{'g' if group else '.'}... {shown}")
    return lines


def test_nothing_is_lost_but_owners_and_that_is_told_once(tmp_path: Path, unprivileged: tuple[str, ...]) -> None:  # noqa: F811
    rig = Rig(tmp_path, {"specials": "recreate", "keep_setuid": True})
    plant(rig.source, Scope(owners=AS_ROOT, devices=False, unreadable=False, security=False))
    if AS_ROOT:
        os.chown(rig.source, 0, 0)  # a folder of somebody else's takes no times from us

    first = rig.once(prefix=unprivileged)
    second = rig.once(prefix=unprivileged)

    assert (first.code, first.failed) == (0, {})
    assert [line["what"] for line in first.of("metadata_not_kept")] == ["owner"] * AS_ROOT
    assert set(left_to_do(rig.source, rig.mirror, delete=True)) == lost(rig.source)
    assert differences(rig.source, rig.mirror, lost=frozenset({"owner", "group"})) == []
    assert second.counts == (0, 0, sum(first.counts), 0)
