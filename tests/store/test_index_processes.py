"""One process writes the index, others look into it: each in a real process, forked and spawned."""

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from job.core.record import FolderSummary
from job.store.index import Index
from job.store.index_schema import FILE_NAME
from tests.core import samples

Answer = tuple[FolderSummary | None, str]
Reader = Callable[[str], Answer]
PATIENCE_S = 60


@pytest.fixture(params=["fork", "spawn"])
def reader(request: pytest.FixtureRequest, state: Path) -> Iterator[Reader]:
    """A worker that opens the index while another process has it open, and looks whenever it is asked."""
    context = multiprocessing.get_context(request.param)
    ours, theirs = context.Pipe()
    process = context.Process(target=look_when_asked, args=(str(state), theirs))

    def ask(what: str) -> Answer:
        if process.pid is None:
            process.start()
        ours.send(what)
        assert ours.poll(PATIENCE_S)
        answer: Answer = ours.recv()
        return answer

    yield ask
    if process.exitcode is None:
        ours.send("end")
        process.join(PATIENCE_S)
    assert process.exitcode == 0


def look_when_asked(state: str, asked: Connection) -> None:
    """Tell of `folder`, at once or in a transaction that is kept until `let go`."""
    index = Index.open_read_only(state)
    assert index is not None
    read_transaction = index.read_transaction()
    with closing(index):
        while (what := asked.recv()) != "end":
            if what == "hold":
                read_transaction.__enter__()
            asked.send((index.summary(b"folder"), index.rows(b"folder")))
            if what == "let go":
                read_transaction.__exit__(None, None, None)
    asked.send((None, ""))


def test_a_worker_looks_into_an_index_that_another_process_has_open(state: Path, reader: Reader) -> None:
    with closing(Index.open(str(state))) as index:
        assert index.summary(b"folder") is not None

        assert reader("now") == (samples.a_finished_folder().summary, samples.rows_of().rows)
        assert sorted(os.listdir(state)) == [FILE_NAME]


def test_a_worker_sees_what_was_committed_since(state: Path, reader: Reader) -> None:
    newer = samples.a_finished_folder(entries=7), samples.rows_of(inode=70)
    with closing(Index.open(str(state))) as index:
        reader("now")

        index.commit([newer[0]], [newer[1]])

        assert reader("now") == (newer[0].summary, newer[1].rows)


def test_what_a_worker_looks_at_stands_still_and_a_commit_waits_for_it(state: Path, reader: Reader) -> None:
    before = samples.a_finished_folder().summary, samples.rows_of().rows
    with closing(Index.open(str(state))) as index:
        assert reader("hold") == before
        index._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(OSError, match="locked"):
            index.commit([samples.a_finished_folder(entries=7)], [])
        assert index.torn == ""

        index._db.execute(f"PRAGMA busy_timeout = {PATIENCE_S * 1000}")
        letting_go = threading.Timer(0.1, reader, ["let go"])
        letting_go.start()
        index.commit([samples.a_finished_folder(entries=7)], [])
        letting_go.join()

        after = reader("now")[0]
        assert after is not None
        assert after.entries == 7


def test_a_worker_that_comes_and_goes_leaves_the_locks_of_the_other_alone(state: Path, reader: Reader) -> None:
    with closing(Index.open(str(state))) as index:
        reader("now")
        other = sqlite3.connect(state / FILE_NAME, timeout=0, isolation_level=None)
        with closing(other), index.read_transaction():
            assert index.summary(b"folder") is not None
            reader("end")

            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM folder")


@pytest.fixture
def cut_off(state: Path) -> Path:
    """A state folder whose index was being written when its writer was killed: half of it is in the file."""
    whole = (state / FILE_NAME).read_bytes()
    child = os.fork()
    if not child:
        with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN")
            connection.execute("DELETE FROM folder")
            for number in range(1000):
                connection.execute("INSERT INTO records VALUES (?, 0, ?)", (b"%d" % number, "x" * 1000))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (state / (FILE_NAME + "-journal")).exists()
    assert (state / FILE_NAME).read_bytes() != whole
    return state


@pytest.mark.parametrize("open_", [Index.open, Index.open_read_only])
def test_a_commit_that_a_kill_cut_off_is_rolled_back_by_whoever_looks_first(
    cut_off: Path, open_: Callable[[str], Index]
) -> None:
    with closing(open_(str(cut_off))) as index:
        assert index.summary(b"folder") == samples.a_finished_folder().summary
        assert index.rows(b"folder") == samples.rows_of().rows
        assert index.rows(b"7") == ""

    assert os.listdir(cut_off) == [FILE_NAME]


# Looking in one transaction -------------------------------------------------------------------------------------------


def test_after_looking_there_is_no_lock_left_whatever_ended_it(state: Path) -> None:
    with closing(Index.open(str(state))) as index, closing(Index.open(str(state))) as other:
        with suppress(RuntimeError), index.read_transaction():
            index.summary(b"folder")
            raise RuntimeError("in the middle")

        other.commit([samples.a_finished_folder(entries=7)], [])
        with index.read_transaction():
            found = index.summary(b"folder")

        assert found is not None
        assert found.entries == 7


def test_looking_at_an_index_that_somebody_locks_is_an_error_and_no_damage(state: Path) -> None:
    with closing(Index.open(str(state))) as index, closing(sqlite3.connect(state / FILE_NAME)) as other:
        index._db.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(OSError, match="locked"), index.read_transaction():
            index.summary(b"folder")

        assert index.torn == ""


def test_damage_met_in_looking_is_noted_and_ends_nothing(state: Path) -> None:
    with closing(Index.open(str(state))) as index:
        with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as stranger:
            stranger.execute("DROP TABLE folder")

        with index.read_transaction():
            assert index.summary(b"folder") is None
            assert index.rows(b"folder") != ""

        assert "folder" in index.torn
