"""Roots that are unmounted, mounted over or replaced in mid-run: what goes where nobody sees it is told as lost."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.holding import Holding
from tests.faults.rig import PATIENCE, Line, Rig, Running

WAYS = [pytest.param({"workers": 1}, id="one process"), pytest.param({"workers": 2, "workers_from": 0}, id="workers")]
pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are


@contextmanager
def disk(at: Path) -> Iterator[None]:
    """Mount an empty disk, and take away whatever is mounted there at the end."""
    mount_over(at)
    try:
        yield
    finally:
        while os.path.ismount(at):
            unmount(at)


def mount_over(at: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(at)], check=True)


def unmount(at: Path) -> None:
    subprocess.run(["umount", "--lazy", str(at)], check=True)


def replace(at: Path) -> None:
    at.rename(at.with_suffix(".away"))
    at.mkdir()


def remove(at: Path) -> None:
    at.rename(at.with_suffix(".away"))


@pytest.fixture
def holding(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Holding:
    holding = Holding(rig.base / "state/source")
    holding.begin(tmp_path / "code", monkeypatch)
    return holding


def fill(rig: Rig) -> None:
    rig.finely = True
    for name in ("one", "two", "three"):
        (rig.source / name).mkdir()
        (rig.source / name / "file").write_text(name)


def in_mid_run(rig: Rig, holding: Holding, befall: Callable[[], None]) -> Running:
    """Let something happen while a run is in the middle of a copy; give the run when it ended."""
    with rig.started("run", "--once") as running:
        holding.wait()
        befall()
        holding.let_go()
        running.process.wait(PATIENCE)
    return running


def failure(running: Running) -> Line:
    """Insist that the pair failed and that nothing was told as copied; give what was told."""
    told = {line["event"]: line for line in running.lines}
    assert running.process.returncode == 1, running.lines
    assert told["cycle_finished"]["result"] == "failed"
    assert told["pair_failed"]["hint"]
    assert not [line for line in running.lines if line["event"] == "file_copied"]
    assert not [line for line in running.lines if line["event"] == "worker_lost"]
    return told["pair_failed"]


@pytest.mark.needs_root
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("befall", [unmount, mount_over], ids=["unmounted", "mounted over"])
def test_a_mirror_whose_disk_goes_in_mid_run_takes_no_commit(
    rig: Rig, holding: Holding, way: dict[str, int], befall: Callable[[Path], None]
) -> None:
    with disk(rig.mirror):
        fill(rig)
        rig.configure(**way, state_dir=str(rig.base / "state"))
        told = failure(in_mid_run(rig, holding, lambda: befall(rig.mirror)))
        refused = rig.once()
        left = os.listdir(rig.mirror)
        adopted = rig.run("adopt", "source")
        # The new mirror has a state folder of its own, and the sandbox keeps the run out of the one that it is held by.
        rig.configure(**way, state_dir=str(rig.base / "state"), landlock="off")
        healed = rig.once()
        equal = rig.mirrored == rig.wanted

    assert f"the mirror {rig.mirror} is not the folder any more that it was" in told["error"]
    assert (refused.code, refused.the("pair_refused")["reason"]) == (4, "mirror_missing")
    assert left == []
    assert (adopted.code, healed.code) == (0, 0)
    assert healed.copied == {"one/file", "two/file", "three/file"}  # the index never knew of any
    assert equal


@pytest.mark.needs_root
def test_a_source_whose_disk_goes_in_mid_run_has_not_lost_its_files(rig: Rig, holding: Holding) -> None:
    with disk(rig.source):
        fill(rig)
        rig.configure(workers=1, state_dir=str(rig.base / "state"))
        before = rig.wanted
        told = failure(in_mid_run(rig, holding, lambda: unmount(rig.source)))
        refused = rig.once()

    assert f"the source {rig.source} is not the folder any more that it was" in told["error"]
    assert refused.the("pair_refused")["reason"] == "source_empty"
    assert rig.mirrored.keys() <= before.keys()
    assert not refused.of("drift_found")


@pytest.mark.parametrize("side", ["source", "mirror"])
@pytest.mark.parametrize(("befall", "words"), [(replace, "not the folder any more"), (remove, "went away in mid-run")])
def test_a_folder_that_is_replaced_or_removed_in_mid_run_fails_the_pair(
    rig: Rig, holding: Holding, side: str, befall: Callable[[Path], None], words: str
) -> None:
    fill(rig)
    rig.configure(workers=1, state_dir=str(rig.base / "state"))
    place = rig.source if side == "source" else rig.mirror
    told = failure(in_mid_run(rig, holding, lambda: befall(place)))

    assert words in told["error"]
    assert f"the {side} {place}" in told["error"]
    if befall is replace:
        place.rmdir()
    place.with_suffix(".away").rename(place)
    healed = rig.once()
    assert healed.code == 0
    assert rig.mirrored == rig.wanted
    assert not rig.temps
