"""Power cuts of the disk to which is restored: what was logged as restored is there, and nothing is half there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.generations import contents
from tests.faults.power.ages import Growth
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import EXT4, MOUNTED, XFS, FileSystem, cut_power, on
from tests.faults.tampering import injected
from tests.faults.trees import Tree, tree_of

pytestmark = [*MOUNTED, pytest.mark.needs_tool("xfs_io"), pytest.mark.timeout(600), pytest.mark.one_process]

CALLS = {
    "syncfs": (1, 2, 3),
    "rename,renameat,renameat2": (4, 12),
    "mkdirat": (2, 4),
    "link,linkat": (1,),
    "unlink,unlinkat": (40,),
    "utimensat": (30,),
}
"""System calls at which a restore is cut off, and at which of them."""


@pytest.fixture
def grown(rig: DiskRig, images: Path, system: FileSystem) -> tuple[DiskRig, Path]:
    """A mirror on a disk."""
    image = system.format(images / "image")
    rig.configure(log_file=str(rig.base / "log"))
    Growth(rig).grow()
    with rig.on(image, system.options):
        assert rig.once().code == 0
    return rig, image


def files(tree: Tree) -> Tree:
    return {path: thing for path, thing in tree.items() if thing.kind != "d"}


def restored(rig: DiskRig) -> list[bytes]:
    """Give the paths that were logged as restored, and forget them."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in (rig.base / "log").read_text().splitlines()]
    (rig.base / "log").write_text("")
    return [bytes(line["path"], "utf-8") for line in lines if line["event"] == "file_restored"]


@on(EXT4, XFS)
def test_what_a_restore_that_ended_with_0_brought_back_survives_a_power_cut_right_after(
    grown: tuple[DiskRig, Path], system: FileSystem
) -> None:
    rig, image = grown
    with rig.on(image, system.options):
        done = rig.run("restore", "--to", str(rig.disk / "out"))
        cut_power(rig.disk)
    with rig.on(image, system.options):
        found = tree_of(rig.disk / "out")

    wanted = rig.wanted
    assert done.code == 0, done
    assert len(restored(rig)) > 30
    assert {path: found.get(path) for path in wanted if path} == {path: wanted[path] for path in wanted if path}
    assert not [path for path in found if b".truecopy-tmp-" in path]


@pytest.mark.needs_tool("strace")
@on(EXT4, XFS)
def test_a_restore_cut_off_with_its_disk_has_what_it_logged_and_the_next_one_ends_it(
    grown: tuple[DiskRig, Path], system: FileSystem
) -> None:
    rig, image = grown
    cut_off = logged = 0
    for number, (call, at) in enumerate((call, at) for call, some in CALLS.items() for at in some):
        out = rig.disk / f"out {number}"
        restored(rig)
        with rig.on(image, system.options):
            fault = injected(call, f"signal=KILL:when={at}", log=rig.base / "strace.log")
            cut_off += rig.run("restore", "--to", str(out), prefix=fault).code != 0
            cut_power(rig.disk)
        there = restored(rig)
        logged += len(there)
        with rig.on(image, system.options):
            left = files(tree_of(out)) if out.exists() else {}
            again = rig.run("restore", "--to", str(out))
            found = contents(tree_of(out))

        wanted = files(rig.wanted)
        whole = {path: thing for path, thing in left.items() if b".truecopy-tmp-" not in path}
        assert not [path for path, thing in whole.items() if thing.content != wanted[path].content], (call, at)
        assert not [path for path in there if path not in whole], (call, at)
        assert again.code == 0, again
        assert {path: found.get(path) for path in wanted} == {path: wanted[path].content for path in wanted}
    assert cut_off > 6
    assert logged > 30
