"""A restore that is killed, or whose disk fails: no half file has a name, and nothing that was there is lost."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.tampering import injected
from tests.faults.trees import Tree, tree_of

pytestmark = pytest.mark.needs_tool("strace")

KILLS = {
    "renameat2": (1, 3, 5),
    "mkdirat": (1, 2),
    "write": (2, 5),
    "syncfs": (1, 2),
    "fchmod": (1, 4),
    "linkat": (1, 2),
    "symlinkat": (1, 5),
    "utimensat": (2, 6),
}
"""System calls of a restore, and at which of them it is killed."""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "folder" / "below").mkdir(parents=True)
    for number in range(3):
        (rig.source / "folder" / f"file {number}").write_text(f"content {number}" * 100)
        (rig.source / "folder" / "below" / f"other {number}").write_bytes(os.urandom(300_000))
    (rig.source / "one").write_text("of two names")
    os.link(rig.source / "one", rig.source / "two")
    (rig.source / "link").symlink_to("folder")
    rig.once()
    # What has to come back: edits, and a folder, names and a link that are gone.
    (rig.source / "folder" / "file 0").write_text("edited")
    subprocess.run(["rm", "-r", rig.source / "folder" / "below", rig.source / "two", rig.source / "link"], check=True)
    return rig


def contents(tree: Tree) -> dict[bytes, object]:
    return {path: thing.content for path, thing in tree.items() if thing.kind != "d"}


def check(rig: Rig, wanted: dict[bytes, object], before: dict[bytes, object]) -> None:
    """Insist that each name has its wanted or its earlier content, and that no earlier content is gone."""
    now = contents(tree_of(rig.source))
    for path, content in now.items():
        if b".truecopy-tmp-" not in path and b".before-restore-" not in path:
            assert content in {wanted.get(path), before.get(path)}, path
    assert set(before.values()) <= set(now.values())


@pytest.mark.parametrize(("call", "number"), [(call, number) for call, some in KILLS.items() for number in some])
def test_a_killed_restore_leaves_whole_contents_and_the_next_one_ends_it(rig: Rig, call: str, number: int) -> None:
    wanted, before = contents(rig.mirrored), contents(tree_of(rig.source))
    log = rig.base / "strace.log"

    killed = rig.run(
        "restore", "--in-place", "--overwrite", prefix=injected(call, f"signal=SIGKILL:when={number}", log=log)
    )
    check(rig, wanted, before)
    again = rig.run("restore", "--in-place", "--overwrite")

    assert killed.code != 0, "the call was not reached"
    assert again.code == 0, again
    check(rig, wanted, before)
    now = contents(tree_of(rig.source))
    assert {path: now.get(path) for path in wanted} == wanted


@pytest.mark.parametrize("call", ["renameat2", "mkdirat", "symlinkat"])
def test_a_call_that_fails_fails_its_entry_and_no_other(rig: Rig, call: str) -> None:
    wanted, before = contents(rig.mirrored), contents(tree_of(rig.source))
    # The first of these folders, links and names are those of the probe.
    number = {"renameat2": 2, "mkdirat": 2, "symlinkat": 5}[call]

    done = rig.run(
        "restore",
        "--in-place",
        "--overwrite",
        prefix=injected(call, f"error=EIO:when={number}", log=rig.base / "strace.log"),
    )

    assert done.code == 3, done
    assert "failed     source  " in done.stdout
    check(rig, wanted, before)
    assert not list(rig.source.rglob(".truecopy-tmp-*"))


def test_a_sync_that_fails_gives_nothing_a_name(rig: Rig) -> None:
    before = tree_of(rig.source)

    done = rig.run("restore", "--in-place", prefix=injected("syncfs", "error=EIO:when=1", log=rig.base / "strace.log"))

    assert done.code == 1, done
    assert "the restore of source failed" in done.stderr
    assert contents(tree_of(rig.source)) == contents(before)
    assert not list(rig.source.rglob(".truecopy-tmp-*"))
