"""What was mounted in a source is remembered exactly, and hostile or torn notes of it are not believed."""

import json
import os
from pathlib import Path

import pytest

from job.core.left_out import NO_MOUNTS, KnownMounts, LeftOut, Why
from job.store import known_mounts

KNOWN = KnownMounts(
    {b"disk": "ext4", b"odd\xff\n": "btrfs subvolume"},
    frozenset({LeftOut(b"proc", Why.KERNEL, "proc"), LeftOut(b".truecopy", Why.OWN, ""), LeftOut(b"o", Why.MOUNT, "")}),
    frozenset({b"disk"}),
)


def test_it_is_remembered_as_it_was(folder: int) -> None:
    known_mounts.save(KNOWN, folder)

    assert known_mounts.load(folder) == KNOWN


def test_nothing_leaves_no_file(folder: int, tmp_path: Path) -> None:
    known_mounts.save(KNOWN, folder)
    known_mounts.save(NO_MOUNTS, folder)

    assert os.listdir(tmp_path) == []
    assert known_mounts.load(folder) == NO_MOUNTS


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"mounted": {"": "ext4"}},
        {"mounted": {"disk": 1}},
        {"mounted": {"disk": "a\nb"}},
        {"mounted": ["disk"]},
        {"left_out": [["a", "another reason", ""]]},
        {"left_out": [["a"]]},
        {"missing": [1]},
    ],
)
def test_what_makes_no_sense_is_not_believed(folder: int, tmp_path: Path, change: dict[str, object]) -> None:
    known_mounts.save(KNOWN, folder)
    place = tmp_path / "mounts.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))

    assert known_mounts.load(folder) == NO_MOUNTS


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_torn_file_is_not_believed(folder: int, tmp_path: Path, text: str) -> None:
    (tmp_path / "mounts.json").write_text(text)

    assert known_mounts.load(folder) == NO_MOUNTS
