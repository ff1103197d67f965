"""The index: what it is told it tells again, and what it cannot trust it does not tell."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.adapters.index import APPLICATION_ID, FILE_NAME, FORMAT, MOST_PARTS, Index, IndexTorn, set_aside
from job.core.record import FolderDone, FolderSummary, RowsDone
from job.errors import IndexUnusable
from tests.core import samples

summaries = st.builds(
    FolderSummary,
    st.binary(max_size=16),
    st.binary(max_size=80),
    st.binary(max_size=16),
    st.integers(2**16, 2**31),
    st.integers(0, 2**16),
    st.booleans(),
    st.integers(1, MOST_PARTS),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)


@given(summaries, st.one_of(st.just(b""), samples.names), texts)
@settings(deadline=None, max_examples=60)
def test_what_was_committed_is_told_again(summary: FolderSummary, path: bytes, rows: str) -> None:
    with TemporaryDirectory() as state:
        with closing(Index.open(state)) as index:
            index.commit([FolderDone(path, summary)], [RowsDone(path, 0, rows)])

        with closing(Index.open(state)) as index:
            assert index.rows(path) == rows
            assert index.summary(path) == summary
            assert index.entries_known() == summary.entries


def test_a_folder_is_remembered_as_it_was_last(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        index.commit([samples.a_finished_folder(entries=7)], [RowsDone(b"folder", 0, "")])

        assert index.entries_known() == 7
        assert index.rows(b"folder") == ""


def test_a_huge_folder_keeps_its_records_in_parts(state: Path) -> None:
    parts = [samples.rows_of(part=part, inode=part) for part in range(3)]
    with closing(Index.open(str(state))) as index:
        index.commit([], parts[1:])
        index.commit([samples.a_finished_folder(parts=3)], parts[:1])

        assert [index.rows(b"folder", part) for part in range(4)] == [*(part.rows for part in parts), ""]


def test_a_folder_that_is_huge_no_more_loses_the_parts_that_it_has_no_more(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        index.commit([samples.a_finished_folder(parts=3)], [samples.rows_of(part=part) for part in range(3)])
        index.commit([], [samples.rows_of(b"folder2", part=7)])
        index.commit([samples.a_finished_folder(parts=1)], [samples.rows_of()])

        assert [bool(index.rows(b"folder", part)) for part in range(3)] == [True, False, False]
        assert index.rows(b"folder2", 7) != ""


def test_what_was_never_committed_is_not_known(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        assert index.summary(b"folder") is None
        assert index.rows(b"folder") == ""
        assert index.entries_known() == 0
        assert index.audited == 0


def test_the_time_of_an_audit_is_remembered(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        index.set_audited(1234.5)

    with closing(Index.open(str(state))) as index:
        assert index.audited == 1234.5


def test_the_index_is_private(state: Path) -> None:
    assert stat.S_IMODE((state / FILE_NAME).stat().st_mode) == 0o600


def test_a_commit_is_whole_or_not_at_all(state: Path) -> None:
    def folders() -> Iterator[FolderDone]:
        yield samples.a_finished_folder(b"first")
        raise RuntimeError("in the middle")

    with closing(Index.open(str(state))) as index:
        with pytest.raises(RuntimeError):
            index.commit(folders(), [samples.rows_of(b"first")])

        assert index.summary(b"first") is None
        assert index.rows(b"first") == ""
        index.commit([samples.a_finished_folder(b"second")], [])
        assert index.summary(b"second") is not None


def test_a_disk_that_does_not_take_a_commit_is_an_error_and_leaves_none_of_it(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        pages = index._db.execute("PRAGMA page_count").fetchone()[0]
        index._db.execute(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(OSError, match="full"):
            index.commit([samples.a_finished_folder(b"%d" % number) for number in range(1000)], [])

        assert index.summary(b"0") is None
        assert index.torn == ""


def test_a_read_only_index_tells_and_takes_nothing(state: Path) -> None:
    before = (state / FILE_NAME).read_bytes()
    index = Index.open_read_only(str(state))
    assert index is not None

    with closing(index):
        assert index.summary(b"folder") == samples.a_finished_folder().summary
        with pytest.raises(OSError, match="readonly"):
            index.commit([samples.a_finished_folder(b"more")], [])

    assert (state / FILE_NAME).read_bytes() == before
    assert [each.name for each in state.iterdir()] == [FILE_NAME]


def test_looking_makes_no_index(tmp_path: Path) -> None:
    assert Index.open_read_only(str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_looking_finds_the_index_in_a_folder_with_a_strange_name(tmp_path: Path) -> None:
    folder = tmp_path / "50%?#:\n &mode=rwc"
    folder.mkdir()
    Index.open(str(folder)).close()

    index = Index.open_read_only(str(folder))

    assert index is not None
    index.close()


def test_an_empty_index_knows_nothing_and_lies_nowhere() -> None:
    with closing(Index.empty()) as index:
        assert index.summary(b"") is None
        assert index.entries_known() == 0


# Files that cannot be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_torn_file_is_told_apart_so_that_it_can_be_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)

    with pytest.raises(IndexTorn):
        Index.open(str(tmp_path))
    set_aside(str(tmp_path))
    Index.open(str(tmp_path)).close()

    assert (tmp_path / (FILE_NAME + ".torn")).read_bytes() == content


def test_a_file_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute("CREATE TABLE precious (thing TEXT)")
    before = (tmp_path / FILE_NAME).read_bytes()

    for open_ in (Index.open, Index.open_read_only):
        with pytest.raises(IndexUnusable, match="not an index of Truecopy") as refused:
            open_(str(tmp_path))
        assert not isinstance(refused.value, IndexTorn)

    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_newer_format_is_refused_with_the_next_step(state: Path, raw: sqlite3.Connection) -> None:
    raw.execute(f"PRAGMA user_version = {FORMAT + 1}")

    with pytest.raises(IndexUnusable, match=f"format {FORMAT + 1}") as refused:
        Index.open(str(state))

    assert "newer Truecopy" in refused.value.hint
    assert not isinstance(refused.value, IndexTorn)


@pytest.mark.parametrize("older", range(-1, FORMAT))
def test_an_index_of_an_older_version_is_told_so_that_it_can_be_made_anew(
    state: Path, raw: sqlite3.Connection, older: int
) -> None:
    raw.execute(f"PRAGMA user_version = {older}")

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
            assert index.entries_known() == 0


def test_an_index_is_made_in_one_step(state: Path, raw: sqlite3.Connection) -> None:
    assert state.exists()
    [(application,)] = raw.execute("PRAGMA application_id")
    names = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    assert application == APPLICATION_ID
    assert names == {"folder", "records", "fact"}
