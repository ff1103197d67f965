"""Versions in the index: those of one folder and moment are one row, and the order of cycles is known."""

import sqlite3
import stat
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import pytest

from job.core.versions import Moment, VersionReason, VersionRow, VersionsDone
from job.store.index import Index
from job.store.index_schema import FILE_NAME
from job.store.version_rows import decode_versions, encode_versions
from tests.core import samples

THEN, LATER = Moment(1_700_000_000), Moment(1_800_000_000)


def a_row(name: bytes, size: int = 5) -> VersionRow:
    mode, why = stat.S_IFREG | 0o644, VersionReason.REPLACED
    return VersionRow(name, mode, size, 10**18, 2 * 10**18, samples.SHA256, why, replaced_another=False)


def done(path: bytes, moment: Moment, *rows: VersionRow) -> VersionsDone:
    return VersionsDone(path, moment, encode_versions(rows), len(rows), sum(row.size for row in rows))


def rows_in(index: Index, path: bytes) -> dict[Moment, list[VersionRow]]:
    return {moment: decode_versions(text) for moment, text in index.versions(path).items()}


def test_versions_are_found_by_folder_and_moment(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        index.commit([], [], (), [done(b"folder", THEN, a_row(b"a")), done(b"beside", THEN, a_row(b"c"))])
        index.commit([], [], (), [done(b"folder", LATER, a_row(b"a", 7), a_row(b"b"))])

        assert rows_in(index, b"folder") == {THEN: [a_row(b"a")], LATER: [a_row(b"a", 7), a_row(b"b")]}
        assert rows_in(index, b"beside") == {THEN: [a_row(b"c")]}
        assert rows_in(index, b"") == {}


def test_what_several_batches_of_a_cycle_replace_in_a_folder_is_one_row(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        for names in (b"a", b"b", b"c"):
            index.commit([], [], (), [done(b"folder", THEN, a_row(names))])

        assert rows_in(index, b"folder") == {THEN: [a_row(b"a"), a_row(b"b"), a_row(b"c")]}
        assert [*index._db.execute("SELECT bytes FROM version_folder")] == [(15,)]


def test_the_order_of_cycles_is_known_even_if_the_clock_was_once_wrong(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        for moment in (LATER, THEN, LATER._replace(number=2)):
            index.commit([], [], (), [done(b"folder", moment, a_row(b"a"))])
            index.commit([], [], (), [done(b"beside", moment, a_row(b"a"))])

        in_order = sorted(index.version_table.moments().items(), key=lambda each: each[1])
        assert [moment for moment, _ in in_order] == [LATER, THEN, LATER._replace(number=2)]


def test_a_content_that_is_not_kept_makes_no_version_folder(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        row = a_row(b"a")._replace(why=VersionReason.EXCLUDED)
        index.commit([], [], (), [VersionsDone(b"folder", THEN, encode_versions([row]), 0, 0)])

        assert rows_in(index, b"folder") == {THEN: [row]}
        assert index.version_table.moments() == {}


def test_versions_of_a_folder_that_left_the_mirror_are_known(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        index.commit([samples.a_finished_folder()], [samples.rows_of()], (), [done(b"folder", THEN, a_row(b"a"))])
        index.commit([], [], [b"folder"])

        assert index.summary(b"folder") is None
        assert rows_in(index, b"folder") == {THEN: [a_row(b"a")]}


def test_since_when_all_is_kept_is_unknown_at_first_and_only_rises(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        assert index.complete_since == inf
        index.commit([], [], incomplete_at=100.5)
        index.commit([], [], incomplete_at=50.0)
        index.commit([], [])

        assert index.complete_since == 100.5


@pytest.mark.parametrize(
    "values", [(-1, 1, "rows"), (2**60, 1, "rows"), (5, 0, "rows"), (5, 2**40, "rows"), (5.5, 1, "rows"), (5, 1, b"r")]
)
def test_rows_that_no_cycle_writes_are_not_there(tmp_path: Path, values: tuple[Any, ...]) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        index.commit([], [], (), [done(b"folder", THEN, a_row(b"a"))])
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as raw:
        raw.execute("INSERT INTO version SELECT folder, ?, ?, ? FROM version", values)
        raw.execute("INSERT INTO version_folder VALUES (?, ?, 9, 0, 0, 0)", values[:2])

    with closing(Index.open(str(tmp_path))) as index:
        assert rows_in(index, b"folder") == {THEN: [a_row(b"a")]}
        assert THEN in index.version_table.moments()


def test_a_row_that_makes_no_sense_gives_way_to_what_is_added(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        index.commit([], [], (), [done(b"folder", THEN, a_row(b"a"))])
        index._db.execute("UPDATE version SET rows = 'nonsense'")
        index.commit([], [], (), [done(b"folder", THEN, a_row(b"b"))])

        assert rows_in(index, b"folder") == {THEN: [a_row(b"b")]}
