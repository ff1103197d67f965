"""Which file systems an index speaks of, and what it forgets when another one is met."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from job.core.file_systems import FileSystemId
from job.core.record import FolderDone, FolderSummary, RowsDone
from job.store.index import Index

PATHS = (b"", b"a", b"usb", b"usb/deep", b"usb2")
ONE, TWO = FileSystemId("uuid 1", "8:1"), FileSystemId("", "8:17 disk 4")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """An index that knows some folders, in a state folder."""
    summary = FolderSummary(b"f", b"s", b"m", 1, 0, recheck=False)
    with closing(Index.open(str(tmp_path))) as index:
        rows = [RowsDone(path, 0, "rows", ((7, b"name"),), "unheld") for path in PATHS]
        index.commit([FolderDone(path, summary) for path in PATHS], rows)
    return str(tmp_path)


def known(index: Index) -> set[bytes]:
    assert {path for path in PATHS if index.rows(path)} == {path for path in PATHS if index.unsupported(path)}
    assert {path for path, _, _ in index.linked(7)} == {path for path in PATHS if index.rows(path)}
    return {path for path in PATHS if index.summary(path)}


def test_identities_are_kept_beside_an_audit_and_dropped_one_by_one(folder: str) -> None:
    with closing(Index.open(folder)) as index:
        assert index.file_systems == {}
        index.set_audited(5.0)
        index.set_file_systems({b"": ONE, b"usb/\xff": TWO}, [])
        assert known(index) == set(PATHS)
    with closing(Index.open(folder)) as index:
        assert index.file_systems == {b"": ONE, b"usb/\xff": TWO}
        assert index.audited == 5.0
        index.set_file_systems({b"usb/\xff": None}, [])
        assert index.file_systems == {b"": ONE}


@pytest.mark.parametrize(
    ("forgotten", "left"), [([], set(PATHS)), ([b"usb"], {b"", b"a", b"usb2"}), ([b"", b"usb"], set())]
)
def test_what_is_forgotten_goes_with_the_file_system_and_nothing_else(
    folder: str, forgotten: list[bytes], left: set[bytes]
) -> None:
    with closing(Index.open(folder)) as index:
        index.set_file_systems({b"": TWO}, forgotten)

        assert known(index) == left


def test_what_is_doubted_is_not_told_and_not_forgotten(folder: str) -> None:
    with closing(Index.open(folder)) as index:
        index.ignore([b"usb"])
        assert {path for path in PATHS if index.summary(path)} == {b"", b"a", b"usb2"}
        assert {path for path in PATHS if index.rows(path)} == {b"", b"a", b"usb2"}
        index.ignore([b""])
        assert not any(index.summary(path) for path in PATHS)
        index.ignore([])
        assert known(index) == set(PATHS)


@pytest.mark.parametrize("value", [1.0, "", "[]", '["a"]', '[1, "b"]', b"\xff"])
@pytest.mark.parametrize("name", ["identity of ", "identity of zz", "identity of 6"])
def test_facts_that_make_no_sense_are_no_identities(folder: str, name: str, value: object) -> None:
    with closing(sqlite3.connect(f"{folder}/index.sqlite3")) as database, database:
        database.execute("INSERT INTO fact VALUES (?, ?)", (name, value))

    with closing(Index.open(folder)) as index:
        assert index.file_systems == {}
