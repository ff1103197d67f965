"""Power cuts at any moment, by a record of every block that was written: nothing torn, nothing told and lost."""

import shutil
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.power.ages import WORKERS
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import BTRFS, EXT4, SERVED, XFS, FileSystem, on
from tests.faults.power.judge import Judge
from tests.faults.power.replay import Scene, recorded_scene
from tests.faults.tampering import injected

pytestmark = [
    *SERVED,
    pytest.mark.one_process,  # it has workers of its own
    pytest.mark.timeout(600),
]

AGES = 6
SEED = 20_26

needs_strace = pytest.mark.needs_tool("strace")


@pytest.mark.parametrize("count", [15, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
@on(EXT4, XFS, BTRFS)
def test_whenever_the_power_goes_nothing_is_torn_nothing_told_is_lost_and_the_index_is_true(
    rig: DiskRig, images: Path, system: FileSystem, count: int
) -> None:
    with recorded_scene(rig, images, system, AGES) as scene:
        judge = Judge(scene.history, rig.base / "scratch")
        for number, cut in enumerate(scene.after(scene.cuts(count, SEED))):
            size = scene.size(cut)
            complaints = judge.complaints(rig.mirror, size)
            assert not complaints, f"{cut}: {complaints}"
            if number % 4 == 0 or scene.history.at_rest(size) == AGES - 1:
                heals(scene, size, f"{cut}")

    assert [age.code for age in scene.history.ages] == [0] * AGES
    assert all(len(age.told) > 30 for age in scene.history.ages)


def heals(scene: Scene, size: int, what: str) -> None:
    """Insist that the next run makes all equal, and does nothing where everything was acknowledged."""
    rig = scene.rig
    rig.mirror.mkdir(exist_ok=True)
    shutil.rmtree(rig.memory)
    if (remembered := scene.history.remembered(size)) is not None:
        shutil.copytree(remembered, rig.memory)
    rig.configure(workers=WORKERS[size % len(WORKERS)], workers_from=0)
    done = rig.once()
    assert done.code == 0, (what, done)
    assert not rig.amiss, (what, done)
    # In what left the source, nobody looks.
    assert {temp.rpartition(b"/")[0] for temp in rig.temps}.isdisjoint(rig.wanted), what
    if scene.history.at_rest(size) == AGES - 1:
        assert done.counts[:2] == (0, 0), (what, done)
        assert not done.drift, (what, done)
        assert not done.of("index_rebuilt"), (what, done)
    rig.configure(audit_interval=0)
    audited = rig.once()
    assert audited.code == 0, (what, audited)
    assert audited.counts[:2] == (0, 0), (what, audited)
    assert not audited.drift, (what, audited)


def found(rig: DiskRig, images: Path, system: FileSystem, count: int) -> Generator[str, None, None]:
    """Give everything that is found amiss, at so many power cuts, with what was copied by lies."""
    with recorded_scene(rig, images, system, 2) as scene:
        judge = Judge(scene.history, rig.base / "scratch")
        for cut in scene.after(scene.cuts(count, SEED)):
            yield from judge.complaints(rig.mirror, scene.size(cut))


# The checker itself ---------------------------------------------------------------------------------------------------


@needs_strace
@on(EXT4, XFS, BTRFS)
def test_where_no_sync_reaches_the_disk_what_was_told_is_found_lost(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    rig.prefix = injected("syncfs,fsync,fdatasync", "retval=0", log=rig.base / "strace.log")

    with closing(found(rig, images, system, 8)) as complaints:
        assert any("is lost" in complaint for complaint in complaints)


@needs_strace
@on(EXT4, XFS)
def test_where_nothing_is_synced_before_it_gets_its_name_contents_are_found_torn(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    rig.prefix = injected("syncfs", "retval=0:when=1+2", log=rig.base / "strace.log")

    with closing(found(rig, images, system, 120)) as complaints:
        left = {"is what it never was", "the index says"}
        while left and (complaint := next(complaints, None)):
            left = {words for words in left if words not in complaint}

    assert not left


@needs_strace
@on(BTRFS)  # the others write all names before what is synced for the index
def test_where_nothing_is_synced_after_it_got_its_name_the_index_is_found_ahead(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    rig.prefix = injected("syncfs", "retval=0:when=2+2", log=rig.base / "strace.log")

    with closing(found(rig, images, system, 120)) as complaints:
        assert any("the index says" in complaint for complaint in complaints)
