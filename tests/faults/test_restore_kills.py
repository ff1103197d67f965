"""A restore that is killed, or whose disk fails: no half file has a name, and nothing that was there is lost."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.tampering import injected
from tests.faults.trees import Tree, temps_below, tree_of

pytestmark = pytest.mark.needs_tool("strace")

CALLS = {
    "rename,renameat,renameat2": 3,
    "link,linkat": 1,
    "symlink,symlinkat": 2,
    "unlink,unlinkat,rmdir": 19,
    "mkdir,mkdirat": 3,
    "openat": 17,
    "fsync,fdatasync,syncfs": 2,
    "write": 5,
    "fchmod,fchmodat": 5,
    "fchown,fchownat,lchown": 4,
    "utimensat": 7,
}
"""System calls of a restore, and every how many of them `make test` kills."""
MOST_CALLS = 400


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "folder" / "below").mkdir(parents=True)
    (rig.source / "folder" / "deep" / "er").mkdir(parents=True)
    for number in range(3):
        (rig.source / "folder" / f"file {number}").write_text(f"content {number}" * 100)
        (rig.source / "folder" / "below" / f"other {number}").write_bytes(os.urandom(300_000))
    (rig.source / "folder" / "deep" / "er" / "last").write_text("last")
    (rig.source / "one").write_text("of two names")
    os.link(rig.source / "one", rig.source / "two")
    (rig.source / "link").symlink_to("folder")
    for folder in ("folder/deep/er", "folder/deep", "folder/below"):
        (rig.source / folder).chmod(0o750)
        os.utime(rig.source / folder, ns=(10**18, 10**18))
    rig.once()
    return rig


@pytest.fixture
def damaged(rig: Rig) -> Rig:
    """What has to come back to the source: edits, and a folder, names and a link that are gone."""
    (rig.source / "folder" / "file 0").write_text("edited")
    subprocess.run(["rm", "-r", rig.source / "folder" / "below", rig.source / "two", rig.source / "link"], check=True)
    return rig


def contents(tree: Tree) -> dict[bytes, object]:
    return {path: thing.content for path, thing in tree.items() if thing.kind != "d"}


def check(target: Path, wanted: dict[bytes, object], before: dict[bytes, object]) -> None:
    """Insist that each name has its wanted or its earlier content, and that no earlier content is gone."""
    now = contents(tree_of(target))
    for path, content in now.items():
        if b".truecopy-tmp-" not in path and b".before-restore-" not in path:
            assert content in {wanted.get(path), before.get(path)}, path
    assert set(before.values()) <= set(now.values())


@contextmanager
def without_probe(out: Path) -> Iterator[None]:
    """Take away what a killed probe left, a file of a terabyte of holes: nobody wants to read it."""
    probe = out / ".truecopy-tmp-probe"
    if not probe.exists():
        yield
        return
    aside = probe.rename(out.with_name("probe"))
    yield
    aside.rename(probe)


def lay_out(out: Path) -> Tree:
    """Make a target anew that has entries of its own, some of them in the way."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "folder").mkdir(parents=True)
    (out / "folder").chmod(0o711)
    (out / "folder" / "file 1").write_text("in the way")
    (out / "folder" / "mine").write_text("mine")
    (out / "folder" / "deep").write_text("a file where a folder comes")
    (out / "two").symlink_to("in the way, too")
    (out / ".truecopy-tmp-mine").write_text("the name of a temp, and nobody's temp")
    return tree_of(out)


def check_whole(out: Path, wanted: Tree, before: Tree) -> None:
    """Insist that all is there with its metadata, that what was there is kept, and nothing else but that."""
    now = tree_of(out)
    kept = {path for path in before if before[path].kind == "d"}
    assert {path: now.get(path) for path in wanted if path not in kept} == {
        path: thing for path, thing in wanted.items() if path not in kept
    }
    assert [now[path].mode for path in kept if path] == [before[path].mode for path in kept if path]
    assert (out / "one").stat().st_ino == (out / "two").stat().st_ino
    assert temps_below(out) == [b".truecopy-tmp-mine"]
    more = {path for path in now.keys() - wanted.keys() - before.keys() if b".before-restore-" not in path}
    assert not more


