"""Turn results into tables for a terminal. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench import targets
from tests.bench.results import OURS, Result, growths
from tests.bench.tools import TOOLS

MIB = 1024 * 1024
NO_FIGURE = "-"
ABSENT = "absent"


def whole(head: Mapping[str, object], results: Sequence[Result]) -> str:
    """Write the report: on what it was measured, ratios, costs, growth, targets, and what was left out."""
    found = head.get("absent")
    absent = found if isinstance(found, Mapping) else {}
    parts = [headline(head), ratio_table(results, absent), cost_table(results), growth_table(results)]
    return "\n".join(part for part in (*parts, target_table(results), notes(results, absent)) if part)


def headline(head: Mapping[str, object]) -> str:
    """Say in a line each when and on what the figures were measured, and how to read them."""
    lines = [f"{key}: {_flat(value)}\n" for key, value in head.items() if value]
    return "".join([*lines, "wall time as median (least..most) of paired runs; a ratio below 1: we are quicker\n"])


def ratio_table(results: Sequence[Result], absent: Mapping[str, str]) -> str:
    """Show a line a work, a column a peer."""
    measured = {name for result in results for name in result.costs}
    peers = [tool.name for tool in TOOLS if tool.name != OURS and tool.name in measured | absent.keys()]
    rows = [[f"{OURS} against", *peers]]
    for result in results:
        if result.costs or result.missing:
            cells = [ABSENT if peer in absent else str(result.ratios.get(peer, NO_FIGURE)) for peer in peers]
            rows.append([result.title, *cells])
    return table(rows)


def cost_table(results: Sequence[Result]) -> str:
    """Show a line a work and tool: wall time, CPU time, peak memory of all processes."""
    rows = [["work", "tool", "seconds", "CPU seconds", "peak PSS, MiB"]]
    for result in results:
        for name in result.memory:
            costs, peak = result.costs.get(name, ()), result.memory[name]
            rows.append(
                [
                    result.title,
                    name,
                    _spread([cost.seconds for cost in costs]),
                    _spread([cost.cpu_seconds for cost in costs]),
                    f"{peak / MIB:.1f}" if peak else NO_FIGURE,
                ]
            )
    return table(rows)


def growth_table(results: Sequence[Result]) -> str:
    """Show how the time of each tool grows with the tree; nothing when one size was run."""
    rows = [["work", "tool", "files", "times the time"]]
    rows += [
        [each.work.title, each.tool, f"{each.smaller:,} to {each.larger:,}", f"{each.times:.2f}"]
        for each in growths(results)
    ]
    return table(rows) if len(rows) > 1 else ""


def target_table(results: Sequence[Result]) -> str:
    """Show every target with its verdict: this is what the README shows too."""
    return table([["work", "against", "at most (wanted)", "measured", "verdict"], *targets.lines(results)])


def notes(results: Sequence[Result], absent: Mapping[str, str]) -> str:
    """Name what was left out, and why."""
    tools = [f"absent: {name}: {reason}" for name, reason in absent.items()]
    works = [f"not run: {result.title}: {result.missing}" for result in results if result.missing]
    return "".join(f"{line}\n" for line in tools + works)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, columns aligned so that a terminal shows it well too; the first row is the head."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _flat(value: object) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, Mapping) else str(value)


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}..{max(values):.3f})" if values else NO_FIGURE
