"""Disks that refuse what they took a moment ago, when it is written back: nothing of that is told to be copied."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.power.ages import Growth
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import BTRFS, EXT4, SERVED, XFS, FileSystem, failing, on, recorded
from tests.faults.rig import PATIENCE, temps_in, until

# They have workers of their own.
pytestmark = [*SERVED, pytest.mark.timeout(600), pytest.mark.one_process]

REFUSED = b"what the disk refuses to keep"


def spoil(rig: DiskRig, name: str, size: int) -> None:
    """Have a file in the source, of such a size at least, that the disk will not take."""
    (rig.source / name).write_bytes(REFUSED * (1 + size // len(REFUSED)))


@pytest.mark.parametrize("workers", [1, 3])
@on(EXT4, XFS, BTRFS)
def test_what_the_disk_refuses_at_write_back_is_not_told_to_be_copied_and_old_contents_stay(
    rig: DiskRig, images: Path, system: FileSystem, workers: int
) -> None:
    rig.configure(workers=workers, workers_from=0)
    Growth(rig).grow()
    with recorded(system.format(images / "image")) as served:
        with rig.on(served.file, system.options):
            rig.once()
            old = rig.mirrored[b"edited"]
            for name in ("edited", "new"):
                spoil(rig, name, 10_000)
            served.refuse.write_bytes(REFUSED)
            done = rig.once()
            kept = rig.mirrored.get(b"edited"), rig.mirrored.get(b"new")
            served.refuse.unlink()
        with rig.on(served.file, system.options):
            again = rig.once()
            amiss = rig.amiss

    for name in ("edited", "new"):
        assert done.failed.get(name) == "sync"
    assert set(done.failed.values()) == {"sync"}
    assert done.code == 3
    assert not done.copied & {"edited", "new"}
    assert kept == (old, None)
    assert again.code == 0
    assert again.copied >= {"edited", "new"}
    assert not amiss


@on(EXT4, XFS, BTRFS)
def test_an_error_that_somebody_else_was_told_first_is_not_missed(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    (rig.source / "file").write_text("old")
    with recorded(system.format(images / "image")) as served:
        with rig.on(served.file, system.options):
            rig.once()
            spoil(rig, "file", 100_000)
            (rig.source / "last").write_bytes(bytes(200_000))
            served.refuse.write_bytes(REFUSED)
            rig.configure(rate_limit=100_000)
            with rig.started("run", "--once") as running:
                until(lambda: any(temp.stat().st_size > 10_000 for temp in temps_in(rig.mirror)))
                os.kill(running.process.pid, signal.SIGSTOP)
                synced = subprocess.run(["sync", "-f", rig.mirror], check=False, capture_output=True)
                served.refuse.unlink()
                os.kill(running.process.pid, signal.SIGCONT)
                code = running.process.wait(PATIENCE)
                failed = running.wait_for("file_failed", path="file")
                copied = {line["path"] for line in running.lines if line["event"] == "file_copied"}
            kept = (rig.mirror / "file").read_text()
        rig.configure()
        with rig.on(served.file, system.options):
            again = rig.once()
            amiss = rig.amiss

    assert synced.returncode
    assert code == 3
    assert failed["reason"] == "sync"
    assert "file" not in copied
    assert kept == "old"
    assert again.code == 0
    assert not amiss


@on(EXT4, XFS, BTRFS)
def test_a_disk_that_takes_nothing_any_more_in_mid_run_has_all_that_was_told(
    rig: DiskRig, images: Path, system: FileSystem
) -> None:
    Growth(rig).grow()
    with failing(system.format(images / "image")) as served:
        with rig.on(served.file, system.options):
            rig.once()
            for name in ("edited", "one", "two", "three"):
                (rig.source / name).write_bytes(bytes(150_000))
            rig.configure(rate_limit=200_000)
            with rig.started("run", "--once") as running:
                until(lambda: temps_in(rig.mirror))
                served.refuse.touch()
                code = running.process.wait(PATIENCE)
                lines = running.lines
        served.refuse.unlink()
        rig.configure()
        with rig.on(served.file, system.options):
            left = rig.amiss
            again = rig.once()
            amiss = rig.amiss

    failures = [line for line in lines if line["event"] in {"file_failed", "pair_failed"}]
    assert code in {1, 3}
    assert failures
    assert {line.get("reason", "sync") for line in failures} <= {"sync", "io_error", "read_only"}
    assert not left & {line["path"].encode() for line in lines if line["event"] == "file_copied"}
    assert again.code == 0
    assert not amiss
