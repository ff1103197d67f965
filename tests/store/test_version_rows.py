"""Rows about versions and orphans as text: what was written is read again, and what makes no sense is not known."""

import json
import stat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.entry import Kind
from job.core.restore_plan import Kept, kept_version
from job.core.versions import Moment, OrphanRow, VersionReason, VersionRow
from job.store.version_rows import decode_orphans, decode_versions, encode_orphans, encode_versions

names = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & {*name} and name not in {b".", b".."})
numbers = st.integers(0, 2**64 - 1)
versions = st.builds(
    VersionRow,
    names,
    numbers,
    numbers,
    numbers,
    numbers,
    st.sampled_from(["", "sha256:" + "ab" * 32, "sparse-blake3:00"]),
    st.sampled_from(VersionReason),
    st.booleans(),
)
orphans = st.builds(
    OrphanRow, names, *[numbers] * 7, st.sampled_from(["", "sha256:" + "ab" * 32, "sparse-blake3:00"]), numbers
)
ROW = VersionRow(
    b"name", stat.S_IFREG | 0o644, 500, 10**18, 2 * 10**18, "sha256:ab", VersionReason.REPLACED, replaced_another=True
)


def unique(rows: list[Any]) -> list[Any]:
    return [*{row.name: row for row in rows}.values()]


@given(st.lists(versions, max_size=4).map(unique))
def test_versions_that_were_written_are_read_again(rows: list[VersionRow]) -> None:
    assert decode_versions(encode_versions(rows)) == rows


@given(st.lists(orphans, max_size=4).map(unique))
def test_orphans_that_were_written_are_read_again(rows: list[OrphanRow]) -> None:
    assert decode_orphans(encode_orphans(rows)) == rows


def test_what_is_read_is_of_the_right_kinds() -> None:
    [row] = decode_versions(encode_versions([ROW]))

    assert row.why is VersionReason.REPLACED
    assert row.replaced_another is True


def test_a_thousand_versions_of_one_cycle_take_little_more_than_their_names_sizes_and_checksums() -> None:
    rows = [
        ROW._replace(name=b"file %04d" % number, size=number, checksum=f"sha256:{number:064x}")
        for number in range(1000)
    ]

    assert len(encode_versions(rows)) < 1000 * (9 + 1 + 4 + 1 + 71 + 3)


GOOD: list[Any] = ["name", 1, 2, 3, 4, "", "replaced", True]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, ""),
        (0, "."),
        (0, "a/.."),
        (0, "a//b"),
        (0, "a\0"),
        (0, "a/a"),
        (0, 5),
        (0, None),
        (1, -1),
        (1, 2**64),
        (1, True),
        (1, 1.0),
        (1, [1, 2]),
        (1, []),
        (5, 5),
        (5, ["a", "b"]),
        (6, "unknown"),
        (6, 7),
        (7, 1),
        (7, None),
    ],
)
def test_one_wrong_value_makes_a_text_invalid(place: int, value: Any) -> None:
    assert len(decode_versions(json.dumps(GOOD))) == 1

    wrong = [*GOOD[:place], value, *GOOD[place + 1 :]]

    assert decode_versions(json.dumps(wrong)) == []


@pytest.mark.parametrize(
    "text", ["", "x", "null", "7", "{}", "[]", '["a"]', '"name"', "[" * 100_000, json.dumps([*GOOD, 1])]
)
def test_another_text_has_no_rows(text: str) -> None:
    assert decode_versions(text) == []
    assert decode_orphans(text) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=8)
)


@given(st.text() | json_values.map(json.dumps))
def test_no_text_raises_anything(text: str) -> None:
    decode_versions(text)
    decode_orphans(text)


def test_a_row_becomes_what_a_restore_chooses_from() -> None:
    moment = Moment(5)

    assert kept_version(ROW, moment) == Kept(moment, Kind.FILE, since=10.0**9, until=2 * 10.0**9, replaced_another=True)
    assert kept_version(ROW._replace(since_ns=0, mode=stat.S_IFLNK), moment) == Kept(
        moment, Kind.SYMLINK, since=None, until=2 * 10.0**9, replaced_another=True
    )
    assert kept_version(ROW._replace(why=VersionReason.EXCLUDED), moment) is None
