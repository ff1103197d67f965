"""What a killed run left where an entry is moved to the versions before its name is given to another."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.core.versions import Moment
from job.engine.versions.interrupted import fulfil, intent_to_replace, is_intent, sweep_versions
from job.store.temp_journal import TempJournal
from tests.engine.test_versions import kept
from tests.engine.workshop import Workshop, assert_mirrored

TEMP = b".truecopy-tmp-01234567-1"
MOMENT = Moment(1_796_000_400)
VERSION = b".truecopy/versions/" + MOMENT.name + b"/folder/file"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[int]:
    """An open mirror with a folder and one for its versions."""
    for path in (b"folder", os.path.dirname(VERSION)):
        (tmp_path / os.fsdecode(path)).mkdir(parents=True)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def intent(tmp_path: Path) -> bytes:
    temp = tmp_path / "folder" / os.fsdecode(TEMP)
    return intent_to_replace(VERSION, TEMP, temp.stat().st_ino if temp.exists() else 1)


def state(tmp_path: Path) -> dict[str, str]:
    """Give what has the name, the temporary name and the place among the versions."""
    places = {"name": "folder/file", "temp": "folder/" + os.fsdecode(TEMP), "version": os.fsdecode(VERSION)}
    return {what: (tmp_path / path).read_text() for what, path in places.items() if (tmp_path / path).exists()}


def make(tmp_path: Path, **contents: str) -> None:
    places = {"name": "folder/file", "temp": "folder/" + os.fsdecode(TEMP), "version": os.fsdecode(VERSION)}
    for what, content in contents.items():
        (tmp_path / places[what]).write_text(content)


@pytest.mark.parametrize(
    ("left", "wanted"),
    [
        ({"name": "old", "temp": "new"}, {"name": "old", "temp": "new"}),
        ({"version": "old", "temp": "new"}, {"version": "old", "name": "new"}),
        ({"version": "old"}, {"name": "old"}),
        ({"version": "old", "name": "new"}, {"version": "old", "name": "new"}),
        ({}, {}),
    ],
)
def test_a_name_is_never_left_without_an_entry(
    tmp_path: Path, mirror: int, left: dict[str, str], wanted: dict[str, str]
) -> None:
    make(tmp_path, **left)
    try:
        fulfil(intent(tmp_path), mirror)
    except FileNotFoundError:
        assert left == {}

    assert state(tmp_path) == wanted


def test_a_temp_of_another_run_does_not_get_the_name(tmp_path: Path, mirror: int) -> None:
    make(tmp_path, version="old", temp="somebody's")
    fulfil(intent_to_replace(VERSION, TEMP, 1), mirror)

    assert state(tmp_path) == {"name": "old", "temp": "somebody's"}


@pytest.mark.parametrize(
    "noted",
    [
        b"folder//name/1",
        b".truecopy/versions/../folder/file//" + TEMP + b"/1",
        VERSION + b"//file/1",
        VERSION + b"//" + TEMP + b"/no number",
        VERSION + b"//",
        VERSION + b"/../../x//" + TEMP + b"/1",
    ],
)
def test_an_entry_that_no_run_writes_does_nothing(tmp_path: Path, mirror: int, noted: bytes) -> None:
    make(tmp_path, version="old", temp="new")
    assert is_intent(noted)

    with pytest.raises((OSError, ValueError)):
        fulfil(noted, mirror)

    assert state(tmp_path) == {"version": "old", "temp": "new"}


@pytest.mark.parametrize("path", [b".truecopy/lock", b".truecopy/versions", b"folder", b".truecopy/versions/x/folder"])
def test_only_folders_of_versions_are_swept(mirror: int, path: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a path of a version|not enough values"):
        sweep_versions(path, mirror)


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_the_next_run_ends_what_a_killed_one_began(shop: Workshop, step: str) -> None:
    path = shop.write("folder/file", "old")
    shop.cycle()
    path.write_text("new!")
    live, temp = shop.mirror / "folder/file", shop.mirror / "folder" / os.fsdecode(TEMP)
    version = shop.mirror / os.fsdecode(VERSION)
    version.parent.mkdir(parents=True)
    temp.write_text("new!")
    descriptor = os.open(shop.state, os.O_RDONLY)
    journal = TempJournal(descriptor)
    journal.note(b"folder")
    journal.note(intent_to_replace(VERSION, TEMP, temp.stat().st_ino))
    journal.sync()
    journal.close()
    os.close(descriptor)
    if step != "before":
        live.rename(version)
    if step == "after":
        temp.rename(live)

    told = shop.cycle()

    assert not told.failed
    assert_mirrored(shop)
    assert shop.temps == []
    assert "old" in kept(shop)["folder/file"]
