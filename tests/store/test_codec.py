"""Records as text: what was written is read again, and what makes no sense is not known."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.record import Record
from job.store.codec import decode_records, encode_records, without_records
from tests.core import samples

ROW = [1, 2, 3, 4, 5, 6, 7]


def by_name(records: list[Record]) -> dict[bytes, Record]:
    """Give records as a folder has them: by name, the mirror's name that of the source."""
    return {each.source.name: each._replace(mirror=each.mirror._replace(name=each.source.name)) for each in records}


@given(st.lists(samples.records, max_size=4))
def test_what_was_written_is_read_again(found: list[Record]) -> None:
    records = by_name(found)

    assert decode_records(encode_records(records.values())) == records


@given(st.lists(samples.entries, min_size=1, max_size=4), st.booleans())
def test_a_mirror_that_keeps_everything_is_read_again(entries: list[Any], racy: bool) -> None:  # noqa: FBT001
    records = by_name([Record(entry, entry._replace(inode=7), samples.SHA256, racy) for entry in entries])

    assert decode_records(encode_records(records.values())) == records


@given(st.lists(samples.records, min_size=1, max_size=4), st.data(), st.sampled_from(["", "su"]))
def test_since_when_contents_stand_is_read_again(found: list[Record], data: st.DataObject, options_key: str) -> None:
    since = st.one_of(st.just(0), st.integers(0, 2**63 - 1))
    records = {name: record._replace(since_ns=data.draw(since)) for name, record in by_name(found).items()}

    assert decode_records(encode_records(records.values(), options_key), options_key) == records


def test_copies_that_were_left_alone_take_no_room_for_since_when_they_stand() -> None:
    record = samples.a_record(samples.a_file(), samples.a_mirror())

    assert len(json.loads(encode_records([record]))) == len(A_ROW)
    assert record.stands_since_ns == record.mirror.ctime_ns
    assert record._replace(since_ns=5).stands_since_ns == 5


def test_what_is_read_is_of_the_right_kinds() -> None:
    [record] = decode_records(
        encode_records([samples.a_record(samples.a_file(), samples.a_mirror(), racy=True)])
    ).values()

    assert record == samples.a_record(samples.a_file(), samples.a_mirror(), racy=True)
    assert record.racy is True
    assert record.source.kind == "file"
    assert record.mirror.inode == 99


def test_numbers_of_more_than_64_bits_are_no_trouble() -> None:
    far_away = samples.a_file(mtime_ns=10**9 * 2**62, inode=2**64 - 1)
    records = {b"name": samples.a_record(far_away, far_away)}

    assert decode_records(encode_records(records.values())) == records


@pytest.mark.parametrize(("then", "now"), [("", "u"), ("u", ""), ("u", "su")])
def test_what_was_done_under_other_options_has_to_be_looked_at_again(then: str, now: str) -> None:
    record = samples.a_record(samples.a_file(), samples.a_mirror())

    [same] = decode_records(encode_records([record], then), then).values()
    [other] = decode_records(encode_records([record], then), now).values()

    assert same == record
    assert other == record._replace(racy=True)


@given(st.lists(samples.records, max_size=4), st.data(), st.sampled_from(["", "su"]))
def test_records_that_are_left_out_are_unknown_and_the_others_are_as_they_were(
    found: list[Record], data: st.DataObject, options_key: str
) -> None:
    records = by_name(found)
    left_out = {name for name in records if data.draw(st.booleans())}

    kept = without_records(encode_records(records.values(), options_key), left_out)

    assert decode_records(kept, options_key) == {
        name: record for name, record in records.items() if name not in left_out
    }


def test_no_records_are_no_text() -> None:
    assert encode_records([]) == ""
    assert decode_records("") == {}


def test_the_text_says_once_what_is_the_same_for_all() -> None:
    one = [samples.a_record(samples.a_file(), samples.a_mirror())]
    many = [
        record._replace(source=record.source._replace(name=b"%d" % n), mirror=record.mirror._replace(name=b"%d" % n))
        for n in range(100)
        for record in one
    ]

    added_bytes = (len(encode_records(many)) - len(encode_records(one))) / 99

    assert added_bytes < len(samples.SHA256) + 5


