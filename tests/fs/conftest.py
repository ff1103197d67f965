"""Two open folders to copy between."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fs.copying import CopyRig


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CopyRig]:
    request.getfixturevalue("no_leak")
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    source.mkdir()
    mirror.mkdir()
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, mirror)]
    yield CopyRig(source, mirror, folders[0], folders[1])
    for folder in folders:
        os.close(folder)
