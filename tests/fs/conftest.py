"""Two open folders to copy between."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fs.copying import CopyRig


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CopyRig]:
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    source.mkdir()
    mirror.mkdir()
    before = set(os.listdir("/proc/self/fd"))
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, mirror)]
    yield CopyRig(source, mirror, folders[0], folders[1])
    for folder in folders:
        os.close(folder)
    left = {each for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")} - before
    assert not left, "a descriptor was left open"
