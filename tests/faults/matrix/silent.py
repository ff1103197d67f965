"""What changes without a trace: edits that hide, rot on both sides, a damaged index, a day of ransomware."""

import os
import random
import time
from pathlib import Path

from tests.faults.matrix.disks import Disk
from tests.faults.matrix.finding import Finding, Outcome
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import Scene, back_dated, content
from tests.faults.matrix.tools import OURS

_LENGTH = 65536
"""Bytes of a file that rots: enough to lie in blocks of its own."""
_OLD_ENOUGH = 3.0
_DAYS_AFTER = (1, 3, 7, 14, 21, 28)
_SEED = 20261123


@row("5", "an edit that keeps size and mtime")
def hidden_edit(scene: Scene) -> Finding:
    file = scene.source / "edited"
    file.write_bytes(b"old")
    scene.first_run()
    seen = file.stat()
    file.write_bytes(b"new")
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    outcome = scene.run()
    absent = () if content(scene.mirror / "edited") == b"new" else ("the edit",)
    return outcome.finding("edited", absent=absent)


@row("6", "rot in the mirror", "losetup", "mkfs.ext4", later="verify (a scrub of the mirror)")
def mirror_rots(scene: Scene) -> Finding:
    good = os.urandom(_LENGTH)
    (scene.source / "rotting").write_bytes(good)
    disk = Disk.made(scene.base / "image", "ext4")
    with disk.at(scene.mirror):
        scene.first_run()
    disk.rot(good)
    with disk.at(scene.mirror):
        outcome = scene.run()
        absent = () if content(scene.mirror / "rotting") == good else ("the rot was not found",)
        return outcome.finding("rotting", absent=absent)


def _source_rots(scene: Scene, kind: str, *, updated: bool) -> tuple[Outcome, bytes, bytes, int]:
    """Have a source rot, perhaps after an update; gives outcome, content before the rot, the mirror's, healthy left."""
    good = os.urandom(_LENGTH)
    disk = Disk.made(scene.base / "image", kind)
    with disk.at(scene.source):
        (scene.source / "rotting").write_bytes(good)
        back_dated(scene.source / "rotting", hours=1)
        scene.fill_old()
        if not updated:
            _age(scene.source / "rotting")
        scene.first_run()
        newest = os.urandom(_LENGTH) if updated else good
        if updated:
            (scene.source / "rotting").write_bytes(newest)
            scene.fill("new")
    disk.rot(newest)
    with disk.at(scene.source):
        outcome = scene.run()
        return outcome, good, content(scene.mirror / "rotting") or b"", scene.left


def _age(path: Path) -> None:
    """Wait until a file is no longer one that may just be being written, which is read twice for that."""
    while time.time() - path.stat().st_ctime < _OLD_ENOUGH:
        time.sleep(0.1)


@row("7a", "rot in the source, which cannot be read then (btrfs EIO)", "losetup", "mkfs.btrfs")
def source_unreadable(scene: Scene) -> Finding:
    outcome, good, mirrored, left = _source_rots(scene, "btrfs", updated=True)
    wrong = () if mirrored == good else ("the old copy is gone",)
    return outcome.finding("rotting", wrong=_others(wrong, left), absent=("the update",), left=left)


def _others(wrong: tuple[str, ...], left: int) -> tuple[str, ...]:
    return (*wrong, f"{left} healthy files are left") if left else wrong


@row("7b", "rot in the source that nothing tells of (ext4)", "losetup", "mkfs.ext4", later="verify (of the source)")
def source_rots(scene: Scene) -> Finding:
    outcome, good, mirrored, _ = _source_rots(scene, "ext4", updated=False)
    wrong = () if mirrored == good else ("the rot replaced the good copy",)
    return outcome.finding("rotting", wrong=wrong, lesser=("the rot was not found",))


@row("29", "the index is cut off or holds flipped bytes", only=OURS)
def index_damaged(scene: Scene) -> Finding:
    scene.fill("content", count=200)
    scene.first_run()
    index = scene.mirror / ".truecopy" / "index.sqlite3"
    whole, before = index.read_bytes(), _copies(scene)
    chance = random.Random(_SEED)
    damaged = [whole[: len(whole) * share // 3] for share in range(3)]
    damaged += [_flipped(whole, chance) for _ in range(4)]
    wrong: tuple[str, ...] = ()
    lesser: tuple[str, ...] = ()
    outcome = Outcome(0)
    for each in damaged:
        index.write_bytes(each)
        outcome, again = scene.run(), scene.run()
        # A flipped byte may lie where nothing is.
        lesser += () if outcome.tells() or len(each) == len(whole) else ("a cut was not told",)
        wrong += () if again.code == 0 else ("it is not rebuilt",)
        wrong += () if _copies(scene) == before else ("copies changed",)
    return Finding(told=not lesser, wrong=wrong, lesser=lesser, code=outcome.code)


def _flipped(whole: bytes, chance: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(200):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def _copies(scene: Scene) -> dict[str, tuple[bytes, int, int]]:
    """Give contents, inodes and times: a file that was copied again has another inode."""
    found = {}
    for path in scene.mirror.glob("healthy-*"):
        seen = path.stat()
        found[path.name] = (path.read_bytes(), seen.st_ino, seen.st_mtime_ns)
    return found


@row("30", "a day of ransomware, and retention for four weeks after it", "faketime")
def ransomware(scene: Scene) -> Finding:
    scene.fill("precious", hours_ago=1)
    scene.first_run()
    hit = sorted(scene.source.glob("healthy-*"))[:12]
    precious = {path.read_bytes() for path in hit}
    for path in hit:
        path.write_bytes(os.urandom(path.stat().st_size))
    for path in hit[::2]:
        path.rename(f"{path}.locked")
    outcome = scene.run()
    for days in _DAYS_AFTER:
        (scene.source / "diary").write_text(f"day {days}")
        for _ in range(2):  # after a jump of the clock nothing expires until a second run
            scene.run(prefix=("env", "NO_FAKE_STAT=1", "faketime", "-f", f"+{days}d"))
    left = len(precious - _everything_in(scene.mirror))
    wrong = (f"{left} of 12 files are nowhere any more",) if left else ()
    return outcome.finding(wrong=wrong)


def _everything_in(folder: Path) -> set[bytes]:
    return {content(path) or b"" for path in folder.rglob("*")}


ROWS: tuple[Row, ...] = (hidden_edit, mirror_rots, source_unreadable, source_rots, index_damaged, ransomware)
