"""A rig with a disk, and a folder in memory for the disk's image."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import memory
from tests.faults.trees import unlock


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskRig]:
    rig = DiskRig(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.memory))
    yield rig
    unlock(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    with memory(tmp_path / "images") as folder:
        yield folder
