"""Disks that are full or fail, and a source whose server has lost it."""

import os
import subprocess

from tests.faults.matrix.disks import failing, mounted
from tests.faults.matrix.finding import Finding
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import MIB, Scene, content, either
from tests.faults.tampering import injected
from tests.faults.tampering import mounted as memory


@row("3", "no space left while a file is replaced", "mount")
def no_space(scene: Scene) -> Finding:
    with memory("tmpfs", scene.mirror, "-t", "tmpfs", "-o", "size=3m"):
        (scene.source / "grown").write_bytes(b"old")
        scene.fill_old()
        scene.first_run()
        new = os.urandom(5 * MIB)
        (scene.source / "grown").write_bytes(new)
        scene.fill("new")
        outcome = scene.run()
        wrong = either(scene.mirror / "grown", b"old", new)
        return outcome.finding(wrong=wrong, absent=("the update",), left=scene.left)


@row("4", "the disk fails when what was written reaches it (EIO at write-back)", "nbdkit", "nbdfuse", "mkfs.ext4")
def write_back(scene: Scene) -> Finding:
    with failing(scene.base) as (device, fail, heal):
        subprocess.run(["mkfs.ext4", "-q", device], check=True, capture_output=True)
        with mounted(device, scene.mirror):
            scene.fill_old()
            scene.first_run()
            subprocess.run(["sync", "-f", str(scene.mirror)], check=True)
            scene.fill("new")
            fail()
            outcome = scene.run()
            # What the kernel would do by itself in half a minute.
            subprocess.run(["sync", "-f", str(scene.mirror)], check=False, capture_output=True)
        heal()
        with mounted(device, scene.mirror):
            left = scene.left
            wrong = tuple(
                torn
                for path in sorted(scene.source.glob("healthy-*"))
                for torn in either(scene.mirror / path.name, _old(path.read_bytes()), path.read_bytes())
            )
            absent = (f"{left} of 20 updates",) if left else ()
            return outcome.finding(wrong=wrong, absent=absent)


def _old(new: bytes) -> bytes:
    return new.replace(b"new", b"old")


@row(
    "27",
    "the source's server has lost it (ESTALE)",
    "strace",
    note="ESTALE is injected where the source's root is listed: this kernel has no NFS.",
)
def stale(scene: Scene) -> Finding:
    scene.fill_old()
    scene.first_run()
    before = scene.held(scene.mirror)
    (scene.source / "new").write_text("new")
    fault = injected("getdents64", "error=ESTALE", log=scene.base / "strace.log", paths=(scene.source,))
    outcome = scene.run(prefix=fault)
    after = scene.held(scene.mirror)
    gone = [name for name in before if name.startswith("healthy-") and after.get(name) != before[name]]
    wrong = (f"{len(gone)} files are gone",) if gone else ()
    absent = ("a new file",) if content(scene.mirror / "new") is None else ()
    return outcome.finding(wrong=wrong, absent=absent)


ROWS: tuple[Row, ...] = (no_space, write_back, stale)
