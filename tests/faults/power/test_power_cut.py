"""Power cuts of a mounted disk: what a run told stays told, what it was in the middle of is old or new."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from job.core.record import FolderDone, FolderSummary
from job.store.index import Index
from tests.faults.generations import contents
from tests.faults.power.ages import Growth
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import EXT4, MOUNTED, XFS, FileSystem, cut_power, on
from tests.faults.tampering import injected

# They have workers of their own.
pytestmark = [*MOUNTED, pytest.mark.needs_tool("xfs_io"), pytest.mark.timeout(600), pytest.mark.one_process]

KILLED = ("syncfs", "rename,renameat,renameat2", "fsync,fdatasync", "link,linkat", "unlink,unlinkat", "mkdirat")
"""System calls at which a run is cut off in the middle."""


@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
@pytest.mark.parametrize("workers", [1, 3])
@on(EXT4, XFS)
def test_what_a_run_told_before_it_exited_with_0_survives_a_power_cut_right_after(
    rig: DiskRig, images: Path, system: FileSystem, workers: int, state: str
) -> None:
    # What is synced for an index in the mirror has a journalling file system write all before it, too.
    elsewhere = {"state_dir": str(rig.base / "state")} if state == "elsewhere" else {}
    rig.configure(workers=workers, workers_from=0, **elsewhere)
    image, growth = system.format(images / "image"), Growth(rig)
    for _ in ("all is new", "all is updated"):
        growth.grow()
        with rig.on(image, system.options):
            done = rig.once()
            cut_power(rig.disk)
        with rig.on(image, system.options):
            amiss, again = rig.amiss, rig.once()
            temps = rig.temps

        assert done.code == 0
        assert len(done.copied) > 30
        assert not amiss
        assert not temps
        assert again.code == 0
        assert again.counts[:2] == (0, 0), again.stdout
        assert not again.drift
        assert not again.of("index_rebuilt")


@pytest.mark.needs_tool("strace")
@pytest.mark.parametrize("numbers", [(2,), pytest.param(range(1, 12), marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("workers", [1, 3])
@on(EXT4, XFS)
def test_a_run_cut_off_with_its_disk_leaves_old_or_new_contents_and_the_next_one_heals(
    rig: DiskRig, images: Path, system: FileSystem, workers: int, numbers: Sequence[int]
) -> None:
    rig.configure(workers=workers, workers_from=0)
    image, growth = system.format(images / "image"), Growth(rig)
    growth.grow()
    with rig.on(image, system.options):
        rig.once()
    old, cut_off = contents(rig.wanted), 0
    for number, call in product(numbers, KILLED):
        growth.grow()
        new = contents(rig.wanted)
        with rig.on(image, system.options):
            fault = injected(call, f"signal=KILL:when={number}", log=rig.base / "strace.log")
            # Where a worker is killed, the run ends by itself: as a partial one.
            cut_off += rig.once(prefix=fault).code != 0
            cut_power(rig.disk)
        with rig.on(image, system.options):
            left = contents(rig.mirrored)
            healed = rig.once()
            amiss = rig.amiss

        torn = {path for path in new if path in left and left[path] not in (old.get(path), new[path])}
        assert not torn, (call, number)
        assert healed.code == 0, (call, number, healed)
        assert not amiss, (call, number)
        old = new
    assert cut_off > len(KILLED) // 2


@on(EXT4, XFS)
def test_what_the_index_has_committed_survives_a_power_cut_at_that_moment(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    image, state = system.format(images / "image"), str(rig.disk)
    known = FolderSummary(b"source", b"stamp", b"mirror", entries=1, specials=0, recheck=False)
    with rig.on(image, system.options):
        index = Index.open(state)
        index.commit([FolderDone(b"folder", known)], [])
        cut_power(rig.disk)
        index.close()
    with rig.on(image, system.options):
        index = Index.open(state)
        found = index.summary(b"folder")
        index.close()

    assert found == known
