"""Hostile content of an index: what makes no sense is not known, and ends nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from job.store.codec import decode_records
from job.store.index import MOST_PARTS, Index
from job.store.index_schema import FILE_NAME
from tests.core import samples


@pytest.mark.parametrize("rows", [b"\xff\xfe\x00", 7, 1.5])
def test_records_that_are_no_text_are_not_known(state: Path, raw: sqlite3.Connection, rows: object) -> None:
    raw.execute("UPDATE records SET rows = ?", (rows,))

    with closing(Index.open(str(state))) as index:
        assert decode_records(index.rows(b"folder")) == {}


def test_text_that_is_no_utf_8_is_damage(state: Path, raw: sqlite3.Connection) -> None:
    raw.execute("UPDATE records SET rows = CAST(x'22ff22' AS TEXT)")

    with closing(Index.open(str(state))) as index:
        assert index.rows(b"folder") == ""
        assert "UTF-8" in index.torn


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stamp", "text"),
        ("stamp", 7),
        ("fingerprint", 1_000_000_000_000),
        ("fingerprint", "text"),
        ("mirror_fingerprint", 1_000_000_000_000),
        ("entries", "many"),
        ("entries", float("inf")),
        ("entries", -5),
        ("specials", -5),
        ("specials", 2),
        ("recheck", "x"),
        ("parts", 0),
        ("parts", -1),
        ("parts", MOST_PARTS + 1),
        ("parts", 2**62),
        ("parts", "all"),
    ],
)
def test_a_summary_that_makes_no_sense_is_not_known(
    state: Path, raw: sqlite3.Connection, column: str, value: object
) -> None:
    raw.execute(f"UPDATE folder SET {column} = ?", (value,))

    with closing(Index.open(str(state))) as index:
        assert index.summary(b"folder") is None


@pytest.mark.parametrize("value", [float("inf"), 2**62, "many"])
def test_counts_that_make_no_sense_end_nothing(state: Path, raw: sqlite3.Connection, value: object) -> None:
    raw.execute("UPDATE folder SET entries = ?", (value,))
    same = "fingerprint, stamp, mirror_fingerprint, entries, 0, 0, 1, -1"
    raw.execute(f"INSERT INTO folder SELECT x'01', name, {same} FROM folder")
    raw.execute(f"INSERT INTO folder SELECT x'02', name, {same} FROM folder LIMIT 1")

    with closing(Index.open(str(state))) as index:
        assert index.entry_count() >= 0


@pytest.mark.parametrize("value", ["yesterday", float("inf")])
def test_an_audit_at_no_time_never_happened(state: Path, raw: sqlite3.Connection, value: object) -> None:
    raw.execute("INSERT INTO fact VALUES ('audited_timestamp_seconds', ?)", (value,))

    with closing(Index.open(str(state))) as index:
        assert index.audited == 0


@pytest.mark.parametrize("table", ["folder", "records", "fact"])
def test_damage_met_in_mid_run_is_noted_and_nothing_of_it_is_believed(
    state: Path, raw: sqlite3.Connection, table: str
) -> None:
    with closing(Index.open(str(state))) as index:
        raw.execute(f"DROP TABLE {table}")

        answers = index.summary(b"folder"), index.rows(b"folder"), index.entry_count(), index.audited

        assert index.torn != ""
        assert not answers[{"folder": 0, "records": 1, "fact": 3}[table]]


def test_a_damaged_page_is_noted_in_reading_and_in_writing(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        paths = [b"%04d" % number for number in range(500)]
        index.commit(map(samples.a_finished_folder, paths), map(samples.rows_of, paths))
    damaged = bytearray((state / FILE_NAME).read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    (state / FILE_NAME).write_bytes(damaged)

    with closing(Index.open(str(state))) as index:
        assert index.rows(b"0042") == ""
        assert index.torn != ""
        index.torn = ""
        with pytest.raises(OSError, match="could not be written"):
            index.commit([samples.a_finished_folder(b"0042")], [])
        assert index.torn != ""
