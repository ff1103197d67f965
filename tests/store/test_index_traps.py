"""An index that was in other hands: what is not exactly ours is not believed, and nothing in it goes on for ever."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from job.core.file_systems import FileSystemId
from job.errors import IndexUnusable
from job.store.index import Index
from job.store.index_schema import FILE_NAME, IndexTorn, set_aside
from tests.core import samples
from tests.traps import TRAPS, changed, rows_without_end

SOON = 10.0
"""Seconds; on a machine that has nothing else to do all of this takes a tenth of one."""
INODE = 11
FULL = samples.rows_of()._replace(linked=((INODE, b"name"),), unsupported="what the mirror cannot hold")
"""Has a row in each table of the index that is about entries."""


def others_in(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_not_believed_and_a_new_index_is_made(state: Path, trap: str) -> None:
    TRAPS[trap](state / FILE_NAME)
    content = (state / FILE_NAME).read_bytes()
    began = time.monotonic()

    with pytest.raises(IndexTorn) as refused:
        Index.open(str(state))
    aside = set_aside(str(state))

    assert time.monotonic() - began < SOON
    assert (state / aside).read_bytes() == content
    assert refused.value.message.startswith(f"{FILE_NAME} cannot be ")
    assert refused.value.message.isprintable()
    with closing(Index.open(str(state))) as index:
        assert index.summary(b"folder") is None
        index.commit([samples.a_finished_folder()], [samples.rows_of()])
        assert index.summary(b"folder") is not None


@pytest.mark.parametrize("trap", TRAPS)
def test_looking_at_a_trap_changes_nothing(state: Path, trap: str) -> None:
    TRAPS[trap](state / FILE_NAME)
    before = others_in(state)

    with pytest.raises(IndexTorn):
        Index.open_read_only(str(state))

    assert others_in(state) == before


@pytest.mark.parametrize("trap", ["hundreds of tables", "a megabyte of text", "a view beside the tables"])
def test_a_file_of_another_program_is_refused_whatever_is_in_it(state: Path, trap: str) -> None:
    TRAPS[trap](state / FILE_NAME)
    changed(state / FILE_NAME, "PRAGMA application_id = 7")
    before = others_in(state)

    for open_ in (Index.open, Index.open_read_only):
        with pytest.raises(IndexUnusable, match="not an index of Truecopy") as refused:
            open_(str(state))
        assert not isinstance(refused.value, IndexTorn)

    assert others_in(state) == before


def test_a_schema_that_a_journal_brings_is_not_believed(state: Path) -> None:
    """SQLite plays it back at the first look."""
    place, trapped = state / FILE_NAME, state / "trapped"
    trapped.write_bytes(place.read_bytes())
    changed(trapped, "CREATE TRIGGER t BEFORE INSERT ON folder BEGIN SELECT RAISE(IGNORE); END")
    with closing(sqlite3.connect(trapped, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("DROP TRIGGER t")
        for number in range(2000):
            database.execute("INSERT INTO fact VALUES (?, 1.0)", (f"{number}{'x' * 100}",))
        assert (state / "trapped-journal").stat().st_size > 0
        place.write_bytes(trapped.read_bytes())
        (state / f"{FILE_NAME}-journal").write_bytes((state / "trapped-journal").read_bytes())

    with pytest.raises(IndexTorn, match="the trigger t"):
        Index.open(str(state))


ASKED: dict[str, Callable[[Index], object]] = {
    "how many entries": lambda index: index.entry_count(),
    "how many bytes": lambda index: index.extent(),
    "which links": lambda index: index.linked(INODE),
    "which file systems": lambda index: index.file_systems,
    "forget a folder": lambda index: index.commit([], [], [b"folder"]),
    "forget everything": lambda index: index.set_file_systems({}, [b""]),
    "store links": lambda index: index.commit([samples.a_finished_folder()], [samples.rows_of()]),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("table", ["folder", "hard_link", "unheld", "fact"])
def test_rows_without_an_end_end(state: Path, asked: str, table: str) -> None:
    with closing(Index.open(str(state))) as index:
        index.commit([], [FULL])
        index.set_file_systems({b"": FileSystemId("proof", "place")}, [])
    rows_without_end(state / FILE_NAME, table)
    began = time.monotonic()

    with closing(Index.open(str(state))) as index:
        try:
            answer = ASKED[asked](index)
        except OSError:
            answer = None
        torn = index.torn

    assert time.monotonic() - began < SOON
    assert not torn or not answer or asked.startswith("how many")


@pytest.mark.parametrize("table", ["folder", "hard_link", "fact"])
def test_rows_without_an_end_are_damage(state: Path, table: str) -> None:
    with closing(Index.open(str(state))) as index:
        index.commit([], [FULL])
        index.set_file_systems({b"": FileSystemId("proof", "place")}, [])
    rows_without_end(state / FILE_NAME, table)

    with closing(Index.open(str(state))) as index:
        asked: Callable[[Index], object] = {
            "folder": ASKED["how many entries"],
            "hard_link": ASKED["which links"],
            "fact": ASKED["which file systems"],
        }[table]

        assert not asked(index)
        assert any(words in index.torn for words in ("interrupted", "more than it can hold"))


def test_one_huge_value_is_damage_and_takes_no_memory(state: Path) -> None:
    changed(state / FILE_NAME, "UPDATE records SET rows = CAST(zeroblob(70000000) AS TEXT)")

    with closing(Index.open(str(state))) as index:
        assert index.rows(b"folder") == ""
        assert "too big" in index.torn


def test_an_index_of_many_folders_is_no_trap(tmp_path: Path) -> None:
    paths = [b"%06d" % number for number in range(60_000)]
    with closing(Index.open(str(tmp_path))) as index:
        for begin in range(0, len(paths), 5000):
            index.commit(map(samples.a_finished_folder, paths[begin : begin + 5000]), [])

        assert index.entry_count() == 60_000 * samples.a_finished_folder().summary.entries
        index.commit([], [], paths[:50_000])
        assert index.entry_count() == 10_000 * samples.a_finished_folder().summary.entries
        assert index.torn == ""
