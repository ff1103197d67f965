"""Progress on a terminal: bars while a cycle runs, and a short summary after it. A listener.

Names are shown as plain text, without effect of markup, emoji codes or control sequences in them (invariant 14).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import Progress as RichProgress
from rich.progress import Task, TaskID
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from job.core.counts import Tally
from job.core.outcome import Result, Skip
from job.events.base import Event
from job.events.brake import BrakeHeld
from job.events.pair import (
    BatchCommitted,
    DriftFound,
    FileFailed,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
)
from job.events.service import CycleCrashed, CycleFinished, CycleStarted, RunDisabled
from job.events.text import clean, display_text, fields_of, format_bytes, format_duration, sentence

MOST_FAILURES = 20
"""Failed entries shown for each pair; the log has all."""

_WIDE = 110
"""Minimum columns for one line a pair."""
_LONGEST_TITLE = 40
_SHOW_EVERY_SECONDS = 0.2

_STYLES = {Result.SUCCESS: "green", Result.PARTIAL: "yellow", Result.BUSY: "yellow", Result.STOPPED: "yellow"}
_PHASES = {"scan": "scanning", "copy": "copying", "expire": "removing old versions"}


@dataclass(slots=True)
class _Pair:
    """Displayed state of a pair."""

    task: TaskID | None = None
    phase: str = ""
    tally: Tally = field(default_factory=Tally)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    trouble: list[str] = field(default_factory=list)
    finished: PairFinished | None = None
    has_brake: bool = True


class ProgressDisplay:
    """Shows a cycle on `stream` if that is a terminal; call it with each event, then `close` it."""

    def __init__(self, stream: TextIO) -> None:
        self.shown = stream.isatty()
        """Whether anything is shown; log lines must not go to the same terminal then."""
        self._console = Console(file=stream, highlight=False)
        self._bars: Bars | None = None
        self._pairs: defaultdict[str, _Pair] = defaultdict(_Pair)
        self._actions: dict[type[Event], Callable[[Any], None]] = {
            CycleStarted: self._start,
            PairStarted: self._begin,
            Progressed: self._move,
            BatchCommitted: self._commit,
            FileFailed: self._fail,
            PairRefused: self._stop_short,
            BrakeHeld: self._stop_short,
            PairBusy: self._stop_short,
            PairFailed: self._stop_short,
            PairFinished: self._end,
            CycleFinished: self._sum_up,
            RunDisabled: self._note,
            CycleCrashed: self._crash,
            DriftFound: lambda _: None,  # counted in the summary
        }

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if not self.shown:
            return
        action = self._actions.get(type(event))
        if action is not None:
            action(event)
        elif event.level in {"warning", "error"}:
            self._note(event)

    def close(self) -> None:
        """Remove the bars and restore the cursor."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _start(self, event: CycleStarted) -> None:
        self.close()
        self._pairs.update((pair, _Pair()) for pair in event.pairs)
        self._bars = Bars(self._console)
        self._bars.start()

    def _begin(self, event: PairStarted) -> None:
        self._pairs[event.pair].has_brake = event.brake
        if self._bars is not None:
            self._pairs[event.pair].task = self._bars.begin(event.pair)

    def _move(self, event: Progressed) -> None:
        pair = self._pairs.get(event.pair)
        if self._bars is None or pair is None or pair.task is None:
            return
        if event.phase != pair.phase:
            # Phases have different rates: do not estimate the time left by the previous one.
            self._bars.reset(pair.task, total=None)
            pair.phase = event.phase
        self._bars.move(
            pair.task,
            _PHASES.get(event.phase, event.phase),
            (event.entries, event.entries_total),
            (event.bytes, event.bytes_total),
        )

    def _commit(self, event: BatchCommitted) -> None:
        self._pairs[event.pair].tally += event.tally

    def _fail(self, event: FileFailed) -> None:
        pair = self._pairs[event.pair]
        pair.failed += 1
        if len(pair.failures) < MOST_FAILURES:
            fields = fields_of(event)
            pair.failures.append(f"{fields['path']}: {fields['reason']}: {fields['error']}")

    def _stop_short(self, event: PairRefused | BrakeHeld | PairBusy | PairFailed) -> None:
        trouble = self._pairs[event.pair].trouble
        trouble.append(display_text(event.error))
        if event.hint:
            trouble.append(f"hint: {display_text(event.hint)}")

    def _end(self, event: PairFinished) -> None:
        pair = self._pairs[event.pair]
        pair.finished = event
        if self._bars is not None and pair.task is not None:
            self._bars.remove_task(pair.task)
            pair.task = None

    def _sum_up(self, _: CycleFinished) -> None:
        self.close()
        for name, pair in self._pairs.items():
            done = pair.finished
            ended = f"{done.result} in {format_duration(done.duration_seconds)}" if done else "not finished"
            self._line(f"{name}: {ended}", f"bold {_STYLES.get(done.result, 'red') if done else 'red'}")
            tally = done.tally if done else pair.tally
            if tally != Tally() or not pair.trouble:
                self._line(f"  {_counts(tally)}")
            if not pair.has_brake:
                self._line("  its brake is off", "yellow")
            for line in pair.trouble:
                self._line(f"  {line}", "red")
            for line in pair.failures:
                self._line(f"  failed {line}", "red")
            if pair.failed > len(pair.failures):
                self._line(f"  and {pair.failed - len(pair.failures):,} more: see the log")
        self._pairs.clear()

    def _crash(self, event: CycleCrashed) -> None:
        self.close()
        self._note(event)

    def _note(self, event: Event) -> None:
        style = {"warning": "yellow", "error": "red"}.get(event.level or "", "")
        self._line(sentence(event, fields_of(event)), style)

    def _line(self, line: str, style: str = "") -> None:
        # A terminal that cannot show a character gets its escape instead of an error.
        encoding = self._console.encoding
        shown = clean(line).encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(Text(shown, style=style), soft_wrap=True)


