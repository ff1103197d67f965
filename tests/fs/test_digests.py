"""Checksums of blocks that are not zeros: one for each content, however it is read and wherever its holes are."""

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.fs.hashing_reader import new_hash
from job.fs.sparse import SparseDigest, WholeDigest

BLOCK = 4096
ranges = st.one_of(
    st.integers(1, 5 * BLOCK).map(bytes),
    st.binary(min_size=1, max_size=50),
    st.integers(1, 2 * BLOCK).map(lambda count: b"x" * count),
)


def by_definition(content: bytes) -> str:
    """Give the checksum as the documentation defines it."""
    digest = hashlib.sha256()
    for start in range(0, len(content), BLOCK):
        block = content[start : start + BLOCK].ljust(BLOCK, b"\0")
        if block != bytes(BLOCK):
            digest.update(struct.pack(">Q", start) + block)
    digest.update(struct.pack(">Q", len(content)))
    return digest.hexdigest()


@settings(max_examples=40)
@given(st.lists(ranges, max_size=12), st.sampled_from(["all of it", "holes apart"]))
def test_it_is_what_is_documented_however_the_content_is_fed(chunks: list[bytes], how: str) -> None:
    digest = SparseDigest(hashlib.sha256())

    for chunk in chunks:
        if how == "holes apart" and not any(chunk):
            digest.skip(len(chunk))
        else:
            digest.update(memoryview(chunk))

    assert digest.hexdigest() == by_definition(b"".join(chunks))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"", b"\0"),
        (bytes(BLOCK), bytes(BLOCK + 1)),
        (b"x" + bytes(BLOCK - 1), bytes(BLOCK) + b"x" + bytes(BLOCK - 1)),
        (b"x", b"x\0"),
    ],
)
def test_contents_that_differ_in_zeros_only_have_different_ones(one: bytes, other: bytes) -> None:
    assert by_definition(one) != by_definition(other)
    assert SparseDigest(hashlib.sha256()).hexdigest() == by_definition(b"")


@settings(max_examples=20)
@given(st.lists(ranges, max_size=6))
def test_a_checksum_of_all_has_zeros_for_what_is_skipped(chunks: list[bytes]) -> None:
    digest = WholeDigest(hashlib.sha256())

    for chunk in chunks:
        if any(chunk):
            digest.update(chunk)
        else:
            digest.skip(len(chunk))

    assert digest.hexdigest() == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_the_name_of_the_algorithm_says_which_it_is() -> None:
    content = b"x" + bytes(3 * BLOCK)

    assert new_hash("sparse-sha256")(content).hexdigest() == by_definition(content)
    assert new_hash("sha256")(content).hexdigest() == hashlib.sha256(content).hexdigest()


def test_a_hole_of_exbibytes_takes_no_time() -> None:
    digest = SparseDigest(hashlib.sha256())

    digest.skip(7 << 60)

    assert digest.hexdigest() == hashlib.sha256(struct.pack(">Q", 7 << 60)).hexdigest()
