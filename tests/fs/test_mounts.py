"""Where folders really lie, told by the kernel's table of mounts."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from job.fs import mounts
from tests.conftest import FOLDER

Bind = Callable[[Path, Path], None]


def unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def bind() -> Iterator[Bind]:
    """Mount a folder at another place for the time of a test."""
    with ExitStack() as undo:

        def mount(what: Path, where: Path) -> None:
            subprocess.run(["mount", "--bind", what, where], check=True)
            undo.callback(unmount, where)

        yield mount


@pytest.fixture
def door() -> Iterator[Callable[[Path], int]]:
    """Open folders, closed after the test."""
    with ExitStack() as undo:

        def opened(path: Path) -> int:
            descriptor = os.open(path, FOLDER)
            undo.callback(os.close, descriptor)
            return descriptor

        yield opened


Door = Callable[[Path], int]


def test_a_folder_lies_within_itself_and_its_ancestors_only(tmp_path: Path, door: Door) -> None:
    for name in ("outer/inner", "outer-not"):
        (tmp_path / name).mkdir(parents=True)
    outer, inner, other = (door(tmp_path / name) for name in ("outer", "outer/inner", "outer-not"))

    assert mounts.is_within(outer, outer)
    assert mounts.is_within(inner, outer)
    assert not mounts.is_within(outer, inner)
    assert not mounts.is_within(other, outer)


@pytest.mark.needs_root
@pytest.mark.needs_tool("mount")
@pytest.mark.parametrize("name", ["plain", "with space", "tab\there", "line\nend", "back\\slash", "\\040", "dir:x"])
def test_a_folder_is_recognised_through_a_bind_mount(tmp_path: Path, bind: Bind, door: Door, name: str) -> None:
    inner, elsewhere = tmp_path / "source" / name, tmp_path / f"mounted {name}"
    inner.mkdir(parents=True)
    elsewhere.mkdir()
    (inner / "deeper").mkdir()
    bind(inner, elsewhere)
    source, mounted = door(tmp_path / "source"), door(elsewhere)

    assert mounts.is_within(mounted, source)
    assert mounts.is_within(door(elsewhere / "deeper"), source)
    assert not mounts.is_within(source, mounted)
    assert mounts.location_of(mounted) == mounts.location_of(door(inner))


@pytest.mark.needs_root
@pytest.mark.needs_tool("mount")
def test_the_mount_on_top_is_the_one_that_counts(tmp_path: Path, bind: Bind, door: Door) -> None:
    for name in ("first", "second", "place"):
        (tmp_path / name).mkdir()
    bind(tmp_path / "first", tmp_path / "place")
    bind(tmp_path / "second", tmp_path / "place")

    place = door(tmp_path / "place")

    assert mounts.is_within(place, door(tmp_path / "second"))
    assert not mounts.is_within(place, door(tmp_path / "first"))


@pytest.mark.needs_root
@pytest.mark.needs_tool("mount")
def test_equal_paths_on_two_file_systems_are_two_places(tmp_path: Path, door: Door) -> None:
    roots = tmp_path / "one", tmp_path / "two"
    with ExitStack() as undo:
        for root in roots:
            root.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
            undo.callback(unmount, root)
            (root / "same").mkdir()
        one, two = (door(root / "same") for root in roots)

        assert not mounts.is_within(one, two)
        assert mounts.file_system_type(os.fstat(one).st_dev) == "tmpfs"


def test_the_type_of_the_file_system_agrees_with_stat(tmp_path: Path) -> None:
    told = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", tmp_path], capture_output=True, text=True, check=True)

    assert mounts.file_system_type(tmp_path.stat().st_dev) == told.stdout.strip()


def test_an_unknown_device_has_no_type() -> None:
    assert mounts.file_system_type(os.makedev(4000, 4000)) == ""


def test_a_folder_that_was_removed_lies_within_none(tmp_path: Path, door: Door) -> None:
    (tmp_path / "gone").mkdir()
    gone = door(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (tmp_path / "other").mkdir()

    assert not mounts.is_within(gone, door(tmp_path / "other"))
