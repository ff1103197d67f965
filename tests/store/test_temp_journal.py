"""Notes of the folders in which temps may lie, of several workers in one state folder."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.store.temp_journal import JOURNAL_FILE, TempJournal


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A state folder, open."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def names(tmp_path: Path) -> set[str]:
    return {each.name for each in tmp_path.iterdir()}


def test_what_was_noted_is_told_by_whoever_comes_next(folder: int) -> None:
    notes = TempJournal(folder)
    for path in (b"", b"a/b", b"new\nline", b"\xff"):
        notes.note(path)
    notes.close()

    assert TempJournal(folder).noted() == [b"", b"a/b", b"new\nline", b"\xff"]


def test_a_note_is_on_file_at_once(folder: int) -> None:
    notes = TempJournal(folder)
    notes.note(b"one")

    assert TempJournal(folder).noted() == [b"one"]
    notes.note(b"two")
    assert TempJournal(folder).noted() == [b"one", b"two"]
    notes.close()


def test_where_nothing_was_noted_there_is_no_file(folder: int, tmp_path: Path) -> None:
    notes = TempJournal(folder)
    notes.clear()
    notes.clear_all()

    assert notes.noted() == []
    assert names(tmp_path) == set()


def test_notes_go_on_after_they_were_cleared(folder: int, tmp_path: Path) -> None:
    notes = TempJournal(folder)
    notes.note(b"before")
    notes.clear()
    assert names(tmp_path) == set()

    notes.note(b"after")

    assert notes.noted() == [b"after"]
    notes.clear()


def test_each_worker_forgets_its_own_notes_only(folder: int, tmp_path: Path) -> None:
    workers = [TempJournal(folder, slot) for slot in range(3)]
    for slot, worker in enumerate(workers):
        worker.note(b"of %d" % slot)
    assert names(tmp_path) == {"leftovers", "leftovers-1", "leftovers-2"}

    workers[1].clear()

    assert workers[0].noted() == [b"of 0", b"of 2"]
    for worker in workers:
        worker.close()


def test_all_notes_are_forgotten_at_once_and_nothing_else_is(folder: int, tmp_path: Path) -> None:
    for slot in (0, 1, 12):
        worker = TempJournal(folder, slot)
        worker.note(b"path")
        worker.close()
    for other in ("leftovers-", "leftovers-x", "leftovers-01", "my-leftovers", "leftovers.old", "leftovers-1\n"):
        (tmp_path / other).touch()

    TempJournal(folder).clear_all()

    assert names(tmp_path) == {
        "leftovers-",
        "leftovers-x",
        "leftovers-01",
        "my-leftovers",
        "leftovers.old",
        "leftovers-1\n",
    }


def test_the_notes_of_a_killed_worker_are_told(folder: int) -> None:
    child = os.fork()
    if not child:
        TempJournal(folder, 3).note(b"where it was")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert TempJournal(folder).noted() == [b"where it was"]


def test_a_note_that_was_cut_off_is_left_out(folder: int, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(b"whole\0also whole\0cut o")
    (tmp_path / (JOURNAL_FILE + "-1")).write_bytes(b"cut off, too")

    assert TempJournal(folder).noted() == [b"whole", b"also whole"]


def test_however_much_was_noted_reading_it_has_an_end(folder: int, tmp_path: Path) -> None:
    for name in ("leftovers", "leftovers-1", "leftovers-2"):
        (tmp_path / name).write_bytes(b"aaa\0" * 2)

    assert len(TempJournal(folder).noted(most_bytes=10)) == 2


def test_a_planted_link_is_not_followed(folder: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious\0")
    (tmp_path / "leftovers-1").symlink_to(outside)

    with pytest.raises(OSError, match="symbolic"):
        TempJournal(folder).noted()
    with pytest.raises(OSError, match="symbolic"):
        TempJournal(folder, 1).note(b"path")
    TempJournal(folder).clear_all()

    assert outside.read_bytes() == b"precious\0"
    assert names(tmp_path) == {"outside"}


def test_the_notes_are_private(folder: int, tmp_path: Path) -> None:
    TempJournal(folder).note(b"path")

    assert (tmp_path / JOURNAL_FILE).stat().st_mode & 0o777 == 0o600
