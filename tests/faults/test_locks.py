"""Who can keep a backup from its mirror: another instance, wherever its state is, and nobody else."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.holding import Holding
from tests.faults.rig import Rig, temps_in, until
from tests.faults.tampering import injected

pytestmark = pytest.mark.one_process  # each says itself how many workers there are

STRANGER = ("setpriv", "--reuid=64003", "--regid=64003", "--clear-groups")
LOCKS_ALL_THAT_OPENS = """
import fcntl, os, struct, sys, time
locked = 0
for root in sys.argv[1:]:
    for folder, folders, files in [(root, [], []), *os.walk(root)]:
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            try:
                opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked += 1
                fcntl.fcntl(opened, fcntl.F_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 0, 0))
            except OSError:
                continue
print("locked" if locked >= 5 else locked, flush=True)
time.sleep(600)
"""


@contextmanager
def locking(*folders: Path, prefix: Sequence[str] = STRANGER) -> Iterator[None]:
    """Have another user lock whatever may be opened in these folders."""
    python = next(path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists())
    command = [*prefix, python, "-c", LOCKS_ALL_THAT_OPENS, *map(str, folders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield
        finally:
            process.kill()


@pytest.fixture
def open_rig() -> Iterator[Rig]:
    """A pair in folders that every user may enter and list."""
    base = Path(tempfile.mkdtemp(prefix="truecopy-test-", dir="/var/tmp"))
    try:
        base.chmod(0o755)
        rig = Rig(base)
        for folder in (rig.source, rig.mirror):
            folder.chmod(0o755)
        (rig.source / "file").write_text("content")
        yield rig
    finally:
        shutil.rmtree(base)


@pytest.mark.needs_root
@pytest.mark.parametrize("state", [None, "state"])
def test_another_user_who_locks_all_that_may_be_opened_keeps_nobody_from_anything(
    open_rig: Rig, state: str | None
) -> None:
    rig = open_rig
    rig.configure(**({} if state is None else {"state_dir": str(rig.base / state)}))
    first = rig.once()
    for folder in (rig.state, *rig.base.glob("state/*")):  # as a version before, or an administrator, may have left it
        folder.chmod(0o755)
    (rig.source / "more").write_text("more")
    rig.once()
    (rig.source / "last").write_text("last")

    with locking(rig.base, rig.mirror, rig.source):
        done = rig.once()

    assert (first.code, done.code) == (0, 0), done.stdout
    assert done.copied == {"last"}
    assert rig.mirrored == rig.wanted
    assert [path for path in (rig.state, *rig.state.iterdir()) if path.stat().st_mode & 0o077] == []


@pytest.fixture
def slow(rig: Rig) -> Rig:
    """A source of which a copy takes minutes, unless it is stopped."""
    (rig.source / "slow").write_bytes(bytes(range(250)) * 4000)
    rig.configure(rate_limit=5000)
    return rig


@pytest.mark.parametrize("check", ["awake", "asleep"])
def test_instances_with_state_folders_of_their_own_meet_in_the_mirror(slow: Rig, check: str) -> None:
    options = {"rate_limit": 5000, "mirror_check": check}
    slow.configure(state_dir=str(slow.base / "state"), **options)
    with slow.started("run", "--once") as first:
        first.wait_for("pair_started")
        until(lambda: temps_in(slow.mirror))
        slow.configure(state_dir=str(slow.base / "another state"), **options)
        busy = slow.once()
        first.end(signal.SIGKILL)
        slow.configure(state_dir=str(slow.base / "another state"), mirror_check=check)
        after = slow.once()

    assert (busy.code, after.code) == (75, 0), busy.stdout
    assert f"works on the mirror of source (process {first.process.pid} on" in busy.the("pair_busy")["error"]
    assert not busy.of("index_rebuilt")
    assert slow.mirrored == slow.wanted
    assert not slow.temps


def test_a_mirror_that_sleeps_is_claimed_before_what_a_killed_run_left_is_swept(slow: Rig) -> None:
    states = [str(slow.base / name) for name in ("one", "two")]
    for state in states:
        slow.configure(state_dir=state, mirror_check="asleep", rate_limit=5000)
        with slow.started("run", "--once") as run:
            until(lambda: temps_in(slow.mirror))
            run.end(signal.SIGKILL)
    slow.configure(state_dir=states[0], mirror_check="asleep", rate_limit=5000)
    with slow.started("run", "--once") as first:
        first.wait_for("pair_started")
        until(lambda: len(temps_in(slow.mirror)) == 1)
        theirs = temps_in(slow.mirror)
        slow.configure(state_dir=states[1], mirror_check="asleep")
        busy = slow.once()
        still = temps_in(slow.mirror)

    assert busy.code == 75
    assert still == theirs


REMOVALS: dict[str, Callable[[Path], object]] = {
    "the lock": lambda state: (state / "lock").unlink(),
    "the whole folder": lambda state: state.rename(state.parent / "moved away"),
}


@pytest.mark.parametrize("what", REMOVALS)
def test_who_lost_the_lock_in_mid_run_commits_nothing_more(slow: Rig, what: str) -> None:
    slow.configure(rate_limit=400_000, state_dir=str(slow.base / "state"))
    with slow.started("run", "--once") as run:
        run.wait_for("pair_started")
        until(lambda: temps_in(slow.mirror))
        REMOVALS[what](slow.state)
        failed = run.wait_for("pair_failed")
        code = run.process.wait(60)

    assert code == 1
    assert failed["error"].endswith("is lost: .truecopy/lock was removed or replaced in mid-run")
    assert not [line for line in run.lines if line["event"] == "file_copied"]
    slow.configure(state_dir=str(slow.base / "state"))
    with suppress(FileNotFoundError):  # one that was renamed is not replaced, but asked for
        (slow.mirror / "moved away").rename(slow.state)
    assert slow.once().code == 0


@pytest.mark.parametrize("command", [("run",), ("run", "--once")], ids=["fresh interpreters", "forks"])
@pytest.mark.parametrize("state", [None, "state"])
def test_workers_hold_the_lock_as_long_as_they_live(
    rig: Rig, command: Sequence[str], state: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rig.source / "file").write_text("content")
    rig.finely = True
    rig.configure(workers=2, workers_from=0, **({} if state is None else {"state_dir": str(rig.base / state)}))
    Holding(rig.state).begin(rig.base / "code", monkeypatch)
    with rig.started(*command) as main:
        Holding(rig.state).wait()
        workers = children(main.process.pid)
        try:
            for worker in workers:
                os.kill(worker, signal.SIGSTOP)
            main.end(signal.SIGKILL)
            busy = rig.once()
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
    Holding(rig.state).let_go()
    until(lambda: rig.once().code == 0)

    assert workers
    assert busy.code == 75, busy.stdout
    assert rig.mirrored == rig.wanted


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for each in found for child in each.read_text().split()]


@pytest.mark.needs_tool("strace")
@pytest.mark.parametrize("state", [None, "state"])
def test_a_mirror_on_a_file_system_without_locks_is_refused_in_words(rig: Rig, state: str | None) -> None:
    (rig.source / "file").write_text("content")
    rig.configure(**({} if state is None else {"state_dir": str(rig.base / state)}))
    lock = rig.state / "lock"
    rig.state.mkdir(mode=0o700)
    lock.touch(mode=0o600)

    refused = rig.once(prefix=injected("flock", "error=ENOLCK", log=rig.base / "strace.log", paths=(lock,)))

    assert refused.code == 4
    told = refused.the("pair_refused")
    assert told["reason"] == "state_unusable"
    assert (
        "its file system cannot lock a file (No locks available), so nothing keeps two instances apart" in told["error"]
    )
    assert not (rig.mirror / "file").exists()
