"""A name that stands for something else than before, in every direction; a folder that gives way is kept."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from job.core.outcome import Failure, Result
from job.engine.copy import batch
from job.events.pair import FolderRetired
from tests.engine.workshop import Workshop, assert_mirrored, with_sync

Maker = Callable[[Path], object]


def a_folder_with_files(path: Path) -> None:
    (path / "deeper").mkdir(parents=True)
    (path / "file").write_text("in a folder")
    (path / "deeper/file").write_text("deeper in a folder")


MAKERS: dict[str, Maker] = {
    "file": lambda path: path.write_text("a file"),
    "link": lambda path: path.symlink_to("elsewhere"),
    "empty folder": lambda path: path.mkdir(),
    "full folder": a_folder_with_files,
}


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


TURNS = [(before, after) for before in MAKERS for after in MAKERS if before != after]


@pytest.mark.parametrize(("before", "after"), TURNS)
def test_what_a_name_stands_for_is_followed(shop: Workshop, before: str, after: str) -> None:
    shop.write("other")
    name = shop.source / "name"
    MAKERS[before](name)
    shop.cycle()
    clear(name)
    MAKERS[after](name)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert told.drift == {}
    assert_mirrored(shop)
    assert shop.cycle().tally.copied == 0


@pytest.mark.parametrize("after", ["file", "link"])
def test_a_folder_that_gives_way_is_kept_whole_among_the_versions(shop: Workshop, after: str) -> None:
    name = shop.source / "above/name"
    a_folder_with_files(name)
    shop.cycle()
    (shop.mirror / "above/name/stranger").write_text("somebody's")
    clear(name)
    MAKERS[after](name)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    [event] = told.of(FolderRetired)
    assert event.path == b"above/name"
    assert (shop.mirror / event.version / "file").read_text() == "in a folder"
    kept = {"above", "above/name", *(f"above/name/{each}" for each in ("file", "stranger", "deeper", "deeper/file"))}
    assert set(shop.retired) == kept
    assert_mirrored(shop)
    assert shop.temps == []


def test_the_first_versions_leave_the_roots_times_as_they_are(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    # With the state elsewhere the folder for them is made in mid-run; the root is finished by then.
    monkeypatch.setattr(batch, "MOST_ENTRIES", 1)
    shop.options["state_dir"] = str(shop.base / "state")
    a_folder_with_files(shop.source / "above/name")
    shop.cycle()
    clear(shop.source / "above/name")
    (shop.source / "above/name").write_text("a file")

    told = shop.cycle()

    assert len(told.of(FolderRetired)) == 1
    assert_mirrored(shop)


def test_what_is_retired_twice_at_one_moment_is_kept_twice(shop: Workshop) -> None:
    clock = shop.now_ns()
    shop.now_ns = lambda: clock  # type: ignore[method-assign]
    for _ in range(2):
        a_folder_with_files(shop.source / "name")
        shop.cycle()
        clear(shop.source / "name")
        (shop.source / "name").write_text("a file")
        shop.cycle()
        (shop.source / "name").unlink()

    places = sorted((shop.state / "versions").iterdir())
    kept = [each if (each := place / "name").is_file() else each / "file" for place in places]
    assert [path.read_text() for path in kept] == ["in a folder", "a file", "in a folder"]


@pytest.mark.parametrize("after", ["file", "link"])
def test_a_folder_that_comes_back_is_as_new(shop: Workshop, after: str) -> None:
    name = shop.source / "name"
    a_folder_with_files(name)
    shop.cycle()
    clear(name)
    MAKERS[after](name)
    shop.cycle()
    clear(name)
    a_folder_with_files(name)

    told = shop.cycle()

    assert (told.result, told.drift) == (Result.SUCCESS, {})
    assert_mirrored(shop)


def test_a_folder_that_cannot_be_retired_stays_and_its_successor_fails(shop: Workshop) -> None:
    a_folder_with_files(shop.source / "name")
    shop.cycle()
    clear(shop.source / "name")
    (shop.source / "name").write_text("a file")
    (shop.state / "versions").write_text("somebody's")

    told = shop.cycle()

    assert told.failed == {b"name": Failure.TYPE_CONFLICT}
    assert (shop.mirror / "name/deeper/file").exists()
    assert shop.temps == []


@pytest.mark.parametrize("other", ["link", "empty folder", "full folder"])
def test_there_and_back_again_is_no_drift(shop: Workshop, other: str) -> None:
    name = shop.source / "name"
    for maker in ("file", other, "file"):
        if name.exists() or name.is_symlink():
            clear(name)
        MAKERS[maker](name)
        told = shop.cycle()
        if maker == "file":
            assert told.drift == {}


def test_a_special_file_takes_no_ones_place(shop: Workshop) -> None:
    path = shop.write("name")
    shop.cycle()
    path.unlink()
    os.mkfifo(path)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert (shop.mirror / "name").read_text() == "content"
    assert (told.tally.skipped, told.tally.entries) == (1, 1)


def test_a_special_file_in_the_mirror_is_replaced_without_being_opened(shop: Workshop) -> None:
    shop.write("name")
    os.mkfifo(shop.mirror / "name")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert_mirrored(shop)


def test_a_link_in_the_mirror_that_stands_for_a_folder_is_replaced_and_not_followed(
    shop: Workshop, tmp_path: Path
) -> None:
    shop.write("sub/file")
    (tmp_path / "outside").mkdir()
    (shop.mirror / "sub").symlink_to(tmp_path / "outside")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert list((tmp_path / "outside").iterdir()) == []
    assert_mirrored(shop)


def test_a_folder_that_is_in_the_mirror_already_is_not_counted_as_the_file_it_was(shop: Workshop) -> None:
    path = shop.write("name")
    shop.write("other")
    shop.cycle()
    path.unlink()
    path.mkdir()
    (shop.mirror / "name").unlink()
    (shop.mirror / "name").mkdir()

    told = shop.cycle()

    assert told.tally.entries == 1
    assert_mirrored(shop)


def test_what_gave_way_to_a_folder_is_kept_even_if_a_sync_fails(shop: Workshop) -> None:
    path = shop.write("name")
    shop.cycle()
    path.unlink()
    path.mkdir()

    def fail() -> None:
        raise OSError(5, "Input/output error")

    failed = shop.cycle(with_sync(fail))
    kept = shop.retired["name"].read_text()
    told = shop.cycle()

    assert failed.result is Result.PARTIAL
    assert kept == "content"
    assert told.result is Result.SUCCESS
    assert shop.temps == []
    assert_mirrored(shop)
