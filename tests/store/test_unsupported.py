"""What a mirror cannot hold, as text in the index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.store.codec import FOLDER, UnsupportedMetadata, decode_unsupported, encode_unsupported
from tests.core import samples

attributes = st.lists(st.tuples(st.binary(min_size=1), st.binary()), max_size=3, unique_by=lambda each: each[0])
things = st.builds(
    UnsupportedMetadata,
    samples.modes,
    samples.numbers,
    samples.numbers,
    samples.times,
    st.binary(),
    samples.numbers,
    attributes.map(lambda found: tuple(sorted(found))),
)


@given(st.dictionaries(samples.names | st.just(FOLDER), things, max_size=5))
def test_what_is_written_is_read_again_whatever_the_bytes(unsupported: dict[bytes, UnsupportedMetadata]) -> None:
    read = decode_unsupported(encode_unsupported(unsupported))

    assert {
        name: each._replace(attributes=tuple(sorted(each.attributes))) for name, each in read.items()
    } == unsupported


def test_nothing_is_an_empty_text() -> None:
    assert (encode_unsupported({}), decode_unsupported("")) == ("", {})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"a": 1}',
        '{"a": [1, 2]}',
        '{"a": ["x", 0, 0, 0, "", 0, {}]}',
        '{"a": [0,0,0,0,"",0,{"b":"*"}]}',
        "[" * 9999,
    ],
)
def test_hostile_text_is_nothing(text: str) -> None:
    assert decode_unsupported(text) == {}
