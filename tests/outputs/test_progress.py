"""Progress: bars and a summary on a terminal, nothing anywhere else, names shown as they are."""

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from job.core.counts import Tally
from job.core.entry import Kind, printable
from job.core.outcome import Drift, Failure, Refusal, Result, Skip
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    DriftFound,
    FileCopied,
    FileFailed,
    IndexRebuilt,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
)
from job.events.service import CycleCrashed, CycleFinished, CycleStarted, OutputFailed, RunDisabled
from job.outputs.progress import MOST_FAILURES, Bars, LineBars, ProgressDisplay

PAIR = {"cycle_id": "c", "pair": "music"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal and remembers what it was sent."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")


def failed(path: bytes, error: str = "denied") -> FileFailed:
    return FileFailed(**PAIR, path=path, kind=Kind.FILE, reason=Failure.PERMISSION, error=error)


def cycle(*events: Event, result: Result = Result.SUCCESS, tally: Tally | None = None) -> Iterator[Event]:
    counted = tally or Tally()
    yield CycleStarted(cycle_id="c", pairs=("music",))
    yield from events
    yield PairFinished(**PAIR, result=result, tally=counted, duration_seconds=75.0, finished_timestamp_seconds=1000.0)
    yield CycleFinished(cycle_id="c", result=result, tally=counted, duration_seconds=75.0)


def show(events: Iterator[Event] | list[Event], terminal: io.StringIO | None = None) -> list[str]:
    terminal = terminal or Terminal()
    progress = ProgressDisplay(terminal)
    for event in events:
        progress(event)
    progress.close()
    return terminal.getvalue().splitlines()


def started() -> PairStarted:
    return PairStarted(**PAIR, source="/s", mirror="/m", audit=False, brake=True)


def test_a_cycle_ends_with_a_summary_of_each_pair() -> None:
    tally = Tally(
        copied=1200,
        updated=1,
        bytes_copied=2_500_000,
        skipped_by={Skip.UNCHANGED: 7, Skip.SPECIAL_FILE: 2},
        drift_by={Drift.CONTENT: 3},
    )

    lines = show(cycle(started(), BatchCommitted(**PAIR, tally=tally), tally=tally))

    assert lines == [
        "music: success in 1 min 15 s",
        "  1,200 copied (2.5 MB), 1 updated, 7 unchanged, 0 failed, 2 passed over, 3 changed by others and healed",
    ]


def test_failed_entries_are_named_up_to_a_limit() -> None:
    failures = [failed(b"file %d" % number) for number in range(MOST_FAILURES + 1500)]
    tally = Tally(failed_by={Failure.PERMISSION: len(failures)})

    lines = show(cycle(*failures, result=Result.PARTIAL, tally=tally))

    assert lines[0] == "music: partial in 1 min 15 s"
    assert lines[2] == "  failed file 0: permission: denied"
    assert len(lines) == 2 + MOST_FAILURES + 1
    assert lines[-1] == "  and 1,500 more: see the log"


@pytest.mark.parametrize(
    ("event", "result"),
    [
        (
            PairRefused(**PAIR, reason=Refusal.SOURCE_MISSING, error="/s is missing", hint="Mount it."),
            Result.REFUSED,
        ),
        (PairBusy(**PAIR, error="/s is missing", hint="Mount it."), Result.BUSY),
        (PairFailed(**PAIR, error="/s is missing", hint="Mount it."), Result.FAILED),
    ],
)
def test_a_pair_that_was_not_done_says_why_and_what_next(event: Event, result: Result) -> None:
    assert show(cycle(event, result=result)) == [
        f"music: {result} in 1 min 15 s",
        "  /s is missing",
        "  hint: Mount it.",
    ]


@pytest.mark.parametrize("name", ["[red]x", "[/]", "[link=http://e]a[/link]", ":smile:", "a\\[b]", "{task.speed}"])
def test_markup_in_a_name_stays_as_it_is(name: str) -> None:
    lines = show(cycle(failed(name.encode(), f"about {name}"), result=Result.PARTIAL))

    assert f"  failed {name}: permission: about {name}" in lines


@given(path=st.binary(min_size=1, max_size=40), error=st.text(max_size=40))
def test_any_name_and_any_error_stay_on_their_line(path: bytes, error: str) -> None:
    lines = show(cycle(failed(path, error), result=Result.PARTIAL))

    assert len(lines) == 3
    assert lines[2].startswith(f"  failed {printable(path)}: permission: ")
    assert all(line.isprintable() for line in lines)


def test_a_terminal_of_another_encoding_gets_escapes() -> None:
    terminal = Terminal()
    terminal.encoding = "ascii"

    lines = show(cycle(failed("é".encode()), result=Result.PARTIAL), terminal)

    assert "  failed \\xe9: permission: denied" in lines


