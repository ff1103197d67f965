"""What the works cost, as ratios, and as JSON that can be read again. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from tests.bench.measure import Cost
from tests.bench.works import STANDING, WORKS, Source, Work

OURS = "truecopy"
KIB = 1024
UNITS = ("bytes", "KiB", "MiB", "GiB")


class Ratio(NamedTuple):
    """Ours against theirs, over paired runs: below 1 we are quicker."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        """Write it as the tables show it."""
        return f"{self.middle:.2f} ({self.least:.2f}..{self.most:.2f})"


@dataclass(frozen=True, slots=True)
class Result:
    """What a work cost each tool, in the order of the rounds; `missing` says why there is nothing."""

    work: Work
    size: int
    """Number of small files, or bytes of the one large file."""
    costs: Mapping[str, Sequence[Cost]] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    """Peak of PSS in bytes, 0 for a tool that was too quick to be seen."""
    missing: str | None = None

    @property
    def title(self) -> str:
        """Name the work with its size, for people."""
        if self.work.source is Source.LARGE:
            return f"one file of {amount(self.size)}, {self.work.title}"
        return f"{self.work.title}, {self.size:,} files"

    @property
    def ratios(self) -> dict[str, Ratio]:
        """Give the ratio of wall time against every peer that did the work."""
        seconds = {name: [cost.seconds for cost in costs] for name, costs in self.costs.items() if costs}
        ours = seconds.get(OURS)
        return {name: ratio(ours, theirs) for name, theirs in seconds.items() if name != OURS} if ours else {}

    @property
    def cpu_ratios(self) -> dict[str, Ratio]:
        """Give the ratio of CPU time, user and system of all processes, against every peer that did the work."""
        cpu = {name: [cost.cpu_seconds for cost in costs] for name, costs in self.costs.items() if costs}
        ours = cpu.get(OURS)
        return {name: ratio(ours, theirs) for name, theirs in cpu.items() if name != OURS} if ours else {}

    def seconds(self, tool: str) -> float | None:
        """Give a tool's median wall time, None if it did not do the work."""
        costs = self.costs.get(tool)
        return median(cost.seconds for cost in costs) if costs else None


class Growth(NamedTuple):
    """How a tool's time for the same work grows with the tree."""

    tool: str
    work: Work
    smaller: int
    larger: int
    times: float


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Divide round by round, since only what ran side by side saw the same machine; then take median and extremes.

    A tool that takes part in the first rounds only is compared in those.
    """
    ratios = [left / right for left, right in zip(ours, theirs, strict=False)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def growths(results: Sequence[Result]) -> list[Growth]:
    """Divide each tool's median time for a tree by that for the next smaller one."""
    found = []
    for work in WORKS:
        same = sorted((result for result in results if result.work.name == work.name), key=lambda each: each.size)
        for smaller, larger in pairwise(same):
            for tool in larger.costs:
                before, after = smaller.seconds(tool), larger.seconds(tool)
                if before and after:
                    found.append(Growth(tool, work, smaller.size, larger.size, after / before))
    return found


def amount(size: int) -> str:
    """Write bytes for people."""
    value, unit = float(size), UNITS[0]
    for larger in UNITS[1:]:
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.4g} {unit}"


def written(head: Mapping[str, object], results: Sequence[Result]) -> str:
    """Write every figure down, so that other tables can be made of it later."""
    works = [
        {
            "work": result.work.name,
            "title": result.title,
            "place": str(result.work.place),
            "size": result.size,
            "missing": result.missing,
            "runs": {name: [_rounded(cost) for cost in costs] for name, costs in result.costs.items()},
            "peak_pss_bytes": dict(result.memory),
            "ratios": {name: _rounded(found) for name, found in result.ratios.items()},
        }
        for result in results
    ]
    # A line a work, so that a file that is committed stays short and its changes can be read.
    listed = ",\n".join(f"  {json.dumps(work)}" for work in works)
    begun = json.dumps(dict(head), indent=1).removesuffix("\n}")
    return f'{begun},\n "works": [\n{listed}\n ]\n}}\n'


def read(text: str) -> tuple[dict[str, Any], list[Result]]:
    """Read what `written` wrote. Raises `KeyError` for a work that there no longer is."""
    head = json.loads(text)
    known = {work.name: work for work in (STANDING, *WORKS)}
    results = [
        Result(
            work=known[found["work"]],
            size=found["size"],
            costs={name: [Cost(**cost) for cost in costs] for name, costs in found["runs"].items()},
            memory=found["peak_pss_bytes"],
            missing=found["missing"],
        )
        for found in head.pop("works")
    ]
    return head, results


def _rounded(figures: Cost | Ratio) -> dict[str, float]:
    values = figures._asdict() if isinstance(figures, Ratio) else asdict(figures)
    return {name: round(value, 6) for name, value in values.items()}
