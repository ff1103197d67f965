"""What a copy is to be like: on exFAT, with links and holes, and to whom it belongs."""

import os
from pathlib import Path

from tests.faults.matrix.entries import judged
from tests.faults.matrix.finding import Finding
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import MIB, Scene, content
from tests.fidelity import foreign

_EXFAT = ("mkfs.exfat", "mount.exfat-fuse", "losetup")


@row("21a", "two names that differ in case only, on exFAT", *_EXFAT)
def case(scene: Scene) -> Finding:
    names = {"Readme": b"a longer content", "README": b"content"}
    with foreign.exfat(scene.mirror, scene.base / "image"):
        for name, text in names.items():
            (scene.source / name).write_bytes(text)
        scene.fill("content")
        outcome = scene.run()
        held = {path.name: content(path) for path in scene.mirror.iterdir()}
        absent = any(held.get(name) != text for name, text in names.items())
        return judged(scene, outcome, "README", absent=absent)


@row("21b", "a name with `:`, on exFAT", *_EXFAT)
def colon(scene: Scene) -> Finding:
    with foreign.exfat(scene.mirror, scene.base / "image"):
        (scene.source / "a:b").write_text("content")
        scene.fill("content")
        outcome = scene.run()
        return judged(scene, outcome, "a:b", absent=content(scene.mirror / "a:b") != b"content")


@row("22", "hard links, and a hole of 50 MB")
def shape(scene: Scene) -> Finding:
    (scene.source / "one").write_text("content")
    os.link(scene.source / "one", scene.source / "two")
    with (scene.source / "sparse").open("wb") as file:
        file.truncate(50 * MIB)
        file.seek(50 * MIB)
        file.write(b"end")
    outcome = scene.run()
    wrong = tuple(f"{name} is another" for name in ("one", "two", "sparse") if not _same(scene, name))
    lesser = () if wrong else _lost_shape(scene.mirror)
    return outcome.finding(wrong=wrong, lesser=lesser)


def _same(scene: Scene, name: str) -> bool:
    return content(scene.mirror / name) == content(scene.source / name)


def _lost_shape(mirror: Path) -> tuple[str, ...]:
    linked = (mirror / "one").stat().st_ino == (mirror / "two").stat().st_ino
    sparse = (mirror / "sparse").stat().st_blocks * 512 < MIB
    return (() if linked else ("the link",)) + (() if sparse else ("the hole",))


@row("23", "owner, mode and extended attributes")
def metadata(scene: Scene) -> Finding:
    file = scene.source / "private"
    file.write_text("private")
    os.setxattr(file, "user.note", b"note")
    os.chown(file, 1234, 2345)
    file.chmod(0o600)
    outcome = scene.run()
    copy = scene.mirror / "private"
    if not copy.exists():
        return outcome.finding("private", absent=("private",))
    seen = copy.stat()
    wrong: tuple[str, ...] = () if (seen.st_uid, seen.st_gid) == (1234, 2345) else ("the owner is another",)
    wrong += () if seen.st_mode & 0o7777 == 0o600 else (f"the mode is {seen.st_mode & 0o7777:o}",)
    lesser = () if "user.note" in os.listxattr(copy) else ("the attribute",)
    return outcome.finding(wrong=wrong, lesser=lesser)


ROWS: tuple[Row, ...] = (case, colon, shape, metadata)
