"""An index that somebody, or a disk, was at: the next cycle ends with an equal tree, or it is refused in so many words.

What is changed are the bytes of the file, and single values in it by somebody who knows its tables.
"""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.outcome import Failure, Refusal, Result
from job.events.pair import IndexRebuilt, PairRefused
from tests.engine.workshop import Workshop, assert_mirrored, seen
from tests.fuzzed import Damage, damages

pytestmark = pytest.mark.one_process  # only the main process believes the index

SHARE, WHOLE = 40, 4_000
FAST = Path("/dev/shm")
SECRET = "nobody shall read this"
NAMES: list[Any] = [
    b"..",
    b"../outside",
    b"/",
    b"",
    b"a/b",
    b"a\0b",
    b"a",
    b"b",
    b".truecopy",
    b".truecopy-tmp-1-1",
    "a",
]
COLUMNS = [
    (table, column)
    for table, columns in {
        "folder": [
            "parent",
            "name",
            "fingerprint",
            "stamp",
            "mirror_fingerprint",
            "entries",
            "specials",
            "recheck",
            "parts",
            "bytes",
        ],
        "records": ["folder", "part", "rows"],
        "hard_link": ["inode", "folder", "part", "name"],
        "way": ["folder", "parent", "name"],
        "unheld": ["folder", "part", "rows"],
        "fact": ["name", "value"],
    }.items()
    for column in columns
]
_values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(max_size=20),
    st.text(st.characters(codec="utf-8"), max_size=10),
    st.sampled_from(NAMES),
)
_inner = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.text(max_size=3),
    st.sampled_from(["a", "..", "/", "sha256:00"]),
)
edits = st.tuples(st.sampled_from(COLUMNS), st.integers(0, 10), _values)
spoilings = st.tuples(st.integers(0, 10), st.lists(st.tuples(st.integers(0, 40), _inner), min_size=1, max_size=3))


@contextmanager
def known_pair() -> Iterator[Workshop]:
    """Give a pair that was mirrored, with names that share a file, and a tree beside it that is nobody's business."""
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as base:
        shop = Workshop(Path(base))
        for name in ("a", "b", "folder/a", "folder/b", "folder/below/c"):
            shop.write(name, name)
        (shop.source / "link").symlink_to("a")
        os.link(shop.source / "folder/a", shop.source / "folder/below/a too")
        (shop.base / "outside").mkdir()
        (shop.base / "outside/a").write_text(SECRET)
        assert shop.cycle().result is Result.SUCCESS
        yield shop


def survives(shop: Workshop) -> None:
    """See that the next cycles carry over what happened meanwhile, or refuse, and touch nothing outside."""
    before = seen(shop.mirror / "folder/b")
    (shop.source / "folder/b").write_text("edited")
    shop.write("folder/new")
    outside = [seen(path) for path in (shop.base / "outside", shop.base / "outside/a")]

    told = shop.cycle()

    assert outside == [seen(path) for path in (shop.base / "outside", shop.base / "outside/a")]
    assert [path.name for path in (shop.base / "outside").iterdir()] == ["a"]
    if told.result is Result.REFUSED:
        (refused,) = told.of(PairRefused)
        assert (refused.reason, bool(refused.hint)) == (Refusal.STATE_UNUSABLE, True)
        assert seen(shop.mirror / "folder/b") == before
    else:
        if told.result is Result.PARTIAL:  # the damage was met in a commit: what it was to remember is done again
            assert (set(told.failed.values()), len(told.of(IndexRebuilt))) == ({Failure.SYNC}, 1)
            told = shop.cycle()
        assert (told.result, told.failed) == (Result.SUCCESS, {})
        assert_mirrored(shop)
        assert (shop.mirror / "folder/a").samefile(shop.mirror / "folder/below/a too")
        copies = [path for path in shop.mirror.rglob("*") if path.is_file() and ".sqlite3" not in path.name]
        assert not any(SECRET.encode() in path.read_bytes() for path in copies)
        again = shop.cycle()
        assert (again.result, again.copied) == (Result.SUCCESS, {})


def bytes_damaged(damage: Damage) -> None:
    with known_pair() as shop:
        place = shop.state / "index.sqlite3"
        place.write_bytes(damage.of(place.read_bytes()))
        survives(shop)


def value_changed(edit: tuple[tuple[str, str], int, Any]) -> None:
    (table, column), which, value = edit
    with known_pair() as shop:
        with closing(sqlite3.connect(shop.state / "index.sqlite3")) as index, index:
            found = index.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            _try(index, f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {_nth(index, table, which, found)}", value)
        survives(shop)


def record_spoilt(spoiling: tuple[int, list[tuple[int, Any]]]) -> None:
    which, changes = spoiling
    with known_pair() as shop:
        with closing(sqlite3.connect(shop.state / "index.sqlite3")) as index, index:
            rows = index.execute("SELECT rowid, rows FROM records WHERE rows != ''").fetchall()
            number, text = rows[which % len(rows)]
            document = json.loads(text)
            for place, value in changes:
                document = _with(document, place, value)
            index.execute("UPDATE records SET rows = ? WHERE rowid = ?", (json.dumps(document), number))
        survives(shop)


def _try(index: sqlite3.Connection, statement: str, value: Any) -> None:
    with suppress(sqlite3.IntegrityError, OverflowError):  # the table itself refuses such a value
        index.execute(statement, (value,))


def _nth(index: sqlite3.Connection, table: str, which: int, count: int) -> str:
    """Give the condition that is true for the n-th row of a table only, by all that its key is made of."""
    key = ", ".join(row[1] for row in index.execute(f"PRAGMA table_info({table})") if row[5])
    return f"({key}) = (SELECT {key} FROM {table} LIMIT 1 OFFSET {which % count})" if count else "true"


def _with(document: Any, place: int, value: Any) -> Any:
    """Give a JSON document with another value in one place, counted through all its lists and tables."""
    places = [*_places(document)]
    holder, key = places[place % len(places)]
    holder[key] = value
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(document, list | dict):
        for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
            yield document, key
            yield from _places(value)


quick = settings(deadline=None, max_examples=SHARE, suppress_health_check=[HealthCheck.too_slow])
whole = settings(quick, max_examples=WHOLE)


@given(damages)
@quick
def test_damaged_bytes_of_the_index_do_no_harm(damage: Damage) -> None:
    bytes_damaged(damage)


@given(edits)
@quick
def test_a_hostile_value_in_the_index_does_no_harm(edit: tuple[tuple[str, str], int, Any]) -> None:
    value_changed(edit)


@given(spoilings)
@quick
def test_a_spoilt_record_in_the_index_does_no_harm(spoiling: tuple[int, list[tuple[int, Any]]]) -> None:
    record_spoilt(spoiling)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(damages)
@whole
def test_damaged_bytes_of_the_index_do_no_harm_many_times(damage: Damage) -> None:
    bytes_damaged(damage)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(edits)
@whole
def test_a_hostile_value_in_the_index_does_no_harm_many_times(edit: tuple[tuple[str, str], int, Any]) -> None:
    value_changed(edit)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(spoilings)
@whole
def test_a_spoilt_record_in_the_index_does_no_harm_many_times(spoiling: tuple[int, list[tuple[int, Any]]]) -> None:
    record_spoilt(spoiling)
