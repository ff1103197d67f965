"""An index on the disk, and a stranger's hand in it; two open folders to copy between."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.adapters.index import Index
from job.files.index_file import FILE_NAME
from tests.adapters.copying import Bench
from tests.core import samples


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose index knows one folder."""
    with closing(Index.open(str(tmp_path))) as index:
        index.commit([samples.a_finished_folder()], [samples.rows_of()])
    return tmp_path


@pytest.fixture
def raw(state: Path) -> Iterator[sqlite3.Connection]:
    """The index, opened by a stranger."""
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    source.mkdir()
    mirror.mkdir()
    before = set(os.listdir("/proc/self/fd"))
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, mirror)]
    yield Bench(source, mirror, folders[0], folders[1])
    for folder in folders:
        os.close(folder)
    left = {each for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")} - before
    assert not left, "a descriptor was left open"
