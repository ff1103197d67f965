"""An index of an older format: it is migrated, and what is believed of it goes on being believed.

Of format 3, which put hard links together by inode alone, names that had links are read again.
"""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from job.core.outcome import Result
from job.core.record import RowsDone
from job.fs.listing import entry_of
from job.store.codec import decode_records, encode_records
from job.store.index import Index
from job.store.index_schema import FILE_NAME, FORMAT, IndexTorn, migrate
from tests.core import samples
from tests.engine.test_hard_links import give_name, inodes
from tests.engine.workshop import Workshop
from tests.index_rows import make_older, without_versions
from tests.traps import rows_without_end

FOLDER = b"folder"
BEFORE, OF_PATHS = 3, 4


@pytest.fixture
def lied_to(shop: Workshop) -> Workshop:
    """A mirror whose files have wrong contents of the right size, and an index that takes them for right."""
    shop.options["audit_interval"] = 10**6
    for name in ("folder/a", "folder/alone", "beside/alone"):
        shop.write(name, "right")
    give_name(shop, "folder/a", "folder/b")
    shop.cycle()
    for folder, name in (("folder", "a"), ("folder", "alone"), ("beside", "alone")):
        path = shop.mirror / folder / name
        before = path.stat()
        path.write_text("WRONG")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for folder in ("folder", "beside"):
        believe(shop, folder)
    told = shop.cycle()
    assert (told.copied, told.drift, contents(shop)) == ({}, {}, ["WRONG"] * 4)
    return shop


def believe(shop: Workshop, folder: str) -> None:
    """Have the index take the mirror of a folder for right."""
    path = folder.encode()
    with closing(Index.open(str(shop.state))) as index:
        text = index.rows(path)
        options_key = made_under(text)
        records = decode_records(text, options_key)
        for name, record in records.items():
            seen = (shop.mirror / os.fsdecode(path) / os.fsdecode(name)).lstat()
            records[name] = record._replace(mirror=entry_of(name, seen))
        linked = [(record.source.inode, name) for name, record in records.items() if name in {b"a", b"b"}]
        index.commit([], [RowsDone(path, 0, encode_records(records.values(), options_key), tuple(linked))])


def made_under(text: str) -> str:
    """Give the policy that rows were written under; an ordinary user's mirror has one of its own."""
    *_, last = json.loads(text)
    return last if isinstance(last, str) else ""


def contents(shop: Workshop) -> list[str]:
    names = ("folder/a", "folder/b", "folder/alone", "beside/alone")
    return [(shop.mirror / name).read_text() for name in names]


def grow_old(shop: Workshop, version: int = BEFORE, *, sizes: bool = True) -> None:
    """Give the index the format of before."""
    make_older(shop.state / FILE_NAME, version, sizes=sizes)