def _counts(tally: Tally) -> str:
    unchanged = tally.skipped_by.get(Skip.UNCHANGED, 0)
    words = [
        f"{tally.copied:,} copied ({format_bytes(tally.bytes_copied)})",
        f"{tally.updated:,} updated",
        f"{unchanged:,} unchanged",
        f"{tally.failed:,} failed",
    ]
    if passed_over := tally.skipped - unchanged:
        words.append(f"{passed_over:,} passed over")
    if drifted := sum(tally.drift_by.values()):
        words.append(f"{drifted:,} changed by others and healed")
    return ", ".join(words)


class Bars(RichProgress):
    """Tasks on a terminal of any width: one line each, two if it is narrow, none after `stop`."""

    def __init__(self, console: Console, *, alone: bool = True) -> None:
        """Show bars on a console; if `alone`, other output to the terminal is printed above them."""
        self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line", style="progress.spinner")
        super().__init__(
            console=console,
            transient=True,
            disable=console.is_dumb_terminal,  # it cannot redraw a line, so bars would only leave blank ones
            redirect_stdout=alone,
            redirect_stderr=alone,
        )

    def begin(self, name: str) -> TaskID:
        """Add a task."""
        return self.add_task(clean(name), total=None, doing="", entries=(0, 0), bytes=(0, 0))

    def move(self, task: TaskID, doing: str, entries: tuple[int, int], count: tuple[int, int]) -> None:
        """Update a task: entries and bytes, done and total; 0 for unknown."""
        done, total = count if count[1] else entries
        self.update(task, doing=doing, total=total or None, completed=done, entries=entries, bytes=count)

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the lines of all tasks for the current width."""
        for task in self.tasks:
            yield from self._lines(task, self.console.width)

    def _lines(self, task: Task, width: int) -> Iterator[RenderableType]:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=1)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        bar = ProgressBar(total=task.total, completed=task.completed, pulse=task.total is None)
        title = Text(_title(task, min(_LONGEST_TITLE, width // 2)), style="bold")
        wide = width >= _WIDE
        grid.add_row(self._spinner, title, bar, Text(_facts(task, width) if wide else _percent(task)))
        yield grid
        if not wide:
            yield Text(f"  {_facts(task, width - 2)}", no_wrap=True, overflow="ellipsis")


class LineBars:
    """Shows the progress of a command on a terminal, and prints its lines above it or to another output."""

    def __init__(
        self,
        terminal: TextIO,
        name: str,
        expected: tuple[int, int],
        output: TextIO,
        *,
        doing: str,
        monotonic: Callable[[], float],
    ) -> None:
        """Start; `expected` are entries and bytes, 0 for unknown; `doing` is a word. Must be closed."""
        self._console = Console(file=terminal, highlight=False)
        self._output = None if output is terminal else output
        self._bars = Bars(self._console, alone=self._output is None)
        self._task = self._bars.begin(name)
        self._expected = expected
        self._doing = doing
        self._monotonic = monotonic
        self._done = [0, 0]
        self._shown_at = 0.0
        self._bars.start()

    def notice(self, entries: int, count: int) -> None:
        """Count entries and bytes since the last call."""
        self._done[0] += entries
        self._done[1] += count
        now = self._monotonic()
        if now - self._shown_at >= _SHOW_EVERY_SECONDS:
            self._shown_at = now
            # The index may have known fewer.
            entries, count = self._done
            totals = [total if total >= done else 0 for done, total in zip(self._done, self._expected, strict=True)]
            self._bars.move(self._task, self._doing, (entries, totals[0]), (count, totals[1]))

    def print(self, line: str) -> None:
        """Print one printable line."""
        if self._output is None:
            self._console.print(Text(line), soft_wrap=True)
        else:
            self._output.write(f"{line}\n")

    def close(self) -> None:
        """Remove the bars and restore the cursor."""
        self._bars.stop()


def _title(task: Task, width: int) -> str:
    """Return name and phase of a task; a long name is cut."""
    doing = f": {task.fields['doing']}" if task.fields["doing"] else ""
    name, limit = task.description, width - len(doing)
    return (name if len(name) <= limit else f"{name[: max(1, limit - 2)]}..") + doing


def _percent(task: Task) -> str:
    return f"{min(1.0, task.completed / task.total):4.0%}" if task.total else ""


def _facts(task: Task, width: int) -> str:
    """Return files, bytes, rate and time left; if not all fit, the most important ones."""
    (entries, entries_total), (count, count_total) = task.fields["entries"], task.fields["bytes"]
    facts = {
        "files": f"{_of(f'{entries:,}', f'{entries_total:,}', entries_total)} files",
        "left": _left(task),
        "bytes": _of(format_bytes(count), format_bytes(count_total), count_total) if count or count_total else "",
        "rate": _rate(task, in_bytes=count_total > 0),
    }
    chosen: dict[str, str] = {}
    for name, fact in facts.items():
        if fact and len(", ".join([*chosen.values(), fact])) <= width:
            chosen[name] = fact
    return ", ".join(chosen[name] for name in ("files", "bytes", "rate", "left") if name in chosen)


def _of(done: str, total: str, known: int) -> str:
    return f"{done} of {total}" if known else done


def _rate(task: Task, *, in_bytes: bool) -> str:
    speed = task.finished_speed or task.speed
    if not speed:
        return ""
    return f"{format_bytes(speed)}/s" if in_bytes else f"{speed:,.0f} files/s"


def _left(task: Task) -> str:
    if task.total is None or task.time_remaining is None:
        return ""
    minutes, seconds = divmod(int(task.time_remaining), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"
