"""Little memory: a great many entries need no more than a fixed amount, and whoever the kernel kills tears nothing."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.cgroups import Group, memory_group
from tests.faults.rig import ROOT, Done, Rig, environment
from tests.faults.tampering import mounted
from tests.faults.trees import entries_below

pytestmark = [pytest.mark.needs_root, pytest.mark.one_process, pytest.mark.timeout(7200)]

LIMIT = 256 << 20
IN_A_FOLDER = 500


def crowd(source: Path, count: int) -> None:
    """Plant so many small files in folders of a usual size."""
    for first in range(0, count, IN_A_FOLDER):
        folder = source / f"{first // 100_000}" / f"{first}"
        folder.mkdir(parents=True)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for number in range(first, min(first + IN_A_FOLDER, count)):
            file = os.open(f"message-{number:08}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=opened)
            os.write(file, b"%d" % number)
            os.close(file)
        os.close(opened)


def limited(rig: Rig, group: Group) -> Done:
    """Run once in a group, however long it takes; only the summary is logged."""
    done = subprocess.run(
        rig.command("run", "--once"),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        check=False,
        preexec_fn=group.enter(),
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def within(rig: Rig, count: int, workers: int) -> None:
    """Copy so many entries, look at them, and edit one, all within the limit."""
    crowd(rig.source, count)
    rig.configure(log_level="error", workers=workers, log_file=None)
    for edited in (False, False, True):
        if edited:
            (rig.source / "0" / "0" / "message-00000007").write_text("edited")
        with memory_group() as group:
            group.limit(LIMIT)
            done = limited(rig, group)
            assert done.code == 0, (done, group.kills)
            assert not group.kills
    assert entries_below(rig.mirror) - entries_below(rig.state) == count
    assert (rig.mirror / "0" / "0" / "message-00000007").read_text() == "edited"


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_many_entries_are_mirrored_in_little_memory(tmp_path: Path, workers: int) -> None:
    with mounted("tmpfs", tmp_path / "memory", "-t", "tmpfs") as base:  # its mirror counts, too: 50 MB
        within(Rig(base), 10_000, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_a_million_entries_are_mirrored_in_256_mb(rig: Rig, workers: int) -> None:
    within(rig, 1_000_000, workers)


@pytest.mark.parametrize(
    ("workers", "limits"), [(1, (22,)), (3, (36,)), pytest.param(3, (30, 40), marks=pytest.mark.slow)]
)
def test_whoever_is_killed_for_lack_of_memory_tears_nothing_and_the_next_run_heals(
    rig: Rig, workers: int, limits: tuple[int, ...]
) -> None:
    crowd(rig.source, 1500)
    rig.configure(log_level="warning", workers=workers, workers_from=0, state_dir=str(rig.base / "state"))
    killed = 0
    for megabytes in limits:
        with memory_group() as group:
            group.limit(megabytes << 20)
            done = limited(rig, group)
            killed += group.kills
        # The whole run is killed, or some of its workers are; or somebody is refused memory, and says so.
        assert done.code in {0, 1, 3, 4, -signal.SIGKILL}, done
        wanted, mirrored = rig.wanted, rig.mirrored
        for path, thing in mirrored.items():
            if thing.kind == "-" and b".truecopy-tmp-" not in path:
                assert thing.content == wanted[path].content
        if done.code == 0:
            assert mirrored == wanted
    assert killed

    again = rig.once()

    assert again.code == 0
    assert rig.mirrored == rig.wanted
    assert not rig.temps
