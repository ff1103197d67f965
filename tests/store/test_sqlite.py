"""SQLite files are opened in one open folder, wherever that goes, and nothing else is read, written or deleted."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.store.sqlite import Connection, HostileFileError, connect, disable_link_resolution, make
from tests.faults.tampering import journal_that_names

NAME = "some.sqlite3"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a database in it."""
    (tmp_path / "home").mkdir()
    with closing(sqlite3.connect(tmp_path / "home" / NAME)) as database, database:
        database.execute("CREATE TABLE kept (value TEXT)")
    return tmp_path / "home"


@pytest.fixture
def folder(home: Path) -> Iterator[int]:
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def opened(folder: int) -> Iterator[Connection]:
    with closing(connect(NAME, folder, "rw", timeout=1)) as connection:
        yield connection


by_descriptor = pytest.mark.skipif(not disable_link_resolution(), reason="this Python has a SQLite of its own inside")


@by_descriptor
def test_what_is_written_stays_in_the_folder_that_was_opened_wherever_it_goes(
    home: Path, opened: Connection, tmp_path: Path
) -> None:
    home.rename(tmp_path / "moved")
    home.mkdir()
    (home / NAME).write_bytes((tmp_path / "moved" / NAME).read_bytes())
    before = (home / NAME).stat()

    opened.execute("BEGIN IMMEDIATE")
    opened.execute("INSERT INTO kept VALUES ('ours')")
    during = [set(os.listdir(each)) for each in (home, tmp_path / "moved")]
    opened.execute("COMMIT")

    assert during == [{NAME}, {NAME, f"{NAME}-journal"}]
    assert (home / NAME).stat() == before
    with closing(sqlite3.connect(tmp_path / "moved" / NAME)) as database:
        assert database.execute("SELECT value FROM kept").fetchall() == [("ours",)]


@by_descriptor
def test_a_journal_left_in_the_folder_is_played_back_wherever_the_folder_goes(
    home: Path, folder: int, tmp_path: Path
) -> None:
    """The one that lies where the folder was is somebody else's."""
    home.rename(tmp_path / "moved")
    home.mkdir()
    (home / f"{NAME}-journal").write_bytes(journal_that_names(tmp_path / "victim", tmp_path / "moved" / NAME))
    (tmp_path / "victim").write_text("precious")

    with closing(connect(NAME, folder, "rw", timeout=1)) as connection:
        connection.execute("INSERT INTO kept VALUES ('ours')")

    assert (tmp_path / "victim").read_text() == "precious"


def test_sqlite_itself_would_delete_what_a_hostile_journal_names(home: Path, tmp_path: Path) -> None:
    """So that the next test is about something."""
    (tmp_path / "victim").write_text("precious")
    (home / f"{NAME}-journal").write_bytes(journal_that_names(tmp_path / "victim", home / NAME))

    with closing(sqlite3.connect(home / NAME)) as database:
        database.execute("SELECT * FROM kept").fetchall()

    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_journal_that_names_another_file_is_not_played_back(
    home: Path, folder: int, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "victim").write_text("precious")
    (home / f"{NAME}-journal").write_bytes(journal_that_names(tmp_path / "victim", home / NAME))

    with pytest.raises(HostileFileError):
        connect(NAME, folder, mode, timeout=1)

    assert (tmp_path / "victim").read_text() == "precious"


PLANTS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "link": lambda place: place.symlink_to("elsewhere"),
    "folder": lambda place: place.mkdir(),
}


@pytest.mark.parametrize("mode", ["rw", "ro"])
@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("plant", PLANTS)
def test_whatever_is_no_regular_file_is_an_error_and_never_waited_for(
    home: Path, folder: int, mode: str, suffix: str, plant: str
) -> None:
    place = home / (NAME + suffix)
    place.unlink(missing_ok=True)
    PLANTS[plant](place)

    with pytest.raises(OSError, match="not a regular file"):
        connect(NAME, folder, mode, timeout=1)


@pytest.mark.needs_root
@pytest.mark.parametrize("suffix", ["", "-journal"])
def test_a_file_of_somebody_else_is_an_error(home: Path, folder: int, suffix: str) -> None:
    (home / (NAME + suffix)).touch()
    os.chown(home / (NAME + suffix), 4711, 4711)

    with pytest.raises(PermissionError, match="4711"):
        connect(NAME, folder, "rw", timeout=1)


def test_a_file_is_made_for_us_alone_and_one_that_is_there_stays(home: Path, folder: int) -> None:
    before = (home / NAME).read_bytes()

    make(NAME, folder)
    make("fresh", folder)

    assert (home / NAME).read_bytes() == before
    assert (home / "fresh").stat().st_mode & 0o777 == 0o600


def test_closing_gives_everything_back(folder: int) -> None:
    before = os.listdir("/proc/self/fd")

    connection = connect(NAME, folder, "rw", timeout=1)
    connection.execute("SELECT * FROM kept").fetchall()
    connection.close()
    connection.close()

    assert os.listdir("/proc/self/fd") == before
