"""Compare the tools at one work: first the check that all make the same tree, then paired rounds, tool after tool."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench import trees
from tests.bench.errors import BenchError
from tests.bench.measure import Command, Cost, Surroundings, cost_of, memory_of
from tests.bench.scratch import Scratch, emptied
from tests.bench.tools import ROOT, Order, Tool, config_of
from tests.bench.works import Place, Work

KEPT_VARIABLES = ("PATH", "HOME", "LD_LIBRARY_PATH")
SHOWN_DIFFERENCES = 10
STANDING = Work(name="standing", title="standing mirrors", place=Place.DISK)


@dataclass(frozen=True, slots=True)
class Result:
    """What a work cost each tool, in the order of the rounds; `missing` says why there is nothing."""

    work: Work
    costs: Mapping[str, Sequence[Cost]] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tools that are here, and the folders they work in."""

    tools: Sequence[Tool]
    scratch: Scratch

    def stand_mirrors(self) -> None:
        """Let each tool make the mirror that the works on standing mirrors start from."""
        expected = trees.listing(self.scratch.source(STANDING))
        for tool in self.tools:
            emptied(self.scratch.mirror(STANDING, tool.name, 0))
            self._checked(tool, STANDING, expected)

    def perform(self, work: Work) -> Result:
        """Check every tool, then time them. Raises `BenchError`, untimed, when one fails or makes another tree."""
        if obstacle := self.scratch.obstacle(work):
            return Result(work, missing=obstacle)
        able = [tool for tool in self.tools if tool.command(self._order(tool, work, 0))]
        self._change(work, 0)
        expected = trees.listing(self.scratch.source(work))
        memory = {tool.name: self._checked(tool, work, expected) for tool in able}
        costs: dict[str, list[Cost]] = {tool.name: [] for tool in able}
        for number in range(1, self.scratch.sizes.runs + 1):
            self._change(work, number)
            for tool in able:
                costs[tool.name].append(self._timed(tool, work, number))
        return Result(work, costs, memory)

    def _checked(self, tool: Tool, work: Work, expected: Mapping[str, trees.Fact]) -> int:
        """Run untimed, which also warms the caches; hold the mirror against the source; give the peak of memory."""
        order = self._order(tool, work, 0)
        commands = self._ready(tool, work, order)
        peak = memory_of(commands, self._around(tool, work))
        found = trees.differences(expected, trees.listing(order.dest))
        if found:
            shown = "\n".join(found[:SHOWN_DIFFERENCES])
            raise BenchError(f"{tool.name} made another tree ({work.title}), {len(found)} differences:\n{shown}")
        self._leave(work, order)
        return peak

    def _timed(self, tool: Tool, work: Work, number: int) -> Cost:
        order = self._order(tool, work, number)
        commands = self._ready(tool, work, order)
        # What the tool before left to be written must not be paid for by this one.
        subprocess.run(["sync", "-f", str(self.scratch.folders[work.place])], check=True)
        cost = cost_of(commands, self._around(tool, work))
        self._leave(work, order)
        return cost

    def _order(self, tool: Tool, work: Work, number: int) -> Order:
        return Order(
            source=self.scratch.source(work),
            dest=self.scratch.mirror(work, tool.name, number),
            config=self.scratch.folders[Place.DISK] / f"{tool.name}.json",
            again=not work.fresh and work is not STANDING,
            by_checksum=work.by_checksum,
        )

    def _ready(self, tool: Tool, work: Work, order: Order) -> list[Command]:
        """Lay out everything a run needs, all of it untimed, and give what is to be run."""
        if work.fresh:
            emptied(order.dest)
        logs = emptied(self.scratch.logs(work, tool.name))
        config = config_of(order, logs, work.options if tool.ours else {})
        order.config.write_text(json.dumps(config), encoding="utf-8")
        command = tool.command(order) or []
        return [command, ["sync", "-f", str(order.dest)]] if work.durable and not tool.ours else [command]

    def _around(self, tool: Tool, work: Work) -> Surroundings:
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "TMPDIR": str(self.scratch.folders[work.place])}
        return Surroundings(ROOT, environment, self.scratch.logs(work, tool.name) / "output")

    def _change(self, work: Work, number: int) -> None:
        if work.changed:
            trees.change(self.scratch.source(work), work.changed, turn=number)

    @staticmethod
    def _leave(work: Work, order: Order) -> None:
        # Memory is dear. On a disk mirrors stay to the end: ext4 does not use an inode again within minutes, and
        # searching past freed ones would be most of the cost of every later first copy, whoever's it is.
        if work.fresh and work.place is Place.TMPFS:
            shutil.rmtree(order.dest)
