"""History: counts that survive restarts, kills and a second process; a file that is no history is moved aside."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.counts import CycleDetails, FailedEntry, PairHistory, PairProblem, Tally, counts_of, tally_of
from job.core.outcome import Drift, Failure, Result, Skip
from job.events.pair import PairFinished
from job.store.history import History
from job.store.history_schema import FILE_NAME
from tests.traps import ENDLESS, changed, patched, rows_without_end

COPIED = {("files_copied_total", ""): 3, ("files_failed_total", "permission"): 1}


class Told:
    """Remembers what was told as failed."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __call__(self, output: str, error: str) -> None:
        assert output == "history"
        self.sentences.append(error)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def history(tmp_path: Path, told: Told) -> History:
    return History(str(tmp_path), failed=told)


def finished(result: Result = Result.SUCCESS, *, tally: Tally | None = None, at: float = 1000.0) -> PairFinished:
    return PairFinished(
        cycle_id="c1",
        pair="p",
        result=result,
        tally=tally or Tally(),
        duration_seconds=2.5,
        finished_timestamp_seconds=at,
    )


def test_reasons_of_earlier_versions_are_read_by_their_new_names(history: History, tmp_path: Path) -> None:
    deltas = {("files_skipped_total", "not_held"): 2, ("files_skipped_total", "unsupported"): 3}
    refused = CycleDetails(PairProblem("pair_refused", "no_wall", "no Landlock", "set landlock to auto"))
    assert history.add(finished(Result.REFUSED), {**deltas, ("pairs_refused_total", "no_wall"): 1}, refused)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("INSERT INTO last_counts VALUES ('files_skipped_total', 'not_held', 2)")
    database.close()
    kept = history.read()
    assert kept.counts == {("files_skipped_total", "unsupported"): 5, ("pairs_refused_total", "sandbox_unavailable"): 1}
    assert kept.tally.skipped_by == {Skip.UNSUPPORTED: 2}
    assert kept.trouble == PairProblem("pair_refused", "sandbox_unavailable", "no Landlock", "set landlock to auto")


def test_what_was_added_is_read_back(history: History, told: Told) -> None:
    tally = Tally(copied=3, bytes_copied=9, folders=2, skipped_by={Skip.UNCHANGED: 5}, drift_by={Drift.MISSING: 1})

    kept = history.add(finished(tally=tally), COPIED)

    assert kept
    assert history.read() == PairHistory(
        counts=COPIED,
        result=Result.SUCCESS,
        tally=tally,
        duration_seconds=2.5,
        last_attempt_timestamp_seconds=1000.0,
        last_success_timestamp_seconds=1000.0,
        result_since_timestamp_seconds=1000.0,
    )
    assert told.sentences == []


def test_counts_add_up_and_the_last_cycle_replaces_the_one_before(history: History) -> None:
    history.add(finished(tally=Tally(failed_by={Failure.NO_SPACE: 1})), COPIED)

    history.add(finished(tally=Tally(copied=1), at=2000.0), {("files_copied_total", ""): 1})

    read = history.read()
    assert read.counts == {("files_copied_total", ""): 4, ("files_failed_total", "permission"): 1}
    assert read.tally == Tally(copied=1)


@pytest.mark.parametrize("result", [result for result in Result if result is not Result.SUCCESS])
def test_only_a_success_moves_the_last_success(result: Result, history: History) -> None:
    history.add(finished(at=1000.0), {})

    history.add(finished(result, at=2000.0), {})

    read = history.read()
    assert read.result is result
    assert read.last_attempt_timestamp_seconds == 2000.0
    assert read.last_success_timestamp_seconds == 1000.0


def test_counts_outside_a_cycle_are_added_and_the_last_cycle_stays(history: History, told: Told) -> None:
    history.add(finished(Result.PARTIAL), COPIED)

    assert history.count({("output_failures_total", "textfile"): 2, ("files_copied_total", ""): 1})

    kept = history.read()
    assert kept.counts == {**COPIED, ("output_failures_total", "textfile"): 2, ("files_copied_total", ""): 4}
    assert (kept.result, kept.last_attempt_timestamp_seconds) == (Result.PARTIAL, 1000.0)
    assert told.sentences == []


