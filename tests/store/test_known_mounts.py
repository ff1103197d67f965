"""What was mounted in a source is remembered exactly, and hostile or torn notes of it are not believed."""

import json
import os
from pathlib import Path

import pytest

from job.core.file_systems import NO_MOUNTS, KnownMounts, LeftOut, LeftOutReason
from job.store import temp_journal

KNOWN = KnownMounts(
    {b"disk": "ext4", b"odd\xff\n": "btrfs subvolume"},
    frozenset(
        {
            LeftOut(b"proc", LeftOutReason.KERNEL, "proc"),
            LeftOut(b".truecopy", LeftOutReason.OWN, ""),
            LeftOut(b"o", LeftOutReason.MOUNT, ""),
        }
    ),
    frozenset({b"disk"}),
)


def test_it_is_remembered_as_it_was(folder: int) -> None:
    temp_journal.save_known_mounts(KNOWN, folder)

    assert temp_journal.load_known_mounts(folder) == KNOWN


def test_nothing_leaves_no_file(folder: int, tmp_path: Path) -> None:
    temp_journal.save_known_mounts(KNOWN, folder)
    temp_journal.save_known_mounts(NO_MOUNTS, folder)

    assert os.listdir(tmp_path) == []
    assert temp_journal.load_known_mounts(folder) == NO_MOUNTS


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
    temp_journal.save_known_mounts(KNOWN, folder)
    place = tmp_path / "mounts.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))

    assert temp_journal.load_known_mounts(folder) == NO_MOUNTS


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_torn_file_is_not_believed(folder: int, tmp_path: Path, text: str) -> None:
    (tmp_path / "mounts.json").write_text(text)

    assert temp_journal.load_known_mounts(folder) == NO_MOUNTS
