"""Progress for people: bars while a cycle runs and a short summary after it. On a terminal only. A listener.

Names are shown as plain text: no markup, emoji code or control sequence in them means anything (invariant 14).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from job.core.events import (
    BatchCommitted,
    CycleCrashed,
    CycleFinished,
    CycleStarted,
    DriftFound,
    Event,
    FileFailed,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
    RunDisabled,
)
from job.core.outcome import Result, Skip
from job.core.tally import Tally
from job.core.wording import clean, fields_of, sentence, size, spent

MOST_FAILURES = 20
"""Failed entries shown by name for each pair; the log has them all."""

_STYLES = {Result.SUCCESS: "green", Result.PARTIAL: "yellow", Result.BUSY: "yellow", Result.STOPPED: "yellow"}
_PHASES = {"look": "looking", "act": "copying"}


@dataclass(slots=True)
class _Pair:
    """What is shown of a pair."""

    task: TaskID | None = None
    phase: str = ""
    tally: Tally = field(default_factory=Tally)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    trouble: list[str] = field(default_factory=list)
    finished: PairFinished | None = None


class Progress:
    """Shows a cycle on `stream`, if that is a terminal; call it with each event, then `close` it."""

    def __init__(self, stream: TextIO) -> None:
        self.shown = stream.isatty()
        """Whether anything is shown at all; if so, nobody wants log lines on the same terminal."""
        self._console = Console(file=stream, highlight=False)
        self._bars: Bars | None = None
        self._pairs: dict[str, _Pair] = {}
        self._actions: dict[type[Event], Callable[[Any], None]] = {
            CycleStarted: self._start,
            PairStarted: self._begin,
            Progressed: self._move,
            BatchCommitted: self._commit,
            FileFailed: self._fail,
            PairRefused: self._stop_short,
            PairBusy: self._stop_short,
            PairFailed: self._stop_short,
            PairFinished: self._end,
            CycleFinished: self._sum_up,
            RunDisabled: self._note,
            CycleCrashed: self._crash,
            DriftFound: lambda _: None,  # counted in the summary
        }

    def __call__(self, event: Event) -> None:
        """Show what one event means."""
        if not self.shown:
            return
        action = self._actions.get(type(event))
        if action is not None:
            action(event)
        elif event.level in {"warning", "error"}:
            self._note(event)

    def close(self) -> None:
        """Take the bars away and give the cursor back."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _start(self, event: CycleStarted) -> None:
        self.close()
        self._pairs = {pair: _Pair() for pair in event.pairs}
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[files]}", markup=False),
            TextColumn("{task.fields[amount]}", markup=False),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=self._console.is_dumb_terminal,  # it cannot redraw a line, so bars would only leave blank ones
        )
        self._bars.start()

    def _begin(self, event: PairStarted) -> None:
        if self._bars is not None:
            pair = self._pairs.setdefault(event.pair, _Pair())
            pair.task = self._bars.add_task(clean(event.pair), total=None, files="", amount="", in_bytes=False)

    def _move(self, event: Progressed) -> None:
        pair = self._pairs.get(event.pair)
        if self._bars is None or pair is None or pair.task is None:
            return
        if event.phase != pair.phase:
            # Another phase runs at another rate: the time left must not be guessed from the one before.
            self._bars.reset(pair.task, total=None)
            pair.phase = event.phase
        in_bytes = event.bytes_total > 0
        self._bars.update(
            pair.task,
            description=f"{clean(event.pair)}: {_PHASES.get(event.phase, event.phase)}",
            total=(event.bytes_total if in_bytes else event.entries_total) or None,
            completed=event.bytes if in_bytes else event.entries,
            files=f"{_of(f'{event.entries:,}', f'{event.entries_total:,}', event.entries_total)} files",
            amount=_of(size(event.bytes), size(event.bytes_total), event.bytes_total)
            if event.bytes or in_bytes
            else "",
            in_bytes=in_bytes,
        )

    def _commit(self, event: BatchCommitted) -> None:
        pair = self._pairs.setdefault(event.pair, _Pair())
        pair.tally += event.tally

    def _fail(self, event: FileFailed) -> None:
        pair = self._pairs.setdefault(event.pair, _Pair())
        pair.failed += 1
        if len(pair.failures) < MOST_FAILURES:
            fields = fields_of(event)
            pair.failures.append(f"{fields['path']}: {fields['reason']}: {fields['error']}")

    def _stop_short(self, event: PairRefused | PairBusy | PairFailed) -> None:
        trouble = self._pairs.setdefault(event.pair, _Pair()).trouble
        trouble.append(clean(event.error))
        if event.hint:
            trouble.append(f"hint: {clean(event.hint)}")

    def _end(self, event: PairFinished) -> None:
        pair = self._pairs.setdefault(event.pair, _Pair())
        pair.finished = event
        if self._bars is not None and pair.task is not None:
            self._bars.remove_task(pair.task)
            pair.task = None

    def _sum_up(self, _: CycleFinished) -> None:
        self.close()
        for name, pair in self._pairs.items():
            if pair.finished is not None:
                self._print(f"{name}: {pair.finished.result} in {spent(pair.finished.duration_seconds)}", pair)
                tally = pair.finished.tally
            else:
                self._print(f"{name}: not finished", pair)
                tally = pair.tally
            if tally != Tally() or not pair.trouble:
                self._line(f"  {_counts(tally)}")
            for line in pair.trouble:
                self._line(f"  {line}", "red")
            for line in pair.failures:
                self._line(f"  failed {line}", "red")
            if pair.failed > len(pair.failures):
                self._line(f"  and {pair.failed - len(pair.failures):,} more: see the log")
        self._pairs = {}

    def _crash(self, event: CycleCrashed) -> None:
        self.close()
        self._note(event)

    def _note(self, event: Event) -> None:
        style = {"warning": "yellow", "error": "red"}.get(event.level or "", "")
        self._line(sentence(event, fields_of(event)), style)

    def _print(self, line: str, pair: _Pair) -> None:
        result = pair.finished.result if pair.finished is not None else Result.FAILED
        self._line(line, f"bold {_STYLES.get(result, 'red')}")

    def _line(self, line: str, style: str = "") -> None:
        # A terminal that cannot show a character gets its escape instead of an error.
        encoding = self._console.encoding
        shown = clean(line).encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(Text(shown, style=style), soft_wrap=True)


class _Rate(ProgressColumn):
    """How fast it goes, in bytes or files."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{size(speed)}/s" if task.fields["in_bytes"] else f"{speed:,.0f} files/s")


def _of(done: str, total: str, known: int) -> str:
    return f"{done} of {total}" if known else done


def _counts(tally: Tally) -> str:
    unchanged = tally.skipped_by.get(Skip.UNCHANGED, 0)
    words = [
        f"{tally.copied:,} copied ({size(tally.bytes_copied)})",
        f"{tally.updated:,} updated",
        f"{unchanged:,} unchanged",
        f"{tally.failed:,} failed",
    ]
    if passed_over := tally.skipped - unchanged:
        words.append(f"{passed_over:,} passed over")
    if drifted := sum(tally.drift_by.values()):
        words.append(f"{drifted:,} changed by others and healed")
    return ", ".join(words)
