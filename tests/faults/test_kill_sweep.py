"""Killed or stopped at any step of a copy, the mirror holds whole contents, and the next run makes it equal.

What it held before is in the mirror or in the versions, at any moment.

With workers the n-th call of each process is hit: whoever gets there is killed, the main process or some workers.
"""

import signal
from pathlib import Path

import pytest

from tests import workers
from tests.faults.generations import Generations, contents
from tests.faults.rig import Done, Rig
from tests.faults.tampering import in_state, injected
from tests.faults.trees import tree_of

pytestmark = pytest.mark.needs_tool("strace")

CALLS = {
    "openat": 29,
    "write": 29,
    "fsync,fdatasync": 17,
    "syncfs": 2,
    "rename,renameat,renameat2": 11,
    "unlinkat,unlink": 3,
    "utimensat": 13,
    "fchmod": 11,
    "fchown,fchownat": 7,
    "fsetxattr": 1,
    "mkdirat": 4,
    "symlinkat": 1,
    "link,linkat": 1,
    "pwrite64": 31,
    "ftruncate": 1,
    "getdents64": 37,
}
"""System calls of the copy path, and every how many of them `make test` kills."""

MOST_CALLS = 500


def watched(rig: Rig, call: str) -> tuple[Path, ...]:
    """Only opens in the trees count: the interpreter has hundreds of its own."""
    if call not in {"openat", "getdents64"}:
        return ()
    below = [folder for root in (rig.source, rig.mirror) for folder in root.rglob("*") if folder.is_dir()]
    return (rig.source, rig.mirror, *in_state(rig.state, "index.sqlite3", "history.sqlite3"), *below)


def hit(generations: Generations, call: str, number: int, name: str) -> Done:
    """Let a run on the next generation get a signal at the n-th call of a kind, and hold the mirror against both.

    Whatever it was doing, nobody can read in the mirror what they could not read in the source.
    """
    rig = generations.rig
    old = contents(rig.mirrored)
    readers = generations.grow_and_watch()
    new, held = contents(rig.wanted), contents(rig.mirrored)
    log = rig.base / "strace.log"
    done = rig.once(
        prefix=injected(call, f"signal={name}:when={number}", log=log, paths=watched(rig, call)),
    )
    for path, content in contents(rig.mirrored).items():
        if b".truecopy-tmp-" not in path:
            assert content in {old.get(path), new.get(path)}, path
    assert not lost(rig, held)
    assert not readers.exposed(tried=1)
    assert not generations.published
    return done


def lost(rig: Rig, old: dict[bytes, object]) -> list[bytes]:
    """Give the names whose old content is neither in the mirror nor among the newest versions."""
    newest = sorted((rig.state / "versions").glob("*"))[-3:]
    held = [contents(rig.mirrored), *(contents(tree_of(each)) for each in newest)]
    return [path for path, content in old.items() if content not in [each.get(path) for each in held]]


def shared(rig: Rig) -> set[int]:
    """Give the inodes that a version and the mirror have in common."""
    below = [*rig.state.rglob("*")]
    versions = {path.lstat().st_ino for path in below if "versions" in path.parts}
    return versions & {path.lstat().st_ino for path in {*rig.mirror.rglob("*")}.difference(below)}


def heals(rig: Rig) -> None:
    """The next run is a success and leaves an equal tree without a temp."""
    again = rig.once()
    assert again.code == 0, again
    assert not again.of("index_rebuilt")
    assert rig.mirrored == rig.wanted
    assert links(rig.mirror) == links(rig.source)
    assert not rig.temps
    assert not shared(rig)


def links(root: Path) -> list[bool]:
    """Tell which names share a file with the first one."""
    first = (root / "linked/one").stat().st_ino
    return [(root / "linked/below" / name).stat().st_ino == first for name in ("two", "three")]


def lost_workers(done: Done) -> bool:
    """Tell whether the run survived and says which workers did not, and what that left undone, if anything."""
    assert bool(workers.FORCED) >= bool(done.of("worker_lost"))
    assert set(done.failed.values()) <= {"worker_lost"}
    assert done.code == (3 if done.failed else 0)
    return bool(done.of("worker_lost"))


def sweep(rig: Rig, call: str, step: int) -> int:
    """Kill at every `step`-th call until a run ends by itself; give how many were killed."""
    generations = Generations(rig)
    generations.grow()
    rig.once()
    for killed, number in enumerate(range(1, MOST_CALLS, step)):
        done = hit(generations, call, number, "KILL")
        if done.code == 0 and not done.of("worker_lost"):
            assert rig.mirrored == rig.wanted
            return killed
        assert done.code in {-signal.SIGKILL, 128 + signal.SIGKILL} or lost_workers(done), done
        heals(rig)
    raise AssertionError(call)


# A user's own copies need no new owner.
@pytest.mark.parametrize(
    "call", [pytest.param(call, marks=[pytest.mark.needs_root] * call.startswith("fchown")) for call in CALLS]
)
def test_a_kill_leaves_whole_contents_and_the_next_run_an_equal_tree(rig: Rig, call: str) -> None:
    # With workers a run starts several interpreters under the tracer: half as many kills.
    killed = sweep(rig, call, CALLS[call] * (2 if workers.FORCED else 1))

    assert killed


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
def test_a_kill_at_each_single_call_leaves_whole_contents(rig: Rig, call: str) -> None:
    killed = sweep(rig, call, 1)

    assert killed


@pytest.mark.parametrize(
    ("call", "number"), [("openat", 12), pytest.param("readv", 3, marks=pytest.mark.one_process), ("write", 7)]
)
def test_a_stop_drops_what_is_in_flight_and_says_so(rig: Rig, call: str, number: int) -> None:
    generations = Generations(rig)
    generations.grow()
    rig.once()

    done = hit(generations, call, number, "TERM")

    assert done.code == 143
    assert done.the("pair_finished")["result"] == "stopped"
    assert done.the("cycle_finished")["result"] == "stopped"
    assert not rig.temps
    heals(rig)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["openat", "readv", "write", "syncfs", "rename", "utimensat", "pwrite64"])
def test_a_stop_at_any_call_ends_stopped_or_with_everything_done(rig: Rig, call: str) -> None:
    generations = Generations(rig)
    generations.grow()
    rig.once()

    for number in range(1, MOST_CALLS):
        done = hit(generations, call, number, "TERM")
        told = [line["result"] for line in done.of("cycle_finished")]
        assert (done.code, told) in [(143, ["stopped"]), (0, ["success"]), (-signal.SIGTERM, []), (143, [])]
        assert not rig.temps
        heals(rig)
        if not (rig.base / "strace.log").read_text(errors="replace").count("SIGTERM"):
            return
    raise AssertionError(call)
