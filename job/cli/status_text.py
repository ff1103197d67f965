"""Output of `truecopy status`: a table on a terminal, plain lines elsewhere, with the same facts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TextIO

from job.app.status import PairStatus, SandboxStatus
from job.core.counts import HeldPlan
from job.core.entry import printable
from job.core.file_systems import Capabilities, file_system_of
from job.core.outcome import Result
from job.events.text import (
    approximate_duration,
    clean,
    display_text,
    format_bytes,
    format_timestamp,
    plural,
    time_ago,
)

if TYPE_CHECKING:
    from rich.console import Console

NEVER, OVERDUE, UNKNOWN = "no cycle yet", "overdue", "unknown"
_LONGEST = 300
"""Maximum characters of a message."""
_STYLES = {
    Result.SUCCESS.value: "green",
    Result.REFUSED.value: "red",
    Result.HELD.value: "red",
    Result.FAILED.value: "red",
    NEVER: "dim",
}
_NARROW, _LONGEST_NAME = 80, 24


class Line(NamedTuple):
    """A line of text; details of the line above are indented."""

    text: str
    indent: int = 0
    style: str = ""


class Facts(NamedTuple):
    """State of the service and its pairs at one moment."""

    now: float
    alive: bool
    service: str
    next_due: float | None
    disabled: str
    """The value of `run_enabled` if no cycle runs because of it; empty if cycles run."""
    sandbox: SandboxStatus
    pairs: list[PairStatus]
    overdue: frozenset[str]
    """Names of pairs whose last success is too long ago."""

    def verdict(self, pair: PairStatus) -> str:
        """Return the verdict of a pair: the result of its last cycle, `overdue`, `no cycle yet` or `unknown`."""
        if pair.result is None:
            return UNKNOWN if pair.trouble else NEVER
        if pair.name in self.overdue and pair.result is Result.SUCCESS:
            return OVERDUE
        return str(pair.result)


def plain_lines(facts: Facts) -> Iterator[str]:
    """Yield everything as text, one fact a line."""
    yield from (line.text for line in _head(facts))
    for pair in facts.pairs:
        yield f"{clean(pair.name)}: {_headline(facts, pair)}"
        for line in (*_figures(facts, pair), *_problem_lines(pair), *_capabilities(pair.able)):
            yield f"{'    ' * line.indent}{line.text}"


def show_table(facts: Facts, terminal: TextIO) -> None:
    """Print a table of the pairs, and the details of each below it, for any width."""
    from rich.console import Console  # noqa: PLC0415  # for terminals only, and slow to import
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=terminal, highlight=False)
    _print_table(facts, console)
    lines = []
    for pair in facts.pairs:
        verdict = facts.verdict(pair)
        lines += [Line(""), Line(f"{clean(pair.name)}: {_headline(facts, pair)}", 0, f"bold {_style(verdict)}")]
        lines += [*_places(pair), *_disks(facts, pair)]
        if verdict not in {str(Result.SUCCESS), NEVER, UNKNOWN}:
            lines += _last_success(facts, pair)
        lines += _space_lines(pair) if console.width < _NARROW else _kept_lines(pair)
        lines += _problem_lines(pair)
    for line in (*lines, Line(""), *_head(facts)):
        console.print(Padding(Text(line.text, style=line.style), (0, 0, 0, 2 * line.indent)))


def _print_table(facts: Facts, console: "Console") -> None:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    narrow = console.width < _NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0), show_edge=False)
    table.add_column("Pair", overflow="ellipsis", no_wrap=True, max_width=12 if narrow else _LONGEST_NAME)
    for name in ("Result", "Last cycle"):
        table.add_column(name, no_wrap=True)
    for name in ("Files", "Size", *(() if narrow else ("Free",))):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in facts.pairs:
        verdict = facts.verdict(pair)
        attempt = pair.history.last_attempt_timestamp_seconds
        files, count = _extent(pair)
        cells = [
            Text(clean(pair.name)),
            Text("never" if verdict == NEVER else verdict, style=_style(verdict)),
            Text(time_ago(facts.now - attempt, short=narrow) if attempt else "-"),
            Text(files or "-"),
            Text(count or "-"),
            *(() if narrow else (Text("-" if pair.free is None else format_bytes(pair.free)),)),
        ]
        table.add_row(*cells)
    console.print(table)


def _style(verdict: str) -> str:
    return _STYLES.get(verdict, "yellow")


def _head(facts: Facts) -> Iterator[Line]:
    yield Line(f"service: {clean(facts.service)}")
    yield from _next(facts, 0)
    if facts.disabled:
        yield Line(f"disabled: run_enabled is '{clean(facts.disabled)}', only 'Y' runs")
    yield Line(f"sandbox: {_sandbox(facts.sandbox)}")


def _next(facts: Facts, indent: int) -> Iterator[Line]:
    if facts.next_due is not None:
        wait = facts.next_due - facts.now
        when = f"in {approximate_duration(wait)}" if wait > 0 else "now"
        yield Line(f"next cycle: {when} (at {format_timestamp(facts.next_due)})", indent)


def _headline(facts: Facts, pair: PairStatus) -> str:
    history, verdict = pair.history, facts.verdict(pair)
    if history.result is None:
        return verdict
    attempt = history.last_attempt_timestamp_seconds
    headline = f"{verdict} {time_ago(facts.now - attempt)} (at {format_timestamp(attempt)})"
    if verdict == OVERDUE or pair.result is not history.result:
        headline = f"{verdict}: the last success was {time_ago(facts.now - history.last_success_timestamp_seconds)}"
    since = history.result_since_timestamp_seconds
    if history.result is not Result.SUCCESS and 0 < since < attempt:
        headline += f", for {approximate_duration(facts.now - since)} now"
    return headline


def _figures(facts: Facts, pair: PairStatus) -> Iterator[Line]:
    yield from _places(pair)
    yield from _disks(facts, pair)
    history = pair.history
    if history.result is not None:
        tally = history.tally
        counts = f"{tally.copied} copied, {tally.updated} updated, {tally.skipped} skipped, {tally.failed} failed"
        yield Line(f"last cycle: {counts} in {history.duration_seconds:.1f} s", 1)
        yield from _last_success(facts, pair)
    yield from _next(facts, 1)
    yield from _space_lines(pair)


def _last_success(facts: Facts, pair: PairStatus) -> Iterator[Line]:
    success = pair.history.last_success_timestamp_seconds
    when = f"{time_ago(facts.now - success)} (at {format_timestamp(success)})" if success else "never"
    yield Line(f"last success: {when}", 1)


def _space_lines(pair: PairStatus) -> Iterator[Line]:
    files, count = _extent(pair)
    held = f"{files} {'file' if files == '1' else 'files'}" + (f", {count}" if count else "") if files else ""
    free = f"{format_bytes(pair.free)} free on its disk" if pair.free is not None else ""
    if held or free:
        yield Line(f"mirror: {'; '.join(text for text in (held, free) if text)}", 1)
    yield from _kept_lines(pair)


def _kept_lines(pair: PairStatus) -> Iterator[Line]:
    files, size = pair.versions
    if files:
        yield Line(f"versions: {files:,} {'file' if files == 1 else 'files'}, {format_bytes(size)}", 1)
    orphans = pair.history.orphans_files
    if orphans:
        held = f"{orphans:,} {'file' if orphans == 1 else 'files'}, {format_bytes(pair.history.orphans_bytes)}"
        yield Line(f"left the source: {held} (truecopy orphans lists them)", 1)


def _places(pair: PairStatus) -> Iterator[Line]:
    yield Line(clean(f"{pair.source} -> {pair.mirror}"), 1)
    if pair.mirror_state == "read_only":
        yield Line(
            "the mirror is on a read-only file system: the next cycle is refused, until it can be written", 1, "red"
        )
    elif pair.mirror_state == "missing":
        yield Line("the mirror is missing", 1, "red")
    elif pair.mirror_state == "first_use":
        yield Line("the mirror does not exist yet; the next cycle makes it", 1)


def _disks(facts: Facts, pair: PairStatus) -> Iterator[Line]:
    """Yield the mirrors of a pair that take turns, each with its age."""
    if len(pair.disks) > 1:
        for disk in pair.disks:
            age = facts.now - disk.last_success
            success = f"last success {time_ago(age)} (at {format_timestamp(disk.last_success)})"
            here = ", here now" if disk.is_here else ""
            yield Line(f"disk {disk.mirror_id[:8]}: {success if disk.last_success else 'no success yet'}{here}", 1)


def held_text(plan: HeldPlan, pair: str) -> str:
    """Return one line about what the brake of a pair holds."""
    files = plural(plan.files, "file")
    if not plan.is_active:
        when = format_timestamp(plan.approved_timestamp_seconds)
        return f"approved at {when}: {files} held by the brake ({plan.reason}); the next cycle replaces them"
    since = format_timestamp(plan.since_timestamp_seconds)
    return (
        f"held by the brake ({plan.reason}) since {since}: {files} would be replaced; "
        f"`truecopy approve {pair}` releases plan {plan.plan}"
    )


def _brake_lines(pair: PairStatus) -> Iterator[Line]:
    """Yield what the brake holds, or that it is off."""
    if not pair.has_brake:
        yield Line("its brake is off: whatever the source has replaces what the mirror has", 1, "yellow")
    elif (plan := pair.history.hold) is not None:
        yield Line(clean(held_text(plan, pair.name)), 1, "red" if plan.is_active else "yellow")
        for path in plan.examples:
            yield Line(_bounded(path), 2)


def _problem_lines(pair: PairStatus) -> Iterator[Line]:
    """Yield the problems of a pair, with hints."""
    yield from _brake_lines(pair)
    history = pair.history
    if history.trouble is not None:
        reason = f"{history.trouble.reason}: " if history.trouble.reason else ""
        yield Line(f"why: {_bounded(reason + history.trouble.error)}", 1, "red")
        if history.trouble.hint:
            yield Line(f"hint: {_bounded(history.trouble.hint)}", 1)
    if history.tally.failed:
        reasons = ", ".join(f"{reason} {count}" for reason, count in history.tally.failed_by.items())
        yield Line(f"{history.tally.failed} failed: {reasons}", 1, "yellow")
        for each in history.failing:
            yield Line(_bounded(f"{printable(each.path) or '.'}: {each.reason}: {each.error}"), 2)
        if history.failing and history.tally.failed > len(history.failing):
            yield Line(f"and {history.tally.failed - len(history.failing)} more, see the log", 2)
    for point, kind in pair.mounts:
        yield Line(f"left out of the source: {printable(point)} ({file_system_of(kind)}; see cross_mounts)", 1)
    if pair.trouble:
        yield Line(f"its history cannot be read: {_bounded(pair.trouble)}", 1, "red")


def _extent(pair: PairStatus) -> tuple[str, str]:
    """Return files and bytes of the mirror as text; empty for unknown."""
    if pair.extent is None:
        return "", ""
    files, count = pair.extent
    return f"{files:,}", "" if count is None else format_bytes(count)


def _sandbox(sandbox: SandboxStatus) -> str:
    if sandbox.missing:
        return f"none, {sandbox.missing}"
    return f"work on a pair cannot {', nor '.join(sandbox.denied)} (Landlock, version {sandbox.abi})"


def _capabilities(able: Capabilities | None) -> Iterator[Line]:
    if able is not None:
        held = f"does not hold: {', '.join(able.lacks)}" if able.lacks else "holds everything"
        yield Line(f"the mirror ({able.file_system or 'its file system'}) {held}", 1)


def _bounded(text: str) -> str:
    shown = display_text(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