def test_warnings_that_would_only_be_in_the_log_are_shown() -> None:
    lines = show(
        [
            IndexRebuilt(**PAIR, reason="it was torn"),
            OutputFailed(output="log_file", error="full"),
            RunDisabled(config="c.json", run_enabled="N"),
            DriftFound(**PAIR, path=b"many", kind=Drift.MISSING),
            CycleCrashed(error="boom", traceback=("Traceback",)),
        ]
    )

    assert lines == [
        "The index is rebuilt, contents are compared: it was torn",
        "Output log_file failed, the cycle goes on: full",
        "Nothing was done: run_enabled is 'N' in c.json, only 'Y' runs",
        "The cycle ended by an unexpected error, please report it: boom",
    ]


def test_a_pair_without_an_end_is_told_as_unfinished() -> None:
    events: list[Event] = [
        CycleStarted(cycle_id="c", pairs=("music",)),
        CycleFinished(cycle_id="c", result=Result.FAILED, tally=Tally(), duration_seconds=1.0),
    ]

    assert show(events)[0] == "music: not finished"


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()

    show(cycle(started(), failed(b"a"), result=Result.PARTIAL), stream)

    assert stream.getvalue() == ""
    assert not ProgressDisplay(stream).shown
    assert ProgressDisplay(Terminal()).shown


ON_A_TERMINAL = """
import sys, time
from job.outputs.progress import ProgressDisplay
from job.core.entry import Kind
from job.events.pair import *
from job.events.service import *
from job.core.outcome import Failure, Result
from job.core.counts import Tally

progress = ProgressDisplay(sys.stdout)
pair = {"cycle_id": "c", "pair": "music"}
progress(CycleStarted(cycle_id="c", pairs=("music",)))
progress(PairStarted(**pair, source="/s", mirror="/m", audit=False, brake=True))
progress(Progressed(**pair, phase="scan", entries=1234))
time.sleep(0.3)
for number in range(4):
    progress(Progressed(**pair, phase="copy", entries=number, entries_total=8, bytes=number * 1000, bytes_total=8000))
    time.sleep(0.15)
progress(FileFailed(**pair, path=b"[red]x\\x1b[2J", kind=Kind.FILE, reason=Failure.PERMISSION, error="denied"))
tally = Tally(copied=7, bytes_copied=7000, failed_by={Failure.PERMISSION: 1})
progress(BatchCommitted(**pair, tally=tally))
progress(PairFinished(**pair, result=Result.PARTIAL, tally=tally, duration_seconds=1.0, finished_timestamp_seconds=1.0))
progress(CycleFinished(cycle_id="c", result=Result.PARTIAL, tally=tally, duration_seconds=1.0))
"""


def on_a_terminal(script: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass  # how a terminal says that the other side is gone
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_real_terminal_shows_phase_files_bytes_and_the_summary() -> None:
    shown = on_a_terminal(ON_A_TERMINAL)

    assert "music: scanning" in shown
    assert "1,234 files" in shown
    assert "music: copying" in shown
    assert "3 of 8 files" in shown
    assert "3.0 kB of 8.0 kB" in shown
    assert "failed [red]x\\x1b[2J: permission: denied" in shown
    assert "7 copied (7.0 kB)" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("total", [0, 4_800_000])
def test_bars_fit_any_terminal_with_what_matters_most(
    columns: int, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=Terminal(), force_terminal=True, width=columns, height=20)
    bars = Bars(console)
    task = bars.begin("photos-of-the-whole-family-of-all-these-years")
    bars.move(task, "copying", (4_801, total), (250_500_000, 1_000 * total))

    with console.capture() as shown:
        for each in bars.get_renderables():
            console.print(each)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.get().splitlines()]

    assert len(lines) == (1 if columns >= 110 else 2)
    assert max(map(len, lines)) <= columns
    assert ": copying " in lines[0]
    assert (f"4,801 of {total:,} files" if total else "4,801 files") in lines[-1]
    if columns >= 60:
        assert "250.5 MB" in lines[-1]


def test_a_comparison_shows_bars_on_its_terminal_and_its_lines_elsewhere() -> None:
    terminal, output = Terminal(), io.StringIO()
    moments = iter(range(100))
    bars = LineBars(terminal, "music", (2, 0), output, doing="comparing", monotonic=lambda: float(next(moments)))
    bars.notice(1, 10)
    bars.print("content [red]x")
    bars.notice(2, 10)  # more than was expected
    bars.close()

    assert output.getvalue() == "content [red]x\n"


def test_copied_files_print_nothing_of_their_own() -> None:
    copied = FileCopied(
        **PAIR,
        path=b"a",
        kind=Kind.FILE,
        bytes=1,
        checksum="sha256:0",
        permissions="644",
        reason="new",
        duration_seconds=0.1,
    )

    assert show([copied]) == []


def test_progress_after_the_end_is_ignored() -> None:
    assert show([Progressed(cycle_id="c", pair="music", phase="copy", entries=1)]) == []
