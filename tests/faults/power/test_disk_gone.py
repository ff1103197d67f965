"""Disks that go away while a run copies to them: it ends soon, says so, and told nothing that is not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.power.ages import Growth
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import BTRFS, EXT4, SERVED, XFS, FileSystem, cut_power, on, recorded
from tests.faults.rig import PATIENCE, Line, temps_in, until
from tests.faults.tampering import injected

# They have workers of their own.
pytestmark = [*SERVED, pytest.mark.needs_tool("xfs_io"), pytest.mark.timeout(600), pytest.mark.one_process]

RATE = 150_000
SIZES = {"many small files": (2000, 200), "some": (100_000, 8), "one large file": (800_000, 1)}


def plant(rig: DiskRig, size: int, count: int) -> None:
    """Have files in the source that take five seconds."""
    folder = rig.source / "to come"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}").write_bytes(b"%d" % (number % 10) * size)


def goes(rig: DiskRig, away: Callable[[], None]) -> tuple[int, list[Line]]:
    """Take the disk away while a run copies to it; give the exit code and the lines."""
    with rig.started("run", "--once") as running:
        until(lambda: temps_in(rig.mirror / "to come"))
        away()
        return running.process.wait(PATIENCE), running.lines


@pytest.mark.parametrize("kind", SIZES)
@on(EXT4, XFS)
def test_a_disk_that_is_shut_down_in_mid_run_ends_it(rig: DiskRig, images: Path, system: FileSystem, kind: str) -> None:
    shut_down(rig, system.format(images / "image"), kind, rate_limit=RATE)


@pytest.mark.needs_tool("strace")
@on(EXT4, XFS)
def test_a_disk_that_is_shut_down_under_several_workers_ends_their_run(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    # A rate limit would have one process do it all.
    rig.prefix = injected("utimensat", "delay_enter=20000", log=rig.base / "strace.log")
    options = {"workers": 3, "workers_from": 0, "state_dir": str(rig.base / "state")}
    shut_down(rig, system.format(images / "image"), "many small files", **options)


def shut_down(rig: DiskRig, image: Path, kind: str, **options: Any) -> None:
    """Shut a disk down while a run with such options copies to it."""
    state = {name: value for name, value in options.items() if name == "state_dir"}
    rig.configure(**state)
    Growth(rig).grow()
    with rig.on(image):
        rig.once()
        plant(rig, *SIZES[kind])
        rig.configure(**options)
        code, lines = goes(rig, lambda: cut_power(rig.disk))
    rig.configure(**state)
    comes_back(rig, image, code, lines)


def comes_back(rig: DiskRig, image: Path, code: int, lines: list[Line]) -> None:
    """Insist that a run did not end well, said why, told nothing that is not there, and that the next one heals."""
    rig.prefix = ()
    with rig.on(image):
        left = rig.amiss
        again = rig.once()
        amiss, temps = rig.amiss, rig.temps

    errors = [line["error"] for line in lines if line["event"] in {"file_failed", "pair_failed"}]
    assert code in {1, 3}
    assert errors
    assert all(errors)
    assert [line["result"] for line in lines if line["event"] == "cycle_finished"] in (["partial"], ["failed"])
    assert not left & {line["path"].encode() for line in lines if line["event"] == "file_copied"}
    assert again.code == 0
    assert not amiss
    assert not temps


@on(EXT4, XFS, BTRFS)
def test_a_disk_that_is_unplugged_in_mid_run_ends_it(rig: DiskRig, images: Path, system: FileSystem) -> None:
    image = system.format(images / "image")
    plant(rig, *SIZES["some"])
    state = {"state_dir": str(rig.base / "state")}
    rig.configure(rate_limit=RATE, **state)
    with recorded(image) as served, rig.on(served.file):
        code, lines = goes(rig, served.unplug)
    comes_back(rig, image, code, lines)
