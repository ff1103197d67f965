"""An index on the disk, and a stranger's hand in it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.store.index import Index
from job.store.index_schema import FILE_NAME
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
