"""Kills while entries that left the source are retired: each content is in the mirror or in the versions, whole.

After a kill the next runs retire the rest. Nothing shares an inode with the mirror, and no temp stays.
"""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import in_state, injected

pytestmark = [pytest.mark.one_process, pytest.mark.needs_tool("strace")]

CALLS = {
    "rename,renameat,renameat2": 1,
    "unlink,unlinkat": 2,
    "link,linkat": 1,
    "fsync,fdatasync": 5,
    "syncfs": 1,
    "mkdirat": 1,
    "utimensat": 3,
    "openat": 23,
    "pwrite64": 29,
    "getdents64": 11,
}
"""System calls, and every how many of them `make test` kills."""
MOST = 400


@pytest.fixture
def retiring(rig: Rig) -> Rig:
    rig.configure(on_source_delete="retire", retire_after="0 hours", audit_interval="1 day")
    (rig.source / "stays").write_text("stays")
    return rig


class Round:
    """One set of entries that leave the source, below a folder of its own: files, folders, names that share a file."""

    def __init__(self, rig: Rig, number: int) -> None:
        self.rig, self.top = rig, f"round {number}"
        here = rig.source / self.top
        for name in ("gone", "stays", "folder/file", "folder/deep/file", "folder/deep/other", "below/gone"):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_text(f"{name} of {number}")
        os.link(here / "stays", here / "linked")
        os.link(here / "stays", here / "folder/linked")
        self.wanted = {
            name: (here / name).read_bytes()
            for name in ("gone", "linked", "folder/file", "folder/deep/file", "folder/deep/other", "folder/linked")
        } | {"below/gone": b"below/gone of %d" % number}
        assert rig.once().code == 0
        for name in ("gone", "linked", "below/gone"):
            (here / name).unlink()
        for name in ("deep/file", "deep/other", "file", "linked"):
            (here / "folder" / name).unlink()
        for name in ("folder/deep", "folder", "below"):
            (here / name).rmdir()
        assert rig.once().code == 0

    def killed(self, call: str, number: int) -> Done:
        paths: tuple[Path, ...] = ()
        if call in {"openat", "getdents64"}:  # the interpreter has hundreds of its own
            roots = (self.rig.source, self.rig.mirror)
            below = [folder for root in roots for folder in root.rglob("*") if folder.is_dir()]
            paths = (*roots, *in_state(self.rig.state, "index.sqlite3", "history.sqlite3"), *below)
        log = self.rig.base / "strace.log"
        return self.rig.once(prefix=injected(call, f"signal=KILL:when={number}", log=log, paths=paths))

    def held(self) -> dict[str, list[bytes]]:
        """Give all contents by name, wherever they are kept."""
        found: dict[str, list[bytes]] = {name: [] for name in self.wanted}
        versions = self.rig.state / "versions"
        for root in (self.rig.mirror, *(versions.iterdir() if versions.exists() else ())):
            for name in self.wanted:
                path = root / self.top / name
                if path.is_file():
                    found[name].append(path.read_bytes())
        return found

    def assert_kept(self) -> None:
        for name, contents in self.held().items():
            assert contents, name
            assert {*contents} == {self.wanted[name]}

    def assert_retired(self) -> None:
        self.assert_kept()
        assert {
            str(path.relative_to(self.rig.mirror / self.top)) for path in (self.rig.mirror / self.top).rglob("*")
        } == {"stays"}


def shared(rig: Rig) -> list[int]:
    """Give the inodes that a version shares with the mirror."""
    live = {path.lstat().st_ino for path in rig.mirror.rglob("*") if ".truecopy" not in path.parts}
    kept = Counter(path.lstat().st_ino for path in (rig.state / "versions").rglob("*"))
    return [inode for inode in kept if inode in live]


def sweep(rig: Rig, call: str, step: int) -> int:
    for number in range(1, MOST, step):
        one = Round(rig, number)
        done = one.killed(call, number)
        one.assert_kept()
        if done.code == 0:
            one.assert_retired()
            return number // step
        after = [rig.once(), rig.once()]
        assert [each.code for each in after] == [0, 0], after
        assert not after[-1].of("file_retired")
        assert not [each.drift for each in after if each.drift]
        one.assert_retired()
        assert not shared(rig)
        assert not list(rig.mirror.rglob(".truecopy-tmp-*"))
        assert rig.run("orphans").stdout == "# source: nothing left the source\n"
    raise AssertionError(call)


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_loses_nothing_and_the_next_run_ends_what_was_begun(retiring: Rig, call: str) -> None:
    assert sweep(retiring, call, CALLS[call])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", [call for call, step in CALLS.items() if step > 1])
def test_a_kill_at_each_single_call_loses_nothing(retiring: Rig, call: str) -> None:
    assert sweep(retiring, call, 1)


def test_what_was_retired_is_restored_with_its_checksum(retiring: Rig) -> None:
    rig = retiring
    one = Round(rig, 0)
    time.sleep(1.1)  # a time has whole seconds
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    time.sleep(1.1)
    done = rig.once()
    assert {line["path"] for line in done.of("file_retired")} == {
        f"round 0/{name}" for name in ("below", "folder", "gone", "linked")
    }
    one.assert_retired()
    listed = rig.run("versions", f"{one.top}/folder/deep/file", f"{one.top}/gone").stdout
    assert listed.count("it left the source") == 2
    assert listed.count("sha256:") == 2
    back = rig.run("restore", "--at", at, "--to", str(rig.base / "back"), one.top)
    assert back.code == 0, back
    assert {name: (rig.base / "back" / one.top / name).read_bytes() for name in one.wanted} == one.wanted
