"""Ended in the middle: by kill -9, by a power cut, by a disk that is gone."""

import shutil
import subprocess
from pathlib import Path

from tests.faults.matrix.disks import Disk, power_cut
from tests.faults.matrix.finding import Finding
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import Scene, content, either

_OLD = b"old" * 340
_CUT = ("xfs_io", "losetup", "mount")


def _replace_a_small_file_by_a_large_one(scene: Scene) -> bytes:
    """Have a small file copied, then replace it; gives the new content."""
    (scene.source / "grown").write_bytes(_OLD)
    scene.fill_old()
    scene.first_run()
    new = b"new!" * (scene.large // 4)
    (scene.source / "grown").write_bytes(new)
    return new


def _strangers(scene: Scene) -> tuple[str, ...]:
    """Name what a mirror holds beside the copies and the tool's own folder."""
    known = {path.name for path in scene.source.iterdir()} | {".truecopy", "lost+found"}
    return tuple(f"{path.name} is left over" for path in scene.mirror.iterdir() if path.name not in known)


@row("1", "`kill -9` while a small file is replaced by a large one")
def killed(scene: Scene) -> Finding:
    with scene.met(lambda: _start_over(scene)) as run:
        run.end()
    found = either(scene.mirror / "grown", _OLD, content(scene.source / "grown") or b"")
    again = scene.run()
    wrong = found if again.code == 0 else (*found, "the next run fails")
    # Nobody can tell of its own sudden death: what is left of it is to be cleared up by the next run.
    return again.finding(wrong=wrong, lesser=_strangers(scene), left=scene.left)


def _start_over(scene: Scene) -> None:
    scene.emptied_mirror()
    _replace_a_small_file_by_a_large_one(scene)


def _cut_after_success(scene: Scene, kind: str) -> Finding:
    disk = Disk.made(scene.base / "image", kind)
    with disk.at(scene.mirror):
        scene.fill_old()
        scene.first_run()
        subprocess.run(["sync", "-f", str(scene.mirror)], check=True)
        scene.fill("new")
        outcome = scene.run()
        power_cut(scene.mirror)
    with disk.at(scene.mirror):
        lost = scene.left
        wrong = (f"{lost} of 20 updates are lost",) if lost else ()
        return outcome.finding(wrong=wrong)


@row("2a", "power cut right after exit 0, ext4 (20 files updated)", *_CUT, "mkfs.ext4")
def power_ext4(scene: Scene) -> Finding:
    return _cut_after_success(scene, "ext4")


@row("2b", "power cut right after exit 0, XFS (20 files updated)", *_CUT, "mkfs.xfs")
def power_xfs(scene: Scene) -> Finding:
    return _cut_after_success(scene, "xfs")


@row("26", "the mirror's disk is gone in mid-run", *_CUT, "mkfs.ext4")
def disk_gone(scene: Scene) -> Finding:
    disk = Disk.made(scene.base / "image", "ext4", size=512 << 20)
    with disk.at(scene.mirror), scene.met(lambda: _start_anew(scene)) as run:
        power_cut(scene.mirror)
        outcome = run.outcome()
    with disk.at(scene.mirror):
        wrong = either(scene.mirror / "grown", _OLD, content(scene.source / "grown") or b"")
        wrong += _mangled(scene)
        return outcome.finding(wrong=wrong, absent=("the update",))


def _start_anew(scene: Scene) -> None:
    _clear(scene.mirror)
    _replace_a_small_file_by_a_large_one(scene)
    subprocess.run(["sync", "-f", str(scene.mirror)], check=True)
    scene.fill("new")


def _mangled(scene: Scene) -> tuple[str, ...]:
    """Name healthy files that hold neither their old content nor their new one."""
    found: tuple[str, ...] = ()
    for path in sorted(scene.source.glob("healthy-*")):
        new = content(path) or b""
        found += either(scene.mirror / path.name, new.replace(b"new", b"old"), new)
    return found


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


ROWS: tuple[Row, ...] = (killed, power_ext4, power_xfs, disk_gone)