@pytest.mark.parametrize("content", [None, b""])
def test_counts_outside_a_cycle_begin_no_history(
    content: bytes | None, history: History, tmp_path: Path, told: Told
) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    before = list(tmp_path.iterdir())

    assert not history.count({("output_failures_total", "textfile"): 2})

    assert list(tmp_path.iterdir()) == before
    assert told.sentences == []


def test_a_pair_that_never_succeeded_says_so(history: History) -> None:
    history.add(finished(Result.PARTIAL), {})

    assert history.read().last_success_timestamp_seconds == 0


def test_a_missing_folder_is_not_made(tmp_path: Path, told: Told) -> None:
    history = History(str(tmp_path / "state" / "p"), failed=told)

    kept = history.add(finished(), COPIED)

    assert not kept
    assert history.read() == PairHistory()
    assert os.listdir(tmp_path) == []
    assert told.sentences == []


def test_reading_makes_no_file(history: History, tmp_path: Path) -> None:
    assert history.read() == PairHistory()

    assert os.listdir(tmp_path) == []


def test_the_file_is_for_its_owner_only(history: History, tmp_path: Path) -> None:
    history.add(finished(), COPIED)

    assert (tmp_path / FILE_NAME).stat().st_mode & 0o7777 == 0o600
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_folder_with_any_name_works(tmp_path: Path, told: Told) -> None:
    folder = os.fsencode(tmp_path) + b"/a?b#c%20\xff\n&mode=memory"
    os.mkdir(folder)
    history = History(os.fsdecode(folder), failed=told)

    assert history.add(finished(), COPIED)
    assert history.read().counts == COPIED
    assert os.listdir(folder) == [os.fsencode(FILE_NAME)]


ADDING = """
import sys
from job.store.history import History
from job.events.pair import PairFinished
from job.core.outcome import Result
from job.core.counts import Tally

history = History(sys.argv[1], failed=lambda *told: sys.exit(str(told)))
for moment in range(20):
    done = PairFinished(cycle_id="c", pair="p", result=Result.SUCCESS, tally=Tally(copied=1), duration_seconds=1.0,
                        finished_timestamp_seconds=float(moment))
    assert history.add(done, {("files_copied_total", ""): 1})
"""


def test_two_processes_lose_no_counts(history: History, tmp_path: Path) -> None:
    adding = [subprocess.Popen([sys.executable, "-c", ADDING, str(tmp_path)]) for _ in range(3)]

    assert [process.wait(60) for process in adding] == [0, 0, 0]
    assert history.read().counts == {("files_copied_total", ""): 60}


KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("PRAGMA cache_spill = 1")
database.execute("BEGIN IMMEDIATE")
database.executemany("INSERT INTO totals VALUES (?, ?, 1)", [(f"junk{n}", "x" * 500) for n in range(200)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_write_that_was_killed_is_rolled_back(history: History, tmp_path: Path, told: Told) -> None:
    history.add(finished(), COPIED)
    path = tmp_path / FILE_NAME

    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / f"{FILE_NAME}-journal").stat().st_size > 0
    assert history.read().counts == COPIED
    assert history.add(finished(), {("files_copied_total", ""): 1})
    assert told.sentences == []


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:] = os.urandom(len(data) - 100)
    path.write_bytes(data)


def replace_by_text(path: Path) -> None:
    path.write_text("this is no database at all, only a text that somebody put here\n" * 20)


def replace_by_foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photos (name TEXT)")
    database.close()


def make_newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


def drop_a_table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE last_cycle")
    database.close()


def aside(folder: Path) -> Path:
    """Give the one file that was moved aside."""
    (path,) = folder.glob(f"{FILE_NAME}.broken-*Z")
    return path


@pytest.mark.parametrize("damage", [corrupt, replace_by_text, replace_by_foreign, make_newer, drop_a_table])
def test_a_file_that_cannot_be_used_is_moved_aside_and_told(
    damage: object, history: History, tmp_path: Path, told: Told
) -> None:
    path = tmp_path / FILE_NAME
    history.add(finished(), COPIED)
    assert callable(damage)
    damage(path)
    before = path.read_bytes()

    assert history.read() == PairHistory()
    assert history.add(finished(), {("files_copied_total", ""): 1})

    assert history.read().counts == {("files_copied_total", ""): 1}
    assert aside(tmp_path).read_bytes() == before
    assert len(told.sentences) == 2
    assert "counting begins anew" in told.sentences[-1]


