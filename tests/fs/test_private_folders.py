"""Where small files lie that others look for: never where every user may make names, and never what is not ours."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from job.fs.private_folders import PrivateFolder, choose, open_private, places, read, state_home

pytestmark = pytest.mark.usefixtures("no_leak")


def test_the_runtime_folders_come_before_the_state_folders() -> None:
    environ = {
        "XDG_RUNTIME_DIR": "/run/user/7",
        "RUNTIME_DIRECTORY": "/run/job:/run/more",
        "TRUECOPY_STATE_DIR": "/state",
        "XDG_STATE_HOME": "/home/me/state",
        "TMPDIR": "/tmp",
    }

    found = places(environ)

    assert [place.path for place in found] == [
        "/run/user/7/truecopy",
        "/run/job/truecopy",
        "/state/.private",
        "/home/me/state/truecopy/private",
    ]
    found_in = [(place.persistent, place.outside_trees) for place in found]
    assert found_in == [(False, False)] * 2 + [(True, True), (True, False)]


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY", "TRUECOPY_STATE_DIR", "XDG_STATE_HOME"])
def test_a_relative_path_is_no_place(variable: str) -> None:
    assert places({variable: "relative", "HOME": "/nonexistent"}) == []


def test_a_user_without_a_home_has_no_state_folder() -> None:
    assert state_home({"HOME": "/nonexistent"}) == (None, "the home folder /nonexistent does not exist")


def made(place: PrivateFolder, told: list[str]) -> PrivateFolder | None:
    return choose([place], lambda path, why: told.append(f"{path}: {why}"))


@pytest.fixture
def place(tmp_path: Path) -> PrivateFolder:
    return PrivateFolder(str(tmp_path), "truecopy")


def test_a_folder_is_made_for_us_alone(place: PrivateFolder) -> None:
    told: list[str] = []
    before = os.umask(0)
    try:
        assert made(place, told) == place
    finally:
        os.umask(before)

    assert os.stat(place.path).st_mode & 0o7777 == 0o700
    assert told == []


def test_a_folder_that_others_may_enter_is_closed_by_choosing_it_and_refused_by_reading(place: PrivateFolder) -> None:
    Path(place.path).mkdir()
    Path(place.path).chmod(0o755)
    (Path(place.path) / "file").write_text("planted")

    with pytest.raises(PermissionError, match="is open to others"):
        read(place, "file", most_bytes=10)
    assert made(place, []) == place
    assert os.stat(place.path).st_mode & 0o7777 == 0o700


PLANTS: dict[str, Callable[[Path], object]] = {
    "file": Path.touch,
    "link": lambda path: path.symlink_to("elsewhere"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "fifo": os.mkfifo,
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_taken_name_is_passed_over_and_told_and_the_next_place_is_taken(
    place: PrivateFolder, tmp_path: Path, plant: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    PLANTS[plant](Path(place.path))
    told: list[str] = []

    chosen = choose([place, PrivateFolder(str(tmp_path), "next")], lambda path, why: told.append(f"{path}: {why}"))

    assert chosen == PrivateFolder(str(tmp_path), "next")
    assert told == [f"{place.path}: {place.path} is not a folder"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.needs_root
def test_a_folder_of_another_user_is_passed_over_and_told(place: PrivateFolder) -> None:
    Path(place.path).mkdir()
    os.chown(place.path, 64003, 64003)
    told: list[str] = []

    assert made(place, told) is None
    assert told == [f"{place.path}: {place.path} belongs to user 64003"]


@pytest.mark.needs_root
def test_a_runtime_folder_of_another_user_is_none_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    os.chown(tmp_path, 64003, 64003)  # as su leaves the variables of who called it
    told: list[str] = []

    assert made(PrivateFolder(str(tmp_path), "truecopy"), told) is None
    assert (told, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("base", ["missing", "file", "/proc/self"])
def test_a_place_that_cannot_be_had_is_passed_over_without_a_word(tmp_path: Path, base: str) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []

    assert made(PrivateFolder(str(tmp_path / base), "truecopy"), told) is None
    assert told == []


def test_nothing_is_made_for_who_only_looks(place: PrivateFolder) -> None:
    with pytest.raises(FileNotFoundError):
        open_private(place)

    assert not os.path.lexists(place.path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/etc/passwd", path), os.mkdir])
def test_what_is_no_file_of_ours_is_not_read(place: PrivateFolder, make: Callable[[str], None]) -> None:
    made(place, [])
    make(f"{place.path}/file")

    with pytest.raises((OSError, ValueError)):
        read(place, "file", most_bytes=10)
