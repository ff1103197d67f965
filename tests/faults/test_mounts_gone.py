"""Mounts that die, or turn stale or read-only, in mid-run: nothing counts as gone, and the end is no success."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import troubled
from tests.faults.rig import Line, Rig, Running, temps_in, until
from tests.faults.tampering import injected, mounted

FOLDERS = 9
HALF = "folder 5"
"""Where a run is when its mount dies."""
CALLS = {"source": "read", "mirror": "write"}


def plant(rig: Rig, content: str) -> None:
    for number in range(FOLDERS):
        folder = rig.source / f"folder {number}"
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text(f"{content} {number}")


def texts(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.glob("folder*/[!.]*")}


@contextmanager
def dying(base: Path, side: str, workers: int) -> Iterator[tuple[Rig, Running]]:
    """Give a rig whose server died when a run was half-way, and the run."""
    # Read back, as the loop for plain files makes a temp only after the file was read.
    options = {"workers": workers, "workers_from": 0, "state_dir": str(base / "state"), "verify_copies": "readback"}
    with troubled.troubled(base / side) as server:
        rig = Rig(base, options, finely=workers > 1)
        plant(rig, "old")
        assert rig.once().code == 0
        plant(rig, "newer")
        server.tell(hang={CALLS[side]: f"{HALF}/"})
        with rig.started("run", "--once") as running:
            until(lambda: temps_in(rig.mirror / HALF))
            server.kill()
            running.process.wait(60)
            yield rig, running


def told(running: Running, event: str) -> list[Line]:
    return [line for line in running.lines if line["event"] == event]


def ends_badly(rig: Rig, running: Running) -> None:
    """It is no success, in the exit code, the log and the metrics; and nothing is believed that nobody can know."""
    assert running.process.returncode in {1, 3}
    assert [line["result"] for line in told(running, "pair_finished")] in (["failed"], ["partial"])
    assert rig.metric("cycles_total", result="success") == 1
    assert rig.metric("cycles_total", result="failed") + rig.metric("cycles_total", result="partial") == 1
    assert not told(running, "folder_retired")
    assert "vanished" not in told(running, "cycle_finished")[-1]["skipped_by"]


@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
@pytest.mark.one_process  # says itself how many
@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_whose_server_dies_in_mid_run_is_not_one_that_vanished(tmp_path: Path, workers: int) -> None:
    with dying(tmp_path, "source", workers) as (rig, running):
        copied = {line["path"] for line in told(running, "file_copied")}
        failed = {line["path"] for line in told(running, "file_failed")}
        ends_badly(rig, running)
        # With several workers, another one's commit may find the source gone first, which ends the pair.
        assert f"{HALF}/file" in failed or told(running, "pair_failed")
        assert rig.once().code == 4
        found = texts(rig.mirror)
        assert found.keys() == {f"folder {number}/file" for number in range(FOLDERS)}
        assert all(text.split()[0] in {"old", "newer"} for text in found.values())
        assert all(found[path].startswith("newer") for path in copied)
    assert not list(rig.source.iterdir()), "what was there went with its server"
    heals(rig)


def heals(rig: Rig) -> None:
    """With the lost side back, the next run is a success and both are equal."""
    plant(rig, "newest")
    again = rig.once()
    assert again.code == 0, again
    assert texts(rig.mirror) == texts(rig.source)
    assert not rig.temps


@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
@pytest.mark.one_process
@pytest.mark.parametrize("workers", [1, 2])
def test_of_what_went_to_a_mirror_whose_server_died_nothing_is_believed(tmp_path: Path, workers: int) -> None:
    with dying(tmp_path, "mirror", workers) as (rig, running):
        ends_badly(rig, running)
        copied = {line["path"] for line in told(running, "file_copied")}
        # Of several workers another one may have had all of its copies synced before.
        assert f"{HALF}/file" not in copied if workers > 1 else not copied
        assert rig.once().code == 4
    assert not list(rig.mirror.iterdir()), "what was there went with its server"
    (refused,) = rig.once().of("pair_refused")
    assert refused["reason"] == "mirror_missing", "it comes back empty, and is not filled unasked"
    assert rig.run("adopt", refused["pair"]).code == 0
    heals(rig)


@pytest.mark.needs_tool("strace")
@pytest.mark.parametrize("side", ["source", "mirror"])
@pytest.mark.parametrize(
    ("error", "calls"),
    [
        ("ESTALE", "openat,newfstatat,getdents64"),
        pytest.param("ENOTCONN", "openat,newfstatat,getdents64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("where", ["at the root", "below"])
def test_a_handle_that_turned_stale_is_no_folder_that_vanished(
    rig: Rig, side: str, error: str, calls: str, where: str
) -> None:
    plant(rig, "old")
    rig.configure(state_dir=str(rig.base / "state"), workers=1)
    assert rig.once().code == 0
    plant(rig, "newer")
    root = rig.source if side == "source" else rig.mirror
    path = root if where == "at the root" else root / HALF
    fault = injected(calls, f"error={error}:when=3+", log=rig.base / "strace.log", paths=(path,))

    done = rig.once(prefix=fault)

    assert done.code in {1, 3, 4}, done
    assert not done.of("folder_retired")
    assert all(text.split()[0] in {"old", "newer"} for text in texts(rig.mirror).values())
    assert texts(rig.mirror).keys() == texts(rig.source).keys()
    if where == "below":
        assert {name.partition("/")[0] for name in done.failed} == {HALF}
        assert len(done.copied) == FOLDERS - 1
    again = rig.once()
    assert again.code == 0, again
    assert texts(rig.mirror) == texts(rig.source)


@pytest.mark.needs_root
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.one_process
def test_a_mirror_that_turns_read_only_in_mid_run_ends_the_pair_early_and_is_told_by_its_own_reason(
    rig: Rig, workers: int
) -> None:
    with mounted("tmpfs", rig.mirror, "-t", "tmpfs"):
        rig.finely = workers > 1
        rig.configure(workers=workers, workers_from=0, state_dir=str(rig.base / "state"), rate_limit=None)
        plant(rig, "old")
        assert rig.once().code == 0
        plant(rig, "newer")
        # Of two workers one makes at least five of the nine.
        when = f"error=EROFS:when={6 // workers}+"
        fault = injected("mkdirat,openat", when, log=rig.base / "strace.log", paths=folders(rig))

        done = rig.once(prefix=fault)

        assert done.code == 1
        assert "read-only" in done.the("pair_failed")["error"]
        assert rig.metric("files_failed_total", reason="read_only") >= 1
        assert rig.metric("cycles_total", result="failed") == 1
        assert len(done.failed) < FOLDERS, "it goes on although nothing can be written"
        assert rig.once().code == 0
        assert texts(rig.mirror) == texts(rig.source)


def folders(rig: Rig) -> tuple[Path, ...]:
    return tuple(path for path in rig.mirror.glob("folder*"))
