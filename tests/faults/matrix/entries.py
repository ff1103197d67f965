"""Odd entries of a source: each is to cost itself at most, and every other file is to be copied."""

import os
from contextlib import suppress
from pathlib import Path

from tests.faults.matrix.finding import Finding, Outcome
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import Scene, content
from tests.faults.rig import UNPRIVILEGED

_SOON = 15.0
"""Seconds until a tool that opened a FIFO is said to hang."""
_FORGED = "FORGED: everything is fine"


def judged(scene: Scene, outcome: Outcome, name: str, *, absent: bool, wrong: tuple[str, ...] = ()) -> Finding:
    """Judge a run with one odd entry, whose name was to be told if it is absent from the mirror."""
    left = scene.left
    others = (f"{left} healthy files are left",) if left else ()
    return outcome.finding(name, wrong=wrong + others, absent=(name,) if absent else (), left=left)


@row("10", "a FIFO in the source")
def fifo(scene: Scene) -> Finding:
    os.mkfifo(scene.source / "a pipe")
    scene.fill("content")
    outcome = scene.run(patience=_SOON)
    left = scene.left
    wrong = (f"{left} healthy files are left",) if left else ()
    lesser = () if (scene.mirror / "a pipe").is_fifo() else ("the FIFO",)
    return outcome.finding(wrong=wrong, lesser=lesser, left=left)


@row("13", "a link in the source that leads outside")
def leads_outside(scene: Scene) -> Finding:
    (scene.outside / "secret").write_text("secret")
    (scene.source / "a link").symlink_to(scene.outside / "secret")
    scene.fill("content")
    outcome = scene.run()
    taken = b"secret" in scene.held(scene.mirror).values()
    wrong = ("what it leads to was copied",) if taken else ()
    kept = (scene.mirror / "a link").is_symlink()
    return outcome.finding("a link", wrong=wrong, lesser=() if kept else ("the link",), left=scene.left)


@row("14", "a file that an ordinary user may not read", "setpriv")
def unreadable_file(scene: Scene) -> Finding:
    locked = scene.source / "a locked file"
    locked.write_text("locked")
    locked.chmod(0)
    scene.fill("content")
    outcome = scene.run(prefix=UNPRIVILEGED)
    return judged(scene, outcome, locked.name, absent=content(scene.mirror / locked.name) != b"locked")


@row("15", "a folder that an ordinary user may not read", "setpriv")
def unreadable_folder(scene: Scene) -> Finding:
    locked = scene.source / "a locked folder"
    locked.mkdir()
    (locked / "file").write_text("locked")
    locked.chmod(0)
    scene.fill("content")
    outcome = scene.run(prefix=UNPRIVILEGED)
    return judged(scene, outcome, locked.name, absent=content(scene.mirror / locked.name / "file") != b"locked")


def _deep(root: Path, *, make: bool) -> int:
    """Open the folder at the end of a path of more than 6,000 bytes."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(30):
        if make:
            os.mkdir("d" * 200, dir_fd=folder)
        try:
            inner = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _leaf(folder: int, flags: int) -> int:
    try:
        return os.open("leaf", flags, 0o644, dir_fd=folder)
    finally:
        os.close(folder)


@row("16", "a path of more than 4,096 bytes")
def long_path(scene: Scene) -> Finding:
    with open(_leaf(_deep(scene.source, make=True), os.O_WRONLY | os.O_CREAT), "wb") as leaf:
        leaf.write(b"deep")
    scene.fill("content")
    outcome = scene.run()
    found = b""
    with suppress(OSError), open(_leaf(_deep(scene.mirror, make=False), os.O_RDONLY), "rb") as leaf:
        found = leaf.read()
    return judged(scene, outcome, "leaf", absent=found != b"deep")


@row("17", "newlines in names, and the tool's log")
def forged_log(scene: Scene) -> Finding:
    names = [f"two\n{_FORGED}", f"two\r\n{_FORGED}\n", f"\x1b[2J\n{_FORGED}"]
    for name in names:
        (scene.source / name).write_text(name)
    scene.fill("content")
    with scene.started(loud=True) as run:
        outcome = run.outcome()
    log = content(run.order.log) or b""
    forged = [line for line in log.split(b"\n") if line.startswith(_FORGED.encode())]
    wrong = (f"{len(forged)} forged lines in the log",) if forged else ()
    absent = any(content(scene.mirror / name) != name.encode() for name in names)
    return judged(scene, outcome, "two", absent=absent, wrong=wrong)


@row("18", "a name that is not UTF-8")
def not_utf8(scene: Scene) -> Finding:
    name = os.fsdecode(b"invalid \xff\xfe utf-8")
    (scene.source / name).write_text("content")
    scene.fill("content")
    outcome = scene.run()
    return judged(scene, outcome, "utf-8", absent=content(scene.mirror / name) != b"content")


@row("19", "a file becomes a folder, and a folder a file")
def swapped(scene: Scene) -> Finding:
    one, other = scene.source / "one", scene.source / "other"
    one.write_text("old")
    other.mkdir()
    (other / "file").write_text("old")
    scene.first_run()
    one.unlink()
    (other / "file").unlink()
    other.rmdir()
    one.mkdir()
    (one / "file").write_text("new")
    other.write_text("new")
    scene.fill("content")
    outcome = scene.run()
    done = content(scene.mirror / "one" / "file") == content(scene.mirror / "other") == b"new"
    # Nothing stands in the way of a right copy: not to make it is wrong, told or not.
    return judged(scene, outcome, "other", absent=False, wrong=() if done else ("the mirror is half the old tree",))


ROWS: tuple[Row, ...] = (
    fifo,
    leads_outside,
    unreadable_file,
    unreadable_folder,
    long_path,
    forged_log,
    not_utf8,
    swapped,
)
