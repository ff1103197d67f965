"""What is asked of a SQLite file ends, and answers are no larger than the file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.store.sqlite import (
    DAMAGED,
    HostileFileError,
    TooMuchError,
    check_header,
    check_objects,
    fetch_bounded,
    lift_limits,
    objects_in,
    restrict,
    schema_of,
    step_limit,
)
from tests.traps import ENDLESS, patched

ONE = "CREATE TABLE one (a TEXT,  b)"


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def test_a_statement_without_an_end_is_damage(database: sqlite3.Connection) -> None:
    with step_limit(database, 1000), pytest.raises(sqlite3.OperationalError) as ended:
        database.execute(f"{ENDLESS} SELECT max(x) FROM c").fetchone()

    assert ended.value.sqlite_errorcode in DAMAGED


def test_what_a_file_of_that_size_can_need_is_done(database: sqlite3.Connection) -> None:
    with step_limit(database, 100 << 20):
        (count,) = database.execute(f"{ENDLESS} SELECT count(*) FROM (SELECT x FROM c LIMIT 2000000)").fetchone()

    assert count == 2_000_000


def test_many_short_statements_are_not_one_long_one(database: sqlite3.Connection) -> None:
    """SQLite counts the steps of a statement over all its executions."""
    database.execute(ONE)
    for _ in range(10):
        with step_limit(database, 0):
            database.executemany("INSERT INTO one VALUES (?, ?)", [("text", number) for number in range(20_000)])

    assert database.execute("SELECT count(*) FROM one").fetchone() == (200_000,)


def test_bounds_end_with_what_was_asked_within(database: sqlite3.Connection) -> None:
    with step_limit(database, 0):
        pass

    assert database.execute(f"{ENDLESS} SELECT count(*) FROM (SELECT x FROM c LIMIT 3000000)").fetchone()


@pytest.mark.parametrize("answer", ["x", "zeroblob(1000)", "hex(zeroblob(1000))"])
def test_an_answer_without_an_end_is_damage_before_it_fills_the_memory(
    database: sqlite3.Connection, answer: str
) -> None:
    with pytest.raises(TooMuchError) as ended:
        fetch_bounded(database.execute(f"{ENDLESS} SELECT {answer} FROM c"), 1 << 20)

    assert ended.value.sqlite_errorcode in DAMAGED


def test_an_answer_that_the_file_can_hold_is_given(database: sqlite3.Connection) -> None:
    rows = fetch_bounded(database.execute(f"{ENDLESS} SELECT x, 'text' FROM c LIMIT 30000"), 0)

    assert rows == [(number, "text") for number in range(1, 30_001)]


def test_before_the_schema_was_checked_no_large_value_is_read(database: sqlite3.Connection) -> None:
    restrict(database)

    with pytest.raises(sqlite3.DataError, match="too big"):
        database.execute("SELECT zeroblob(100000)").fetchone()
    lift_limits(database, 1 << 20)

    assert len(database.execute("SELECT zeroblob(100000)").fetchone()[0]) == 100_000


def test_nothing_is_attached_and_no_trigger_runs(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.execute(ONE)
    database.execute("CREATE TRIGGER t AFTER INSERT ON one BEGIN DELETE FROM one; END")
    restrict(database)
    lift_limits(database, 1 << 20)

    with pytest.raises(sqlite3.OperationalError):
        database.execute("ATTACH DATABASE ? AS other", (str(tmp_path / "other"),))
    try:
        database.execute("INSERT INTO one VALUES ('kept', 1)")
    except sqlite3.Error:
        database.execute("DROP TRIGGER t")  # no trigger can run: the statement is refused
        database.execute("INSERT INTO one VALUES ('kept', 1)")

    assert database.execute("SELECT a FROM one").fetchall() == [("kept",)]


def test_a_schema_is_known_again_however_it_is_spaced(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE one (a TEXT,\n    b)")

    check_objects(objects_in(database), (schema_of(ONE),))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("CREATE TABLE one (a TEXT, b); CREATE VIEW more AS SELECT 1", "the view more, which no version"),
        ("CREATE TABLE one (a TEXT, c)", "does not have the table one as"),
        ("CREATE TABLE two (a TEXT, b)", "does not have the table one as"),
        ('CREATE TABLE one (a TEXT, b); CREATE TABLE "\n\x1b[2J" (a)', r"the table \\n\\x1b\[2J, which"),
    ],
)
def test_what_is_other_in_a_schema_is_named_in_one_printable_line(
    database: sqlite3.Connection, made: str, told: str
) -> None:
    database.executescript(made)

    with pytest.raises(HostileFileError, match=told) as refused:
        check_objects(objects_in(database), (schema_of(ONE),))

    assert str(refused.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"short", b"no database at all, only a long text" * 10])
def test_what_has_no_header_is_left_to_sqlite(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)

    with (tmp_path / "file").open("rb") as opened:
        check_header(opened.fileno())


def test_a_header_is_read_where_sqlite_would_act_on_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file")) as made:
        made.execute(ONE)
        made.commit()
    with (tmp_path / "file").open("rb") as opened:
        check_header(opened.fileno())
    patched(tmp_path / "file", 18, b"\2\2")

    with (tmp_path / "file").open("rb") as opened, pytest.raises(HostileFileError, match="rollback journal"):
        check_header(opened.fileno())
