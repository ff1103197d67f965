"""Attributes that only the index can keep: as many as a row of it can be expected to hold."""

import os
from contextlib import closing
from dataclasses import replace

import pytest

from job.core.file_systems import Capabilities
from job.core.outcome import Result
from job.engine.copy import content_compare
from job.events.pair import MetadataNotKept
from job.store import codec
from job.store.codec import MOST_ATTRIBUTE_BYTES, MOST_BYTES_EACH, UnsupportedMetadata
from job.store.index import Index
from tests.engine.workshop import Workshop, changed

LARGE = UnsupportedMetadata(0o100644, 0, 0, 0, attributes=((b"user.a", bytes(MOST_BYTES_EACH - 100)),))


def test_a_row_has_no_more_attributes_than_the_limit() -> None:
    names = [b"%04d" % number for number in range(2 * MOST_ATTRIBUTE_BYTES // MOST_BYTES_EACH)]

    text = codec.encode_unsupported(dict.fromkeys(names, LARGE))

    kept = codec.decode_unsupported(text)
    assert list(kept) == names
    assert MOST_ATTRIBUTE_BYTES - MOST_BYTES_EACH < sum(each.size for each in kept.values()) <= MOST_ATTRIBUTE_BYTES
    assert {each._replace(attributes=()) for each in kept.values()} == {LARGE._replace(attributes=())}


def test_an_entry_whose_attributes_are_too_large_for_the_index_is_copied_with_a_warning(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_compare, "MOST_BYTES_EACH", 100)
    for name, size in (("small", 50), ("large", 101)):
        os.setxattr(shop.write(name), "user.a", bytes(size))

    told = shop.cycle(changed(lambda context: replace(context, mirror=Capabilities(acls=False, xattrs=False))))

    assert told.result is Result.SUCCESS
    assert "source_xattr_size" in [event.what for event in told.of(MetadataNotKept)]
    with closing(Index.open(str(shop.state))) as index:
        found = codec.decode_unsupported(index.unsupported(b""))
    assert {name: each.attributes for name, each in found.items() if name} == {
        b"small": ((b"user.a", bytes(50)),),
        b"large": (),
    }
