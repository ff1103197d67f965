"""Restores from and to disks that hold less: too little space, names that fold, no modes and no links."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.images import disk
from tests.faults.rig import Rig
from tests.faults.trees import Tree, tree_of
from tests.memory_disks import memory_disk

pytestmark = pytest.mark.needs_root

MIB = 1 << 20


def below(tree: Tree) -> Tree:
    return {path: thing for path, thing in tree.items() if path}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "rig")


@pytest.mark.needs_tool("mkfs.ext4")
def test_holes_and_links_take_no_space_and_what_does_not_fit_is_refused_before(rig: Rig) -> None:
    with (rig.source / "sparse").open("wb") as file:
        file.truncate(200 * MIB)
        file.write(b"start")
    (rig.source / "large").write_bytes(os.urandom(12 * MIB))
    for number in range(5):
        os.link(rig.source / "large", rig.source / f"link {number}")
    rig.once()
    with disk(rig.base / "disk", "ext4", 48 * MIB) as small:
        done = rig.run("restore", "--to", str(small / "out"))

        assert done.code == 0, done
        assert below(tree_of(small / "out")) == below(rig.wanted)
        assert (small / "out" / "large").stat().st_nlink == 6

        (rig.source / "huge").write_bytes(os.urandom(60 * MIB))
        rig.once()
        refused = rig.run("restore", "--to", str(small / "other"))

        assert refused.code == 4
        assert "are free" in refused.stderr
        assert list((small / "other").iterdir()) == []


@pytest.mark.needs_tool("mkfs.ext4")
def test_a_disk_that_fills_fails_entries_and_leaves_no_temps(rig: Rig) -> None:
    for number in range(20):
        (rig.source / f"file {number:02}").write_bytes(os.urandom(MIB))
    rig.once()
    with disk(rig.base / "disk", "ext4", 32 * MIB) as small:
        ballast = small / "ballast"
        free = os.statvfs(small)
        room = free.f_bavail * free.f_frsize
        with rig.started("restore", "--to", str(small / "out")) as running:
            ballast.write_bytes(bytes(max(0, room - 10 * MIB)))
            code = running.process.wait(60)

        assert code in {0, 3, 4}, running.errors
        assert not list(small.rglob(".truecopy-tmp-*"))
        for path in (small / "out").glob("file*"):
            assert path.read_bytes() == (rig.source / path.name).read_bytes()


def test_of_names_that_the_target_takes_for_one_the_second_is_refused(rig: Rig) -> None:
    for name in ("Photo", "photo", "other"):
        (rig.source / name).write_text(name)
    rig.once()
    with memory_disk(rig.base / "out", "fold", "fat") as out:
        done = rig.run("restore", "--to", str(out))

        assert done.code == 3
        assert "the target takes this name and 'Photo', which is restored, for one" in done.stdout
        assert {each.name: each.read_text() for each in out.iterdir()} == {"Photo": "Photo", "other": "other"}
        again = rig.run("restore", "--overwrite", "--to", str(out))
        assert again.code == 3
        assert {each.name: each.read_text() for each in out.iterdir()} == {"Photo": "Photo", "other": "other"}


def test_what_the_mirror_cannot_hold_comes_back_from_the_index(rig: Rig) -> None:
    (rig.source / "folder").mkdir(mode=0o750)
    (rig.source / "folder" / "file").write_text("content")
    (rig.source / "folder" / "file").chmod(0o640)
    os.setxattr(rig.source / "folder" / "file", "user.colour", b"blue")
    (rig.source / "link").symlink_to("/no/such/place")
    with memory_disk(rig.mirror, "fat"):
        assert rig.once().code == 0
        assert not (rig.mirror / "link").is_symlink()

        done = rig.run("restore", "--to", str(rig.base / "out"))

        found, wanted = tree_of(rig.base / "out"), rig.wanted
        assert done.code == 0, done
        assert os.readlink(rig.base / "out" / "link") == "/no/such/place"
        for path in (b"folder/file", b"folder"):
            assert (found[path].mode, found[path].owner) == (wanted[path].mode, wanted[path].owner)
        assert found[b"folder/file"].xattrs == wanted[b"folder/file"].xattrs
        assert found[b"folder/file"].mtime_ns == wanted[b"folder/file"].mtime_ns


@pytest.mark.needs_tool("mkfs.ext4")
def test_a_mirror_that_is_mounted_read_only_is_restored_from(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    with disk(rig.base / "disk", "ext4", 32 * MIB) as at:
        rig.configure(dest_dirs=[str(at / "mirror")])
        assert rig.once().code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)

        done = rig.run("restore", "--to", str(rig.base / "out"))
        listed = rig.run("versions", "file")

        assert (done.code, listed.code) == (0, 0), done
        assert (rig.base / "out" / "file").read_text() == "content"
