"""The tree of the index: folders are found by keys of a fixed size, whatever the rows say."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.core.record import FolderDone, FolderSummary, RowsDone
from job.store.index import Index
from job.store.index_schema import FILE_NAME
from job.store.index_tree import ROOT, Tree, key_of
from tests.index_rows import paths_of

SUMMARY = FolderSummary(b"f", b"s", b"m", 1, 0, recheck=False)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with closing(Index.open(str(tmp_path))) as opened:
        yield opened


@pytest.fixture
def raw(index: Index, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The same index, opened by a stranger."""
    assert index.torn == ""
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        yield connection


def commit(index: Index, *paths: bytes) -> None:
    rows = [RowsDone(path, 0, "rows", ((7, b"name"),), "unheld") for path in paths]
    index.commit([FolderDone(path, SUMMARY, 5) for path in paths], rows)


def rows_left(raw: sqlite3.Connection) -> dict[str, int]:
    tables = ("folder", "records", "hard_link", "way", "unheld")
    return {table: raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def test_a_deep_nest_takes_room_in_proportion_to_its_folders(tmp_path: Path) -> None:
    sizes = []
    for depth in (500, 2000):
        state = tmp_path / str(depth)
        state.mkdir()
        with closing(Index.open(str(state))) as index:
            commit(index, *(b"/".join([b"d"] * (number + 1)) for number in range(depth)))
            assert {path.count(b"/") for path, _, _ in index.linked(7)} == set(range(depth))
        sizes.append((state / FILE_NAME).stat().st_size)

    assert sizes[1] < 4.5 * sizes[0]


def test_folders_above_one_that_is_known_are_found_and_say_nothing(index: Index, raw: sqlite3.Connection) -> None:
    index.commit([], [RowsDone(b"a/b/c", 3, "rows")])
    index.commit([FolderDone(b"x/y", SUMMARY, 5)], [])

    assert sorted(paths_of(raw).values()) == [b"", b"a", b"a/b", b"a/b/c", b"x", b"x/y"]
    assert [index.summary(path) for path in (b"", b"a", b"a/b", b"a/b/c", b"x")] == [None] * 5
    assert (index.entry_count(), index.extent()) == (1, (1, 5))
    commit(index, b"a/b")
    assert (index.summary(b"a/b"), index.rows(b"a/b/c", 3)) == (SUMMARY, "rows")


def test_what_is_gone_is_forgotten_with_all_below_it_and_nothing_else(index: Index, raw: sqlite3.Connection) -> None:
    stay = (b"", b"a", b"a/b2", b"a/bc", b"b", b"a-/b")
    commit(index, *stay, b"a/b", b"a/b/c", b"a/b/c/d/e", b"a/b/f")

    index.commit([], [], [b"a/b"])

    assert sorted(set(paths_of(raw).values())) == sorted({*stay, b"a-"})
    assert sorted(path for path, _, _ in index.linked(7)) == sorted(stay)
    assert rows_left(raw) == {"folder": 7, "records": 6, "hard_link": 6, "way": 6, "unheld": 6}
    commit(index, b"a/b/c")
    assert index.summary(b"a/b") is None
    assert sorted(path for path, _, _ in index.linked(7)) == sorted([*stay, b"a/b/c"])


def test_a_folder_that_was_forgotten_and_came_again_is_found_again(index: Index, raw: sqlite3.Connection) -> None:
    commit(index, b"a/b/c")
    index.commit([], [], [b"a"])
    assert rows_left(raw) == {"folder": 1, "records": 0, "hard_link": 0, "way": 0, "unheld": 0}

    commit(index, b"a/b/d")
    index.commit([], [], [b"a/b"])

    assert sorted(paths_of(raw).values()) == [b"", b"a"]
    assert index.linked(7) == []


def test_after_a_commit_that_came_to_nothing_folders_are_made_findable_anew(
    index: Index, raw: sqlite3.Connection
) -> None:
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    index._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [b"a/b/%d/x" % number for number in range(3000)]
    with pytest.raises(OSError, match="full"):
        commit(index, *many)
    index._db.execute("PRAGMA max_page_count = 100000")

    commit(index, many[0])

    assert many[0] in paths_of(raw).values()


@pytest.mark.parametrize("name", ["b", b"", b"..", b"x/y", b"c/d", b"\0", 7])
def test_rows_that_make_no_sense_end_no_forgetting(index: Index, raw: sqlite3.Connection, name: object) -> None:
    commit(index, b"a", b"a/c", b"a/c/d", b"b")
    for parent in (b"", b"a", b"a/c"):
        nonsense = "SELECT ?, ?, fingerprint, stamp, mirror_fingerprint, 1, 0, 0, 1, 0 FROM folder LIMIT 1"
        raw.execute(f"INSERT OR IGNORE INTO folder {nonsense}", (key_of(parent), name))

    index.commit([], [], [b"a"])

    assert [index.summary(path) for path in (b"a", b"a/c", b"a/c/d", b"b")] == [None, None, None, SUMMARY]
    assert [path for path, _, _ in index.linked(7)] == [b"b"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE way SET parent = folder",
        "UPDATE way SET name = x'2e2e'",
        "UPDATE way SET name = 'text'",
        "UPDATE way SET parent = x'00'",
        "DELETE FROM way WHERE name = x'61'",
        "INSERT INTO way SELECT parent, folder, name FROM way LIMIT 1",
        "UPDATE hard_link SET folder = x'00'",
    ],
)
def test_a_way_that_makes_no_sense_leads_nowhere(index: Index, raw: sqlite3.Connection, change: str) -> None:
    commit(index, b"a/b")
    raw.execute(f"INSERT OR IGNORE INTO way VALUES (x'{ROOT.hex()}', x'{key_of(b'a/b').hex()}', x'63')")
    raw.execute(change.replace("INSERT INTO", "INSERT OR REPLACE INTO"))

    assert index.linked(7) in ([], [(b"a/b", 0, b"name")])


def test_a_way_that_goes_round_in_a_circle_ends(raw: sqlite3.Connection) -> None:
    one, two = b"1" * 16, b"2" * 16
    raw.execute("INSERT INTO way VALUES (?, ?, x'61'), (?, ?, x'62')", (one, two, two, one))

    assert Tree(raw).paths_of([one, two]) == {}
