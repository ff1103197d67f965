"""Turn results into ratios, a table for people and a mapping for machines. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench.comparison import Result
from tests.bench.measure import Cost
from tests.bench.tools import Tool

MIB = 1024 * 1024
NO_FIGURE = "-"
ABSENT = "absent"


class Ratio(NamedTuple):
    """Ours against theirs, over paired runs: below 1 we are quicker."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        """Write it as the table shows it."""
        return f"{self.middle:.2f} ({self.least:.2f}..{self.most:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Divide run by run, since only what ran side by side saw the same machine; then take median and extremes."""
    ratios = [left / right for left, right in zip(ours, theirs, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def ratios_of(result: Result, ours: str) -> dict[str, Ratio]:
    """Give the ratio of wall time against every peer that did the work."""
    seconds = {name: [cost.seconds for cost in costs] for name, costs in result.costs.items()}
    return {name: ratio(seconds[ours], theirs) for name, theirs in seconds.items() if name != ours}


def headline(head: Mapping[str, object]) -> str:
    """Say in a line each when and on what the figures were measured, and how to read them."""
    lines = [f"{key}: {_flat(value)}\n" for key, value in head.items() if value]
    return "".join([*lines, "wall time as median (least..most) of paired runs; a ratio below 1: we are quicker\n"])


def ratio_table(results: Sequence[Result], tools: Sequence[Tool], absent: Mapping[str, str]) -> str:
    """Show a line a work, a column a peer."""
    ours = next(tool.name for tool in tools if tool.ours)
    peers = [tool.name for tool in tools if not tool.ours]
    rows = [[f"{ours} against", *peers]]
    for result in results:
        found = {} if result.missing else ratios_of(result, ours)
        cells = [ABSENT if peer in absent else str(found.get(peer, NO_FIGURE)) for peer in peers]
        rows.append([result.work.title, *cells])
    return table(rows)


def cost_table(results: Sequence[Result]) -> str:
    """Show a line a work and tool: wall time, CPU time, peak memory of all processes."""
    rows = [["work", "tool", "seconds", "CPU seconds", "peak PSS, MiB"]]
    for result in results:
        for name, costs in result.costs.items():
            peak = result.memory.get(name, 0)
            rows.append(
                [
                    result.work.title,
                    name,
                    _spread([cost.seconds for cost in costs]),
                    _spread([cost.cpu_seconds for cost in costs]),
                    f"{peak / MIB:.1f}" if peak else NO_FIGURE,
                ]
            )
    return table(rows)


def notes(results: Sequence[Result], absent: Mapping[str, str]) -> str:
    """Name what was left out, and why."""
    tools = [f"absent: {name}: {reason}" for name, reason in absent.items()]
    works = [f"not run: {result.work.title}: {result.missing}" for result in results if result.missing]
    return "".join(f"{line}\n" for line in tools + works)


def raw(results: Sequence[Result], ours: str) -> list[dict[str, object]]:
    """Give every figure, so that other tables can be made of it later."""
    return [
        {
            "work": result.work.name,
            "title": result.work.title,
            "place": str(result.work.place),
            "missing": result.missing,
            "runs": {name: [_cost(cost) for cost in costs] for name, costs in result.costs.items()},
            "peak_pss_bytes": dict(result.memory),
            "ratios": {} if result.missing else {k: v._asdict() for k, v in ratios_of(result, ours).items()},
        }
        for result in results
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, columns aligned so that a terminal shows it well too; the first row is the head."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _flat(value: object) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, Mapping) else str(value)


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}..{max(values):.3f})"


def _cost(cost: Cost) -> dict[str, float]:
    return {"seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds}
