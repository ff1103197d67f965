"""Which file system of a mirror holds a path, and whether the index speaks of the same one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.file_systems import (
    ByMount,
    Capabilities,
    FileSystemId,
    FileSystemMatch,
    NameRules,
    decode_file_system_id,
    encode_file_system_id,
    match_file_system,
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", "root"),
        (b"a", "root"),
        (b"us", "root"),
        (b"usb", "usb"),
        (b"usb2", "root"),
        (b"usb/below", "usb"),
        (b"usb/deep/er", "deeper"),
        (b"usb/deep/er/still", "deeper"),
        (b"usb/deep", "usb"),
        (b"a/usb", "root"),
    ],
)
def test_a_path_belongs_to_the_nearest_mount_above_it(path: bytes, expected: str) -> None:
    assert ByMount("root", {b"usb": "usb", b"usb/deep/er": "deeper"}).at(path) == expected


def test_a_root_that_folds_case_has_its_mount_points_under_every_spelling() -> None:
    folding = NameRules(Capabilities(case_sensitive=False))

    assert ByMount("root", {b"USB": "usb"}, folding).at(b"usb/x") == "usb"
    assert ByMount("root", {b"USB": "usb"}).at(b"usb/x") == "root"


@pytest.mark.parametrize(
    ("known", "found", "verdict"),
    [
        (None, FileSystemId("uuid 1", "8:1"), FileSystemMatch.OTHER),
        (FileSystemId("uuid 1", "8:1"), FileSystemId("uuid 1", "8:1"), FileSystemMatch.SAME),
        (FileSystemId("uuid 1", "8:1"), FileSystemId("uuid 1", "8:17"), FileSystemMatch.MOVED),
        (FileSystemId("uuid 1", "8:1"), FileSystemId("uuid 2", "8:1"), FileSystemMatch.OTHER),
        (FileSystemId("uuid 1", "8:1"), FileSystemId("", "8:1"), FileSystemMatch.OTHER),
        (FileSystemId("", "8:1"), FileSystemId("", "8:1"), FileSystemMatch.SAME),
        (FileSystemId("", "8:1 disk 7"), FileSystemId("", "8:1 disk 8"), FileSystemMatch.OTHER),
    ],
)
def test_only_what_is_shown_to_be_the_same_is_believed(
    known: FileSystemId | None, found: FileSystemId, verdict: FileSystemMatch
) -> None:
    assert match_file_system(known, found) is verdict


@given(st.builds(FileSystemId, st.text(), st.text()))
def test_an_identity_survives_being_stored(identity: FileSystemId) -> None:
    assert decode_file_system_id(encode_file_system_id(identity)) == identity


@pytest.mark.parametrize(
    "text", [None, 1.5, b"x", "", "{}", "[]", '["a"]', '["a", 1]', '["a", "b", "c"]', "[[", "null"]
)
def test_what_is_no_identity_is_none(text: object) -> None:
    assert decode_file_system_id(text) is None