def sweep(rig: Rig, call: str, step: int) -> int:
    """Kill a restore at every `step`-th call until one ends by itself; give how many were killed."""
    wanted, out, log = rig.mirrored, rig.base / "out", rig.base / "strace.log"
    restore = ("restore", "--overwrite", "--to", str(out))
    for killed, number in enumerate(range(1, MOST_CALLS, step)):
        before = lay_out(out)
        inode = (out / "folder" / "mine").stat().st_ino
        # Only opens in the target count: the interpreter has hundreds of its own.
        places = [out, *(out / os.fsdecode(path) for path in wanted if wanted[path].kind == "d")]
        watched = tuple(places) if call == "openat" else ()
        done = rig.run(*restore, prefix=injected(call, f"signal=KILL:when={number}", log=log, paths=watched))
        with without_probe(out):
            check(out, contents(wanted), contents(before))
        if done.code == 0:
            check_whole(out, wanted, before)
            return killed
        assert done.code in {-signal.SIGKILL, 128 + signal.SIGKILL}, done
        again = rig.run(*restore)
        assert again.code == 0, again
        check_whole(out, wanted, before)
        assert (out / "folder" / "mine").stat().st_ino == inode
    raise AssertionError(call)


@pytest.mark.parametrize(
    "call", [pytest.param(call, marks=[pytest.mark.needs_root] * call.startswith("fchown")) for call in CALLS]
)
def test_a_killed_restore_leaves_whole_contents_and_the_next_one_ends_it(rig: Rig, call: str) -> None:
    assert sweep(rig, call, CALLS[call])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, marks=[pytest.mark.needs_root] * call.startswith("fchown"))
        for call, step in CALLS.items()
        if step > 1
    ],
)
def test_a_restore_that_is_killed_at_each_single_call_is_ended_by_the_next_one(rig: Rig, call: str) -> None:
    assert sweep(rig, call, 1)


@pytest.mark.parametrize("call", ["renameat2", "mkdirat", "symlinkat"])
def test_a_call_that_fails_fails_its_entry_and_no_other(damaged: Rig, call: str) -> None:
    rig = damaged
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
    check(rig.source, wanted, before)
    assert not list(rig.source.rglob(".truecopy-tmp-*"))


def test_a_sync_that_fails_gives_nothing_a_name(damaged: Rig) -> None:
    rig = damaged
    before = tree_of(rig.source)

    done = rig.run("restore", "--in-place", prefix=injected("syncfs", "error=EIO:when=1", log=rig.base / "strace.log"))

    assert done.code == 1, done
    assert "the restore of source failed" in done.stderr
    assert contents(tree_of(rig.source)) == contents(before)
    assert not list(rig.source.rglob(".truecopy-tmp-*"))


@pytest.mark.parametrize("call", ["fchmod", "symlink,symlinkat", "mkdir,mkdirat"])
def test_a_stop_leaves_no_temp_and_the_next_restore_does_the_rest(rig: Rig, call: str) -> None:
    out, log = rig.base / "out", rig.base / "log"
    rig.configure(log_file=str(log), landlock="off")  # the signal has to reach the thread that takes signals
    before, wanted = lay_out(out), rig.mirrored
    # The first ones are those of the probe.
    number = {"fchmod": 6, "symlink,symlinkat": 4, "mkdir,mkdirat": 2}[call]
    restore = ("restore", "--overwrite", "--to", str(out))

    stopped = rig.run(*restore, prefix=injected(call, f"signal=TERM:when={number}", log=rig.base / "strace.log"))

    assert stopped.code == 143, stopped
    assert "stopped while" in stopped.stderr
    assert json.loads(log.read_text().splitlines()[-1])["exit_code"] == 143
    assert temps_below(out) == [b".truecopy-tmp-mine"]
    check(out, contents(wanted), contents(before))
    assert rig.run(*restore).code == 0
    check(out, contents(wanted), contents(before))
    assert {path: contents(tree_of(out)).get(path) for path in contents(wanted)} == contents(wanted)
