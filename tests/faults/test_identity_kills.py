"""Kills while a mirror is adopted or gets the mark of a cycle: what is right stays known, and no other is written to.

The memory outside of the mirror and the identity in it are two files on two disks. Whichever is written last, a run
after a kill must neither refuse a mirror that is right nor write to one that was not adopted.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import injected
from tests.faults.trees import remove

pytestmark = [pytest.mark.one_process, pytest.mark.needs_tool("strace")]

CALLS = ["fsync", "rename,renameat,renameat2", "mkdirat,mkdir", "flock", "write", "fchmod", "utimensat"]
MOST = 60


@pytest.fixture(autouse=True)
def places(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / "xdg"))
    (rig.source / "file").write_text("content")


def killed(rig: Rig, call: str, number: int, *arguments: str) -> Done:
    return rig.run(*arguments, prefix=injected(call, f"signal=KILL:when={number}", log=rig.base / "strace.log"))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and ".truecopy" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("call", [call for call in CALLS if call != "utimensat"])
def test_an_adoption_that_is_killed_at_any_call_leaves_contents_alone_and_can_be_repeated(rig: Rig, call: str) -> None:
    shutil.copy2(rig.source / "file", rig.mirror / "file")
    for number in range(1, MOST):
        remove(rig.state) if rig.state.exists() else None
        remove(rig.base / "xdg") if (rig.base / "xdg").exists() else None
        done = killed(rig, call, number, "adopt", "source")
        assert files(rig.mirror) == {"file": b"content"}
        if done.code == 0:
            break
        again, cycle = rig.run("adopt", "source"), rig.once()
        assert (again.code, cycle.code, cycle.copied) == (0, 0, set()), (number, again.stderr)
    else:
        pytest.fail("it never came to its end")
    assert number > 1


@pytest.mark.parametrize("call", [call for call in CALLS if call != "utimensat"])
@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_a_mirror_that_was_made_anew_is_adopted_and_filled_after_a_kill_at_any_call(
    rig: Rig, call: str, state: str
) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}))
    assert rig.once().code == 0
    for number in range(1, MOST):
        remove(rig.mirror)
        rig.mirror.mkdir()
        done = killed(rig, call, number, "run", "--once")
        if done.code == 0:
            break
        again = rig.once()
        assert (again.code, again.of("pair_refused")) == (0, []), (number, again)
        assert files(rig.mirror) == {"file": b"content"}
    else:
        pytest.fail("it never came to its end")
    assert number > 1
    assert files(rig.mirror) == {"file": b"content"}


@pytest.mark.parametrize("call", ["fsync", "rename,renameat,renameat2", "write"])
def test_a_second_disk_whose_adoption_is_killed_is_not_written_to_before_it_is_adopted(rig: Rig, call: str) -> None:
    assert rig.once().code == 0
    rig.mirror.rename(rig.base / "first")
    shutil.copytree(rig.base / "xdg", rig.base / "remembered")
    for number in range(1, MOST):
        remove(rig.base / "xdg")
        shutil.copytree(rig.base / "remembered", rig.base / "xdg")
        remove(rig.mirror) if rig.mirror.exists() else None
        rig.mirror.mkdir()
        (rig.mirror / "file").write_text("older")
        done = killed(rig, call, number, "adopt", "source")
        if done.code == 0:
            break
        before = files(rig.mirror)
        cycle = rig.once()
        assert before == {"file": b"older"}
        if cycle.code:  # it is not remembered yet
            assert cycle.code == 4, cycle
            assert files(rig.mirror) == before
            assert rig.run("adopt", "source").code == 0
            assert rig.once().code == 0
        assert files(rig.mirror) == {"file": b"content"}
    else:
        pytest.fail("it never came to its end")
    assert number > 1
    remove(rig.mirror)
    (rig.base / "first").rename(rig.mirror)
    back = rig.once()
    assert (back.code, back.copied) == (0, set())


@pytest.mark.parametrize("state", ["mirror", "state_dir"])
@pytest.mark.parametrize("call", CALLS)
def test_a_cycle_that_is_killed_at_any_call_about_its_mark_leaves_a_mirror_that_is_known(
    rig: Rig, call: str, state: str
) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}))
    assert rig.once().code == 0
    identity = rig.state / "identity.json"
    marks = set()
    for number in range(1, MOST):
        content = os.urandom(8).hex()
        (rig.source / "file").write_text(content)
        done = killed(rig, call, number, "run", "--once")
        marks.add(json.loads(identity.read_text())["cycle"]["mark"])
        if done.code == 0:
            break
        again = rig.once()
        assert (again.code, again.of("pair_refused")) == (0, []), (number, again)
        assert files(rig.mirror) == {"file": content.encode()}
        assert rig.once().code == 0
    else:
        pytest.fail("it never came to its end")
    assert len(marks) > 1
