"""Restores from and to disks that hold less: too little space, names that fold, no modes and no links."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.images import disk
from tests.faults.rig import UNPRIVILEGED, Rig
from tests.faults.trees import Tree, temps_below, tree_of
from tests.fidelity import foreign
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


@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_a_disk_that_is_full_in_the_midst_fails_what_has_no_space_and_the_rest_is_whole(rig: Rig, what: str) -> None:
    # Small files take a block and an inode each: more than the bytes that are asked for before.
    for number in range(600):
        (rig.source / f"folder {number % 7}").mkdir(exist_ok=True)
        (rig.source / f"folder {number % 7}" / f"file {number:03}").write_text(f"content {number}")
    rig.once()
    rig.configure(log_file=str(rig.base / "log"))
    with disk(rig.base / "disk", "ext4", 8 * MIB) as small:
        if what == "blocks":
            (small / "ballast").write_bytes(bytes(free_bytes(small) - 300 * os.statvfs(small).f_frsize))
        else:
            for number in range(os.statvfs(small).f_ffree - 300):
                (small / f"ballast {number}").touch()
        done = rig.run("restore", "--to", str(small / "out"))

        assert done.code == 3, done
        restored = [path for path in (small / "out").rglob("*") if path.is_file()]
        assert 100 < len(restored) < 600
        assert "(No space left on device" in done.stdout
        assert temps_below(small / "out") == []
        for path in restored:
            assert path.read_bytes() == (rig.source / path.relative_to(small / "out")).read_bytes()
        log = [json.loads(line) for line in (rig.base / "log").read_text().splitlines()]
        assert len([line for line in log if line["event"] == "file_restored"]) == len(restored)
        assert log[-1]["counts"] == {"restored": len(restored), "failed": 600 - len(restored)}

        for path in small.glob("ballast*"):
            path.unlink()
        assert rig.run("restore", "--to", str(small / "out")).code == 0
        assert files(tree_of(small / "out")) == files(rig.wanted)


def files(tree: Tree) -> Tree:
    return {path: thing for path, thing in tree.items() if thing.kind == "-"}


def free_bytes(at: Path) -> int:
    found = os.statvfs(at)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("mount", [pytest.param(foreign.exfat, id="exfat", marks=foreign.EXFAT)])
def test_a_target_without_modes_links_and_symlinks_gets_the_contents_and_says_what_it_lacks(
    rig: Rig, mount: foreign.Mounting
) -> None:
    (rig.source / "folder").mkdir(mode=0o750)
    (rig.source / "folder" / "file").write_text("content")
    (rig.source / "folder" / "file").chmod(0o640)
    (rig.source / "one").write_text("two names")
    os.link(rig.source / "one", rig.source / "two")
    (rig.source / "link").symlink_to("folder")
    (rig.source / "a:b").write_text("a name")
    rig.once()
    with mount(rig.base / "disk", rig.base / "disk.img") as portable:
        done = rig.run("restore", "--to", str(portable / "out"))
        again = rig.run("restore", "--to", str(portable / "out"))

        found = {str(each.relative_to(portable / "out")) for each in (portable / "out").rglob("*")}
        assert found == {"folder", "folder/file", "one", "two"}
        for name in ("folder/file", "one", "two"):
            assert (portable / "out" / name).read_bytes() == (rig.source / name).read_bytes()
            seen = (portable / "out" / name).stat().st_mtime
            assert abs(seen - (rig.source / name).stat().st_mtime) <= 2
    assert done.code == again.code == 3
    assert "failed     source  link" in done.stdout
    assert "failed     source  a:b" in done.stdout
    assert "3 restored" in done.stdout
    assert "3 there already" in again.stdout
    assert "# source: not restored: " in done.stdout


@pytest.fixture
def open_base() -> Iterator[Path]:
    """Give a folder that another user may enter."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def roots(open_base: Path) -> Rig:
    """A mirror that root wrote, with files that one user owns, and that only they may read."""
    rig = Rig(open_base)
    rig.config.chmod(0o644)
    (rig.source / "file").write_text("everybody's")
    (rig.source / "theirs").write_text("theirs")
    (rig.source / "secret").write_text("secret")
    (rig.source / "closed").mkdir()
    (rig.source / "closed" / "file").write_text("closed")
    for name in ("theirs", "secret", "closed"):
        os.chown(rig.source / name, 12345, 12345)
    (rig.source / "secret").chmod(0o600)
    (rig.source / "closed").chmod(0o700)
    rig.once()
    return rig


@pytest.mark.needs_tool("setpriv")
def test_who_may_not_read_or_chown_gets_the_rest_and_each_reason(roots: Rig) -> None:
    out = roots.base / "out"

    done = roots.run("restore", "--to", str(out), prefix=UNPRIVILEGED)

    assert done.code == 3
    assert {str(each.relative_to(out)) for each in out.rglob("*")} == {"file", "theirs"}
    for name in ("closed", "secret"):
        assert f"failed     source  {name}  (Permission denied" in done.stdout
    assert "# source: not restored: owner (this needs root" in done.stdout
    assert (out / "theirs").stat().st_uid == 0
    kept = roots.run("restore", "--to", str(roots.base / "other"), "theirs", prefix=UNPRIVILEGED)
    assert kept.code == 0, "what a user cannot set is said, as in a cycle"
    assert "# source: not restored: owner" in kept.stdout


@pytest.mark.needs_tool("setpriv")
def test_another_user_is_refused_before_anything_is_written_and_told_who_may(roots: Rig) -> None:
    out = roots.base / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)

    done = roots.run(
        "restore", "--to", str(out), prefix=("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    )

    assert done.code == 4, done
    assert "cannot be read: Permission denied" in done.stderr
    assert "Run this command as the user that runs the backups, or as root." in done.stderr
    assert list(out.iterdir()) == []


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
