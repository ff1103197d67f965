"""Memory does not grow with the number of files in one folder, neither by a copy nor by a look nor by an audit."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.bench import measure
from tests.bench.measure import Surroundings, memory_of
from tests.faults.rig import ROOT, Rig, environment

FEW, MANY, MOST = 17_000, 51_000, 120_000
"""All are huge folders."""
MORE_BYTES = {MANY: 26 << 20, MOST: 40 << 20}
"""The most files take some 20 MB more. Held whole, the folder took 190 MB more for a copy, 300 for the edit."""

FAST = Path("/dev/shm")
ROOM = 2 << 30

pytestmark = pytest.mark.one_process


def fill(folder: Path, count: int) -> None:
    folder.mkdir()
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(count):
        file = os.open(f"message-{number:08}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=opened)
        os.write(file, b"%d" % number)
        os.close(file)
    os.close(opened)


def peaks(rig: Rig, count: int) -> dict[str, int]:
    """Give the peak of each kind of cycle over a folder of so many files, of all processes together."""
    fill(rig.source / "crowd", count)
    time.sleep(2.1)  # until nothing in it is too young to be believed
    found = {"first copy": peak(rig)}
    found["nothing changed"] = peak(rig)
    (rig.source / "crowd" / "message-00000007").write_text("edited")
    rig.configure(workers=2, audit_interval=0)
    found["one edit and an audit"] = peak(rig)
    assert len(os.listdir(rig.mirror / "crowd")) == count
    assert (rig.mirror / "crowd" / "message-00000007").read_text() == "edited"
    return found


def peak(rig: Rig) -> int:
    return memory_of([rig.command("run", "--once")], Surroundings(ROOT, environment(), rig.base / "output"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("most", [MANY, pytest.param(MOST, marks=pytest.mark.slow)])
def test_many_times_the_files_in_one_folder_take_hardly_more_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 0.02)  # a sample of all processes takes long, a peak lasts longer
    few, many = (peaks_in_memory(count) for count in (FEW, most))

    more = {work: many[work] - few[work] for work in few}
    assert max(more.values()) < MORE_BYTES[most], (few, many)


def peaks_in_memory(count: int) -> dict[str, int]:
    """Measure on a file system in memory if one has room: to make and remove the files takes no time there."""
    fast = FAST if FAST.is_dir() and shutil.disk_usage(FAST).free > ROOM else None
    with tempfile.TemporaryDirectory(dir=fast) as base:
        return peaks(Rig(Path(base), {"workers": 2}), count)
