"""The index: what it is told it tells again, and what it cannot trust it does not tell."""

import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.record import FolderDone, FolderSummary, RowsDone
from job.store.index import MOST_PARTS, Index
from job.store.index_schema import FILE_NAME
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
            assert index.entry_count() == summary.entries


def test_a_folder_is_remembered_as_it_was_last(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        index.commit([samples.a_finished_folder(entries=7)], [RowsDone(b"folder", 0, "")])

        assert index.entry_count() == 7
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
        assert index.entry_count() == 0
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
        assert index.entry_count() == 0
