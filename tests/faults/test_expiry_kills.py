"""Killed at any call of expiry, or of giving up: no version that must stay is lost, and the next run ends the work."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from job.core.retention import FLOOR
from job.store.version_rows import decode_versions
from tests.faults.aged import age, make_due, moments
from tests.faults.rig import Done, Rig
from tests.faults.tampering import in_state, injected, mounted

pytestmark = [pytest.mark.needs_tool("strace"), pytest.mark.one_process]

CALLS = {
    "unlinkat,unlink": 3,
    "rmdir": 1,
    "openat": 17,
    "newfstatat": 29,
    "write": 11,
    "pwrite64": 9,
    "fsync,fdatasync": 5,
    "getdents64": 11,
    "flock": 1,
}
"""System calls of expiry, and every how many of them `make test` kills."""
MOST_CALLS = 400


def watched(rig: Rig, call: str) -> tuple[Path, ...]:
    """Only calls on the versions and the index count, where others would be thousands."""
    if call not in {"openat", "newfstatat", "getdents64"}:
        return ()
    versions = rig.state / "versions"
    return (versions, *(path for path in versions.rglob("*") if path.is_dir()), *in_state(rig.state, "index.sqlite3"))


def kept(rig: Rig) -> dict[str, bytes]:
    versions = rig.state / "versions"
    return {str(path.relative_to(versions)): path.read_bytes() for path in versions.rglob("*") if path.is_file()}


def rows(rig: Rig) -> int:
    with closing(sqlite3.connect(rig.state / "index.sqlite3")) as index:
        return sum(len(decode_versions(text)) for (text,) in index.execute("SELECT rows FROM version"))


def with_expired(rig: Rig) -> None:
    """Make a mirror with versions: 4 folders have expired, with the only content of a path among them."""
    for name in ("file", "folder/one", "folder/two", "gone/file"):
        path = rig.source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("0")
    rig.once()
    for number in range(1, FLOOR + 4):
        for name in ("file", "folder/one", "folder/two"):
            (rig.source / name).write_text(f"{number}")
        if number == 2:
            shutil.rmtree(rig.source / "gone")
            (rig.source / "gone").write_text("a file now")
        assert rig.once().code == 0
    age(rig, 40, 3)


def sweep(rig: Rig, call: str, step: int, prepare: Callable[[], set[str]], check: Callable[[], None]) -> int:
    """Kill at every `step`-th call until a run ends by itself; give how many were killed."""
    saved = rig.base / "saved"
    shutil.copytree(rig.state / "versions", saved / "versions")
    shutil.copy2(rig.state / "index.sqlite3", saved)
    for killed, number in enumerate(range(1, MOST_CALLS, step)):
        (rig.mirror / "large").unlink(missing_ok=True)
        shutil.rmtree(rig.state / "versions")
        shutil.copytree(saved / "versions", rig.state / "versions")
        shutil.copy2(saved / "index.sqlite3", rig.state)
        must_stay, before = prepare(), kept(rig)
        log = rig.base / "strace.log"
        done = rig.once(prefix=injected(call, f"signal=KILL:when={number}", log=log, paths=watched(rig, call)))
        after = kept(rig)
        assert {name: before[name] for name in must_stay}.items() <= after.items()
        assert after.items() <= {**before, **after}.items()
        if done.code != 0:
            assert done.code in {-signal.SIGKILL, 128 + signal.SIGKILL}, done
            again: Done = rig.once()
            assert again.code == 0, again
            assert {name: before[name] for name in must_stay}.items() <= kept(rig).items()
        check()
        if done.code == 0:
            return killed
    raise AssertionError(call)


def expiry(rig: Rig, call: str, step: int) -> None:
    with_expired(rig)
    expired = {path.name for _, path in moments(rig)[:3]}

    def prepare() -> set[str]:
        with closing(sqlite3.connect(rig.state / "index.sqlite3", isolation_level=None)) as index:
            make_due(index)
        return {name for name in kept(rig) if name.partition("/")[0] not in expired or name.endswith("gone/file")}

    def check() -> None:
        left = [name for name in kept(rig) if name.partition("/")[0] in expired]
        assert [name.partition("/")[2] for name in left] == ["gone/file"]
        assert rows(rig) >= len(kept(rig)) - 1

    assert sweep(rig, call, step, prepare, check)


@pytest.mark.parametrize("call", ["unlinkat,unlink", "pwrite64", "openat"])
def test_a_kill_during_expiry_loses_no_version_that_stays(rig: Rig, call: str) -> None:
    expiry(rig, call, CALLS[call] * 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", [call for call in CALLS if call not in {"rmdir", "flock"}])
def test_a_kill_at_each_call_of_expiry_loses_no_version_that_stays(rig: Rig, call: str) -> None:
    expiry(rig, call, 1)


def giving_up(rig: Rig, call: str, step: int) -> None:
    with mounted("tmpfs", rig.mirror, "-t", "tmpfs", "-o", "size=12m"):
        rig.configure(versions={"most": "100 %"})
        (rig.source / "file").write_bytes(os.urandom(500_000))
        (rig.source / "folder").mkdir()
        rig.once()
        for _ in range(FLOOR + 6):
            (rig.source / "file").write_bytes(os.urandom(500_000))
            (rig.source / "folder/file").write_bytes(os.urandom(100_000))
            assert rig.once().code == 0
        (rig.source / "large").write_bytes(os.urandom(4_000_000))
        newest = {path.name for _, path in moments(rig)[-FLOOR:]}
        oldest = [path.name for _, path in moments(rig)]

        def prepare() -> set[str]:
            return {name for name in kept(rig) if name.partition("/")[0] in newest}

        def check() -> None:
            assert rig.mirrored == rig.wanted
            left = {name.partition("/")[0] for name in kept(rig)}
            assert left == set(oldest[-len(left) :])

        assert sweep(rig, call, step, prepare, check)


@pytest.mark.needs_root
def test_a_kill_while_versions_are_given_up_loses_none_that_stays(rig: Rig) -> None:
    giving_up(rig, "unlinkat,unlink", 4)


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", ["unlinkat,unlink", "syncfs", "openat", "pwrite64", "flock", "getdents64"])
def test_a_kill_at_each_call_of_giving_up_loses_none_that_stays(rig: Rig, call: str) -> None:
    giving_up(rig, call, 1)