def test_wrong_values_are_no_crash(history: History, tmp_path: Path, told: Told) -> None:
    history.add(finished(), COPIED)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE totals SET value = 'many'")
        database.execute("UPDATE last_cycle SET result = 'wonderful'")
    database.close()

    assert history.read() == PairHistory()
    assert len(told.sentences) == 1


@pytest.mark.parametrize("plant", [os.mkdir, os.mkfifo, lambda path: os.symlink(path.parent / "victim", path)])
def test_what_is_no_regular_file_is_refused(plant: object, history: History, tmp_path: Path, told: Told) -> None:
    (tmp_path / "victim").write_text("")
    assert callable(plant)
    plant(tmp_path / FILE_NAME)

    assert history.read() == PairHistory()
    assert not history.add(finished(), COPIED)

    assert len(told.sentences) == 2
    assert (tmp_path / "victim").read_text() == ""


def test_a_lock_that_is_held_too_long_is_told(
    history: History, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.add(finished(), COPIED)
    monkeypatch.setattr("job.store.history_schema._BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    kept = history.add(finished(), COPIED)

    holder.close()
    assert not kept
    assert "locked" in told.sentences[0]
    assert history.read().counts == COPIED


def test_a_hostile_trigger_cannot_reach_outside(history: History, tmp_path: Path) -> None:
    history.add(finished(), COPIED)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON last_counts BEGIN SELECT load_extension('evil'); END")
    database.close()

    history.add(finished(tally=Tally(copied=1)), {("files_copied_total", ""): 1})

    assert aside(tmp_path).exists()


def counters(kinds: list[Skip] | list[Failure] | list[Drift]) -> st.SearchStrategy[dict[object, int]]:
    return st.dictionaries(st.sampled_from(kinds), st.integers(1, 1 << 40))


@given(
    copied=st.integers(0, 1 << 40),
    updated=st.integers(0, 1 << 40),
    skipped=counters(list(Skip)),
    failed=counters(list(Failure)),
    drift=counters(list(Drift)),
)
def test_a_tally_comes_back_from_its_counts(
    copied: int, updated: int, skipped: dict[Skip, int], failed: dict[Failure, int], drift: dict[Drift, int]
) -> None:
    tally = Tally(
        copied=copied,
        updated=updated,
        bytes_copied=copied * 3,
        folders=7,
        skipped_by=skipped,
        failed_by=failed,
        drift_by=drift,
    )

    assert tally_of(counts_of(tally), folders=7) == tally


REFUSED = CycleDetails(trouble=PairProblem("pair_refused", "source_empty", "it is empty", "mount it"))


def test_why_the_last_cycle_did_not_get_through_is_kept_until_one_does(history: History) -> None:
    failing = (FailedEntry(b"a \xff\n", "permission", "Permission denied"),)

    history.add(finished(Result.REFUSED, at=10.0), {}, REFUSED)
    first = history.read()
    history.add(finished(Result.REFUSED, at=20.0), {}, REFUSED)
    second = history.read()
    history.add(finished(Result.PARTIAL, at=30.0), {}, CycleDetails(failing=failing))
    third = history.read()
    history.add(finished(Result.SUCCESS, at=40.0), {})

    assert (first.trouble, first.result_since_timestamp_seconds) == (REFUSED.trouble, 10.0)
    assert (second.trouble, second.result_since_timestamp_seconds) == (REFUSED.trouble, 10.0)
    assert (third.trouble, third.failing, third.result_since_timestamp_seconds) == (None, failing, 30.0)
    assert (history.read().trouble, history.read().failing) == (None, ())


def test_a_history_from_before_there_were_remarks_goes_on(history: History, tmp_path: Path, told: Told) -> None:
    history.add(finished(), COPIED)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("DROP TABLE details")
    database.close()

    old = history.read()
    history.add(finished(Result.REFUSED, at=2000.0), COPIED, REFUSED)

    assert (old.counts, old.trouble, old.result_since_timestamp_seconds) == (COPIED, None, 0.0)
    assert history.read().counts == {key: 2 * count for key, count in COPIED.items()}
    assert history.read().trouble == REFUSED.trouble
    assert told.sentences == []


@pytest.mark.parametrize("text", ["", "{", "7", '["one"]', "[[1, 2]]", '"x"', "null"])
def test_remarks_that_cannot_be_read_are_left_out(history: History, tmp_path: Path, text: str) -> None:
    history.add(finished(Result.REFUSED), COPIED, REFUSED)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE details SET value = ?", (text,))
    database.close()

    read = history.read()

    assert (read.counts, read.result) == (COPIED, Result.REFUSED)


def test_what_happens_while_the_state_folder_is_gone_is_kept_elsewhere_and_added_up(tmp_path: Path, told: Told) -> None:
    state, fallback = tmp_path / "state", tmp_path / "spare"

    def elsewhere(*, make: bool) -> int:
        if make:
            fallback.mkdir(exist_ok=True)
        return os.open(fallback, os.O_RDONLY)

    history = History(str(state), failed=told, fallback=elsewhere)
    assert history.add(finished(Result.REFUSED, at=10.0), {("pairs_refused_total", "mirror_missing"): 1}, REFUSED)
    assert history.read().counts == {("pairs_refused_total", "mirror_missing"): 1}
    assert history.read().trouble == REFUSED.trouble
    state.mkdir()
    assert history.add(finished(at=20.0), COPIED)
    state.rename(tmp_path / "gone")
    assert history.add(finished(Result.REFUSED, at=30.0), {("pairs_refused_total", "mirror_missing"): 2}, REFUSED)
    (tmp_path / "gone").rename(state)

    read = history.read()

    assert read.counts == {**COPIED, ("pairs_refused_total", "mirror_missing"): 3}
    assert (read.result, read.last_success_timestamp_seconds) == (Result.REFUSED, 20.0)
    assert told.sentences == []


# A file that was in other hands ---------------------------------------------------------------------------------------

TRAPPED: dict[str, Callable[[Path], None]] = {
    "a trigger": lambda path: changed(path, "CREATE TRIGGER t BEFORE INSERT ON totals BEGIN SELECT RAISE(IGNORE); END"),
    "a view without an end": lambda path: changed(
        path,
        "DROP TABLE totals",
        f"CREATE VIEW totals AS {ENDLESS} SELECT 'a' AS name, x AS label, x AS value FROM c WHERE x < 0",
    ),
    "one more table": lambda path: changed(path, "CREATE TABLE more (x)"),
    "rows without an end": lambda path: rows_without_end(path, "totals"),
    "remarks without an end": lambda path: rows_without_end(path, "details"),
    "two hundred thousand counts": lambda path: changed(
        path, f"INSERT INTO totals {ENDLESS} SELECT 'many' || x, 'of them', x FROM c LIMIT 200000"
    ),
    "a huge remark": lambda path: changed(path, "UPDATE details SET value = CAST(zeroblob(5000000) AS TEXT)"),
    "a log beside it": lambda path: patched(path, 18, b"\2\2"),
}


@pytest.mark.parametrize("trap", TRAPPED)
def test_a_trap_is_told_when_it_is_read_and_moved_aside_when_it_is_written(
    trap: str, history: History, tmp_path: Path, told: Told
) -> None:
    history.add(finished(), COPIED)
    TRAPPED[trap](tmp_path / FILE_NAME)
    before = (tmp_path / FILE_NAME).read_bytes()
    began = time.monotonic()

    assert history.read() == PairHistory()
    assert ((tmp_path / FILE_NAME).read_bytes(), os.listdir(tmp_path)) == (before, [FILE_NAME])
    assert history.add(finished(), {("files_copied_total", ""): 1})

    assert time.monotonic() - began < 20
    assert history.read().counts == {("files_copied_total", ""): 1}
    assert aside(tmp_path).exists()
    assert len(told.sentences) == 2
