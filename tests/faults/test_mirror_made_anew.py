"""A remembered mirror that comes back empty: adopted if a person made its folder anew, otherwise refused.

The facts and the table are in `core/mirror_identity.py`; here they are real folders, disks, subvolumes and mounts.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.faults.containers import Container
from tests.faults.images import disk
from tests.faults.rig import Done, Rig
from tests.faults.tampering import mounted, run
from tests.faults.trees import remove
from tests.fidelity import foreign

pytestmark = pytest.mark.one_process  # what is refused before anybody works

SIZES = {"ext4": 16 << 20, "btrfs": 128 << 20, "xfs": 320 << 20}


@pytest.fixture(autouse=True)
def places(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with a source that has a file, and with nothing remembered."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / "xdg"))
    (rig.source / "file").write_text("content")


def id_in(mirror: Path) -> str:
    return str(json.loads((mirror / ".truecopy/identity.json").read_text())["mirror_id"])


def is_refused(done: Done) -> None:
    told = done.the("pair_refused")
    assert (done.code, told["reason"]) == (4, "mirror_missing")
    assert "is empty, but is known since" in told["error"]
    assert "Mount the disk of the mirror" in told["hint"]
    assert "truecopy adopt source" in told["hint"]


def make_anew(folder: Path) -> None:
    """Remove a folder and make it again, as a person does to begin anew."""
    shutil.rmtree(folder)
    folder.mkdir()


# Adopted --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_a_mirror_whose_folder_was_made_anew_is_adopted_and_filled(rig: Rig, state: str) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}))
    assert rig.once().code == 0
    before = id_in(rig.mirror)
    for _ in range(3):
        make_anew(rig.mirror)
        planned = rig.run("plan")

        done, again = rig.once(), rig.once()

        adopted = done.the("mirror_adopted")
        assert (planned.code, done.code, done.copied, adopted["compared"]) == (0, 0, {"file"}, False)
        assert "what was kept in it is gone" in done.the("state_folder_lost")["error"]
        assert before != id_in(rig.mirror) == adopted["mirror_id"]
        assert (again.code, again.copied, again.of("mirror_adopted")) == (0, set(), [])
        assert rig.mirrored == rig.wanted
        before = id_in(rig.mirror)
    # What was there before is gone, and is no disk that may come back.
    [status] = json.loads(rig.run("status", "--json").stdout)["pairs"]
    assert [each["id"] for each in status["mirrors"]] == [before]
    assert rig.metric("cycles_total", result="success") == (7 if state == "state_dir" else 2)


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("ext4", marks=pytest.mark.needs_tool("mkfs.ext4")),
        pytest.param("btrfs", marks=pytest.mark.needs_tool("mkfs.btrfs")),
        pytest.param("xfs", marks=pytest.mark.needs_tool("mkfs.xfs")),
        "tmpfs",
    ],
)
def test_it_is_known_on_each_file_system_whose_inodes_tell_one_folder_from_the_next(rig: Rig, kind: str) -> None:
    at = rig.base / "disk"
    with mounted("tmpfs", at, "-t", "tmpfs") if kind == "tmpfs" else disk(at, kind, SIZES[kind]):
        mirror = at / "mirror"
        mirror.mkdir()
        rig.configure(dest_dirs=[str(mirror)])
        assert rig.once().code == 0
        make_anew(mirror)
        done = rig.once()
        for path in (mirror / "file", mirror / ".truecopy"):
            remove(path) if path.is_dir() else path.unlink()
        emptied = rig.once()

    assert (done.code, done.copied) == (0, {"file"})
    is_refused(emptied)


def test_a_mirror_that_was_only_moved_away_goes_on_when_it_is_back(rig: Rig) -> None:
    assert rig.once().code == 0
    rig.mirror.rename(rig.base / "away")
    rig.mirror.mkdir()
    assert rig.once().copied == {"file"}
    remove(rig.mirror)
    (rig.base / "away").rename(rig.mirror)

    done = rig.once()

    assert (done.code, done.copied) == (0, set())


# Refused --------------------------------------------------------------------------------------------------------------


def test_a_mirror_that_was_emptied_in_place_is_refused(rig: Rig) -> None:
    assert rig.once().code == 0
    (rig.mirror / "file").unlink()
    remove(rig.state)

    done = rig.once()

    is_refused(done)
    assert not any(rig.mirror.iterdir())


def test_a_folder_that_is_older_than_the_last_cycle_is_refused_although_that_wrote_nothing(rig: Rig) -> None:
    assert rig.once().code == 0
    [memory] = (rig.base / "xdg/truecopy/pairs/.truecopy").glob("*.json")
    before, after = memory.stat(), os.stat_result((0,) * 10)
    while after.st_ino != before.st_ino:  # what changed a moment ago is looked at again, as a cycle that writes does
        before = memory.stat()
        assert rig.once().copied == set()
        after = memory.stat()
    make_anew(rig.mirror)
    made_ns = rig.mirror.stat().st_ctime_ns
    os.utime(memory, ns=(made_ns, made_ns))  # a cycle at another place of the path, which hid this folder

    done = rig.once()

    assert before.st_mtime_ns < after.st_mtime_ns < made_ns
    assert before.st_ino == after.st_ino
    is_refused(done)
    os.utime(memory, ns=(after.st_mtime_ns, after.st_mtime_ns))
    assert rig.once().copied == {"file"}


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.parametrize("anew", [False, True])
def test_the_mount_point_of_an_unmounted_disk_is_refused_also_if_it_was_made_anew(rig: Rig, *, anew: bool) -> None:
    with disk(rig.mirror, "ext4", SIZES["ext4"]):
        assert rig.once().code == 0
    if anew:
        make_anew(rig.mirror)

    done = rig.once()

    is_refused(done)
    assert not any(rig.mirror.iterdir())


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
def test_a_blank_disk_is_refused(rig: Rig) -> None:
    with disk(rig.mirror, "ext4", SIZES["ext4"]):
        assert rig.once().code == 0
    with disk(rig.mirror, "ext4", SIZES["ext4"]):
        done = rig.once()
        left = list(rig.mirror.iterdir())

    is_refused(done)
    assert left == []


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.btrfs")
@pytest.mark.parametrize("anew", [False, True])
def test_the_mount_point_of_an_unmounted_subvolume_of_the_same_disk_is_refused(rig: Rig, *, anew: bool) -> None:
    with disk(rig.base / "disk", "btrfs", SIZES["btrfs"]) as top:
        run("btrfs", "subvolume", "create", str(top / "backups"))
        device = run("findmnt", "-no", "SOURCE", str(top)).strip()
        mirror = top / "mirror"
        rig.configure(dest_dirs=[str(mirror)])
        with mounted(device, mirror, "-o", "subvol=backups"):
            assert rig.once().code == 0
        if anew:
            make_anew(mirror)
        done = rig.once()
        left = list(mirror.iterdir())
        with mounted(device, mirror, "-o", "subvol=backups"):
            back = rig.once()

    is_refused(done)
    assert left == []
    assert (back.code, back.copied) == (0, set())


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.btrfs")
def test_what_a_snapshot_has_in_the_place_of_a_subvolume_is_refused(rig: Rig) -> None:
    with disk(rig.base / "disk", "btrfs", SIZES["btrfs"]) as top:
        run("btrfs", "subvolume", "create", str(top / "home"))
        run("btrfs", "subvolume", "create", str(top / "home/mirror"))
        rig.configure(dest_dirs=[str(top / "home/mirror")])
        assert rig.once().code == 0
        run("btrfs", "subvolume", "snapshot", str(top / "home"), str(top / "snapshot"))
        (top / "home").rename(top / "before")
        (top / "snapshot").rename(top / "home")  # as a roll-back does
        done = rig.once()
        left = list((top / "home/mirror").iterdir())

    is_refused(done)
    assert left == []


@pytest.mark.needs_root
@pytest.mark.parametrize("anew", [False, True])
def test_the_mount_point_of_a_lost_bind_mount_is_refused(rig: Rig, *, anew: bool) -> None:
    folder = rig.base / "elsewhere/mirror"
    folder.mkdir(parents=True)
    with mounted(str(folder), rig.mirror, "--bind"):
        assert rig.once().code == 0
    if anew:
        make_anew(rig.mirror)

    done = rig.once()
    with mounted(str(folder), rig.mirror, "--bind"):
        back = rig.once()

    is_refused(done)
    assert not any(rig.mirror.iterdir())
    assert (back.code, back.copied) == (0, set())


@foreign.EXFAT[0]
@foreign.EXFAT[1]
@foreign.EXFAT[2]
def test_it_is_refused_where_inode_numbers_are_invented(rig: Rig) -> None:
    with foreign.exfat(rig.base / "disk", rig.base / "disk.img") as at:
        mirror = at / "mirror"
        mirror.mkdir()
        rig.configure(dest_dirs=[str(mirror)])
        assert rig.once().code == 0
        make_anew(mirror)
        done = rig.once()

    is_refused(done)


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare")
def test_a_folder_that_the_engine_of_a_container_made_is_refused(rig: Rig) -> None:
    """Engines make what is missing: the folder of a bind mount, and a volume."""
    for name in ("xdg", "volume"):
        (rig.base / name).mkdir()
    volumes = {path: path for path in (rig.source, rig.base / "xdg")} | {rig.mirror: rig.base / "volume"}
    with mounted("tmpfs", rig.base / "layer", "-t", "tmpfs") as layer:
        container = Container(rig, layer)
        assert container.once(volumes).code == 0
        make_anew(rig.base / "volume")

        done = container.once(volumes)

    is_refused(done)
    assert not any((rig.base / "volume").iterdir())