def version_of(shop: Workshop) -> int:
    with closing(sqlite3.connect(shop.state / FILE_NAME)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_names_that_had_links_are_compared_again_and_nothing_else(lied_to: Workshop) -> None:
    grow_old(lied_to)

    told = lied_to.cycle()

    assert told.result is Result.SUCCESS
    assert contents(lied_to) == ["right", "right", "WRONG", "WRONG"]
    assert len(inodes(lied_to.mirror, "folder/a", "folder/b")) == 1
    assert version_of(lied_to) == FORMAT
    again = lied_to.cycle()
    assert (again.copied, again.tally.updated, again.drift) == ({}, 0, {})


def test_a_plan_with_such_an_index_shows_it_and_leaves_the_index_as_it_is(lied_to: Workshop) -> None:
    grow_old(lied_to)
    before = (lied_to.state / FILE_NAME).read_bytes()

    planned = {step.path: step.action for step in lied_to.plan()}

    assert planned == {b"folder/a": "compare_both", b"folder/b": "compare_both"}
    assert (lied_to.state / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("sizes", [True, False])
def test_an_index_with_whole_paths_is_migrated_and_believed(lied_to: Workshop, *, sizes: bool) -> None:
    grow_old(lied_to, OF_PATHS, sizes=sizes)

    told = lied_to.cycle()

    assert (told.result, told.copied, told.tally.updated, told.drift) == (Result.SUCCESS, {}, 0, {})
    assert contents(lied_to) == ["WRONG"] * 4
    assert version_of(lied_to) == FORMAT
    with closing(Index.open(str(lied_to.state))) as index:
        assert (index.extent()[1] is not None) == sizes


def test_an_index_of_before_versions_is_migrated_and_believed(lied_to: Workshop) -> None:
    with closing(Index.open(str(lied_to.state))) as index:
        size = index.extent()
    without_versions(lied_to.state / FILE_NAME)

    planned = lied_to.plan()
    told = lied_to.cycle()

    assert planned == []
    assert (told.result, told.copied, told.tally.updated, told.drift) == (Result.SUCCESS, {}, 0, {})
    assert contents(lied_to) == ["WRONG"] * 4
    assert version_of(lied_to) == FORMAT
    with closing(Index.open(str(lied_to.state))) as index:
        assert index.extent() == size
        assert index.versions(b"folder") == {}


def test_a_new_name_is_linked_to_names_that_an_older_index_knows(shop: Workshop) -> None:
    shop.write("one/a", "content")
    give_name(shop, "one/a", "deep/er/b")
    shop.cycle()
    grow_old(shop, OF_PATHS)
    give_name(shop, "one/a", "new/c")

    told = shop.cycle()

    assert (told.result, told.drift) == (Result.SUCCESS, {})
    assert len(inodes(shop.mirror, "one/a", "deep/er/b", "new/c")) == 1


def test_a_plan_with_an_index_of_whole_paths_believes_it_and_leaves_it_as_it_is(lied_to: Workshop) -> None:
    grow_old(lied_to, OF_PATHS)
    before = (lied_to.state / FILE_NAME).read_bytes()

    assert [step.path for step in lied_to.plan()] == []
    assert (lied_to.state / FILE_NAME).read_bytes() == before


def test_a_migration_without_room_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        index.commit([], [RowsDone(b"a/%d" % number, 0, "rows" * 100) for number in range(300)])
    make_older(tmp_path / FILE_NAME, OF_PATHS)
    before = (tmp_path / FILE_NAME).read_bytes()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            migrate(connection, OF_PATHS)

    assert (tmp_path / FILE_NAME).read_bytes() == before
    with closing(Index.open(str(tmp_path))) as index:
        assert index.rows(b"a/299") == "rows" * 100


@pytest.mark.parametrize("version", [BEFORE, OF_PATHS])
def test_an_index_of_then_that_makes_no_sense_is_torn(tmp_path: Path, version: int) -> None:
    Index.open(str(tmp_path)).close()
    make_older(tmp_path / FILE_NAME, version)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("DROP TABLE hard_link")

    with pytest.raises(IndexTorn, match="does not have the table hard_link"):
        Index.open(str(tmp_path))


def test_an_index_of_before_versions_that_has_a_table_of_theirs_is_torn(tmp_path: Path) -> None:
    Index.open(str(tmp_path)).close()
    without_versions(tmp_path / FILE_NAME)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE version (folder BLOB)")

    with pytest.raises(IndexTorn, match="table version"):
        Index.open(str(tmp_path))


@pytest.mark.parametrize("table", ["folder", "hard_link", "unheld"])
def test_rows_without_an_end_in_an_index_of_then_are_damage(tmp_path: Path, table: str) -> None:
    with closing(Index.open(str(tmp_path))) as index:
        row = RowsDone(b"a", 0, "rows", ((7, b"name"),), "what the mirror cannot hold")
        index.commit([samples.a_finished_folder(b"a")], [row])
    make_older(tmp_path / FILE_NAME, OF_PATHS)
    rows_without_end(tmp_path / FILE_NAME, table)

    with pytest.raises(IndexTorn):
        Index.open(str(tmp_path))
