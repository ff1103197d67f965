"""Power cuts while entries that left the source are retired: each content is in the mirror or in the versions."""

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.power.ages import Age, History
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import BTRFS, EXT4, SERVED, XFS, FileSystem, on, recorded
from tests.faults.power.record import Record
from tests.faults.power.replay import Scene, copy_image, start_in
from tests.faults.tampering import run

pytestmark = [*SERVED, pytest.mark.one_process, pytest.mark.timeout(600)]

SEED = 20_26
FILES = {
    **{f"folder/deep {number}/file {each}": f"{number} {each}" for number in range(4) for each in range(5)},
    **{f"single {number}": f"single {number}" for number in range(12)},
    "shared/one": "shared by several names",
}


def contents_below(root: Path) -> dict[str, str]:
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return {name: (root / name).read_text() for name in names if not name.startswith(".truecopy/")}


def complaints(rig: DiskRig) -> list[str]:
    """Give the names whose content is nowhere, or torn."""
    versions = [contents_below(each) for each in (rig.state / "versions").glob("*")]
    live = {name: text for name, text in contents_below(rig.mirror).items() if name in FILES}
    found = []
    for name, text in FILES.items():
        held = [each[name] for each in (live, *versions) if name in each]
        found += [] if held and {*held} == {text} else [f"{name}: {held}"]
    return found


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
@on(EXT4, XFS, BTRFS)
def test_no_content_is_lost_whenever_the_power_goes(rig: DiskRig, images: Path, system: FileSystem, count: int) -> None:
    rig.configure(on_source_delete="retire", retire_after="0 hours")
    for name, text in FILES.items():
        (rig.source / name).parent.mkdir(parents=True, exist_ok=True)
        (rig.source / name).write_text(text)
    os.link(rig.source / "shared/one", rig.source / "stays")
    image = system.format(images / "image")
    with rig.on(image, system.options):
        assert rig.once().code == 0
        for name in FILES:
            (rig.source / name).unlink()
        shutil.rmtree(rig.source / "folder")
        assert rig.once().code == 0
    copy_image(image, start_in(images))
    with recorded(image) as served, rig.on(served.file, system.options):
        run("sync", "-f", str(rig.disk))
        done = rig.once()
        ended = served.position
    assert (done.code, len(done.of("file_retired"))) == (0, 14)
    history = History([Age({}, {}, 0, [], {}, ended, done.code, rig.memory)])
    record = Record(served.record, system.superblock)
    try:
        scene = Scene(rig, images, record, history)
        for number, cut in enumerate(scene.after(scene.cuts(count, SEED))):
            assert not complaints(rig), cut
            if scene.size(cut) >= ended:
                assert not {*FILES} & {*contents_below(rig.mirror)}, cut
            if number % 4 == 0:
                shutil.rmtree(rig.memory, ignore_errors=True)  # that of another moment would refuse the mirror
                after = [rig.once() for _ in range(3)]
                assert [each.code for each in after] == [0, 0, 0], (cut, after)
                assert not complaints(rig), cut
                assert not {*FILES} & {*contents_below(rig.mirror)}, cut
                assert not rig.temps
    finally:
        record.close()
