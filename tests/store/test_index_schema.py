"""The file of the index: what cannot be used is refused or set aside, and told apart."""

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import time_machine

from job.errors import IndexUnusable
from job.store.index import Index
from job.store.index_schema import APPLICATION_ID, FILE_NAME, FORMAT, IndexTorn, set_aside
from tests.core import samples


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_torn_file_is_told_apart_so_that_it_can_be_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)

    with pytest.raises(IndexTorn):
        Index.open(str(tmp_path))
    aside = set_aside(str(tmp_path))
    Index.open(str(tmp_path)).close()

    assert re.fullmatch(rf"{FILE_NAME}\.torn-\d{{8}}T\d{{6}}Z", aside)
    assert (tmp_path / aside).read_bytes() == content


def test_of_files_set_aside_the_newest_are_kept(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.torn").write_bytes(b"of a version that gave no time")
    asides = []
    for number in range(5):
        (tmp_path / FILE_NAME).write_bytes(b"torn %d" % number)
        (tmp_path / f"{FILE_NAME}-journal").write_bytes(b"its journal %d" % number)
        asides.append(set_aside(str(tmp_path)))

    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    newest = {f"{aside}{end}" for aside in asides[2:] for end in ("", "-journal")}
    assert set(left) == newest
    assert (left[asides[4]], left[f"{asides[4]}-journal"]) == (b"torn 4", b"its journal 4")


def test_of_files_set_aside_in_one_second_and_the_next_the_newest_are_kept(tmp_path: Path) -> None:
    asides = []
    for second in (0, 0, 1, 1, 1):
        (tmp_path / FILE_NAME).write_bytes(b"torn")
        with time_machine.travel(1e9 + second, tick=False):
            asides.append(set_aside(str(tmp_path)))

    assert {path.name for path in tmp_path.iterdir()} == set(asides[2:])


def test_a_file_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute("CREATE TABLE precious (thing TEXT)")
    before = (tmp_path / FILE_NAME).read_bytes()

    for open_ in (Index.open, Index.open_read_only):
        with pytest.raises(IndexUnusable, match="not an index of Truecopy") as refused:
            open_(str(tmp_path))
        assert not isinstance(refused.value, IndexTorn)

    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_an_index_that_claims_to_be_read_only_is_torn(state: Path) -> None:
    damaged = bytearray((state / FILE_NAME).read_bytes())
    damaged[18] = 3
    (state / FILE_NAME).write_bytes(damaged)

    with pytest.raises(IndexTorn, match="must not be written to"):
        Index.open(str(state))


def test_a_newer_format_is_refused_with_the_next_step(state: Path, raw: sqlite3.Connection) -> None:
    raw.execute(f"PRAGMA user_version = {FORMAT + 1}")

    with pytest.raises(IndexUnusable, match=f"format {FORMAT + 1}") as refused:
        Index.open(str(state))

    assert "newer Truecopy" in refused.value.hint
    assert not isinstance(refused.value, IndexTorn)


@pytest.mark.parametrize("version", range(-1, 3))
def test_an_index_of_an_older_version_is_told_so_that_it_can_be_made_anew(
    state: Path, raw: sqlite3.Connection, version: int
) -> None:
    raw.execute(f"PRAGMA user_version = {version}")

    for open_ in (Index.open, Index.open_read_only):
        with pytest.raises(IndexTorn, match="older version"):
            open_(str(state))
    set_aside(str(state))

    with closing(Index.open(str(state))) as index:
        assert index.summary(b"folder") is None


def test_something_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()

    for open_ in (Index.open, Index.open_read_only):
        with pytest.raises(IndexUnusable):
            open_(str(tmp_path))


@pytest.mark.needs_root
def test_an_index_that_may_not_be_opened_is_refused(state: Path) -> None:
    state.chmod(0o711)
    os.seteuid(65534)
    try:
        with pytest.raises((IndexUnusable, OSError)) as refused:
            Index.open(str(state))
    finally:
        os.seteuid(0)

    assert not isinstance(refused.value, sqlite3.Error)


def test_an_index_whose_making_was_cut_short_is_made_anew_or_told(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(mode=0o600)

    with closing(Index.open(str(tmp_path))) as index:
        index.commit([samples.a_finished_folder()], [])

        assert index.summary(b"folder") is not None


def test_looking_at_an_index_in_the_making_finds_nothing_known(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(mode=0o600)

    index = Index.open_read_only(str(tmp_path))

    if index is not None:
        with closing(index):
            assert index.entry_count() == 0


def test_an_index_is_made_in_one_step(state: Path, raw: sqlite3.Connection) -> None:
    assert state.exists()
    [(application,)] = raw.execute("PRAGMA application_id")
    names = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    assert application == APPLICATION_ID
    assert names == {
        "folder", "records", "hard_link", "way", "unheld", "fact", "version", "version_folder", "orphan", "held",
    }  # fmt: skip