HOSTILE: list[str] = [
    "null",
    "{}",
    "7",
    "[7]",
    "[[]]",
    "[" * 100_000,
    "[" + "9" * 10_000 + "]",
    "[1,2,3,4,5]",
    '["name",[],[],"",false]',
    '["name",{},{},"",false]',
    '["name","sevenof","sevenof","",false]',
    '{"a":1,"b":2,"c":3,"d":4,"e":5}',
    "\ud800",
    "\0",
    "NaN",
]
A_ROW: list[Any] = ["name", ROW, ROW, "sha256:00", False]
SPOILT: list[tuple[int, Any]] = [
    (0, ""),
    (0, "one/two"),
    (0, 7),
    (0, ["name"]),
    (0, "\ud800"),
    (1, None),
    (1, [1]),
    (1, [None] * 7),
    (1, [1, 2, 3, 4, 5, 6, 7, 8]),
    (1, [1, 2, 3, 4, 5, 6, "7"]),
    (1, [-1, 2, 3, 4, 5, 6, 7]),
    (2, [2**64, 2, 3, 4, 5, 6, 7]),
    (1, [1, 2, 3, 4, 5, 6, 7.0]),
    (1, [1, 2, 3, 4, 5, 6, True]),
    (1, [1, 2, 3, 4, 5, 6, float("inf")]),
    (1, [1, 2, 3, 4, 5, 6, []]),
    (1, [1, 2, 3, 4, 5, 6, [7, 8]]),
    (1, [1, 2, 3, 4, 5, 6, [[]]]),
    (2, [1]),
    (2, [None] * 6),
    (2, [1, 2, 3, 4, 5, 6, "7"]),
    (3, None),
    (3, ["sha256:00"]),
    (3, "one\ntwo"),
    (4, None),
    (4, 1),
    (4, [False, False]),
    (4, "false"),
]


def test_the_row_that_is_spoilt_below_is_a_good_one() -> None:
    assert list(decode_records(json.dumps(A_ROW))) == [b"name"]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text)[:40])
def test_text_that_is_not_ours_says_nothing(text: str) -> None:
    assert decode_records(text) == {}


@pytest.mark.parametrize(("place", "value"), SPOILT)
def test_a_row_in_which_one_thing_makes_no_sense_says_nothing(place: int, value: Any) -> None:
    row = [*A_ROW[:place], value, *A_ROW[place + 1 :]]

    assert b"name" not in decode_records(json.dumps(row))


@pytest.mark.parametrize("since", [None, -1, 2**63, "7", 1.0, True, [7, 8], [], {}, [None]])
def test_rows_of_which_the_start_makes_no_sense_say_nothing(since: Any) -> None:
    assert decode_records(json.dumps([*A_ROW, "", 7]))[b"name"].since_ns == 7
    assert decode_records(json.dumps([*A_ROW, "", since])) == {}
    assert decode_records(json.dumps([*A_ROW, "", 7, 7])) == {}


@pytest.mark.parametrize("options_key", [None, 7, ["-o"], {}, True])
def test_rows_of_which_the_policy_makes_no_sense_say_nothing(options_key: Any) -> None:
    assert decode_records(json.dumps([*A_ROW, "-o"]), "-o")
    assert decode_records(json.dumps([*A_ROW, options_key]), "-o") == {}
    assert without_records(json.dumps([*A_ROW, options_key]), ()) == ""


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=3), inner, max_size=5)),
    max_leaves=30,
)


@given(st.one_of(st.text(), json_values.map(json.dumps), st.lists(json_values, min_size=5, max_size=5).map(json.dumps)))
def test_no_text_is_an_error(text: str) -> None:
    without_records(text, {b"name"})
    records = decode_records(text)

    assert decode_records(encode_records(records.values())) == records
