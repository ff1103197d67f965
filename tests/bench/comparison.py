"""Compare the tools at one work: first the check that all make the same tree, then paired rounds, tool after tool."""

import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.bench import trees
from tests.bench.errors import BenchError
from tests.bench.measure import Command, Cost, Surroundings, cost_of, memory_of
from tests.bench.results import Result
from tests.bench.scratch import Scratch, emptied, removed
from tests.bench.tools import ROOT, Order, Tool, config_of
from tests.bench.works import STANDING, Place, Work

KEPT_VARIABLES = ("PATH", "HOME", "LD_LIBRARY_PATH")
SHOWN_DIFFERENCES = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tools that are here, and the folders they work in."""

    tools: Sequence[Tool]
    scratch: Scratch
    _trees: trees.Compared = field(default_factory=trees.Compared)
    _turns: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Numbers of runs: none is given twice, so that a repeated work finds no mirror of its first time."""

    def stand_mirrors(self) -> Result:
        """Let each tool make the mirror that the works on standing mirrors start from; gives memory, and no time."""
        memory = {}
        for tool in self.tools:
            emptied(self.scratch.mirror(STANDING, tool.name, 0))
            memory[tool.name] = self._checked(tool, STANDING, 0)
        return Result(STANDING, self.scratch.sizes.files, memory=memory)

    def perform(self, work: Work) -> Result:
        """Check every tool, then time them. Raises `BenchError`, untimed, when one fails or makes another tree."""
        size = self.scratch.sizes.of(work)
        if obstacle := self.scratch.obstacle(work):
            return Result(work, size, missing=obstacle)
        turn = next(self._turns)
        able = [tool for tool in self.tools if self._can(tool, work)]
        self._change(work, turn)
        memory = {tool.name: self._checked(tool, work, turn) for tool in able}
        costs: dict[str, list[Cost]] = {tool.name: [] for tool in able}
        for number in range(min(self.scratch.sizes.runs, work.rounds or self.scratch.sizes.runs)):
            turn = next(self._turns)
            self._change(work, turn)
            for tool in self._round(able, number):
                costs[tool.name].append(self._timed(tool, work, turn))
        return Result(work, size, costs, memory)

    def _can(self, tool: Tool, work: Work) -> bool:
        invited = tool.ours or work.peers is None or tool.name in work.peers
        return invited and tool.command(self._order(tool, work, 0)) is not None

    def _round(self, able: Sequence[Tool], number: int) -> list[Tool]:
        """Say who takes part in a round; another begins each time, so that none always follows the same one."""
        taking_part = [tool for tool in able if not tool.guest or number < self.scratch.sizes.guest_runs]
        first = number % max(len(taking_part), 1)
        return [*taking_part[first:], *taking_part[:first]]

    def _checked(self, tool: Tool, work: Work, turn: int) -> int:
        """Run untimed, which also warms the caches; hold the mirror against the source; give the peak of memory."""
        order = self._order(tool, work, turn)
        commands = self._ready(tool, work, order)
        peak = memory_of(commands, self._around(tool, work))
        if self._trees.content(order.source) != self._trees.content(order.dest):
            found = trees.differences(trees.listing(order.source), trees.listing(order.dest))
            shown = "\n".join(found[:SHOWN_DIFFERENCES])
            raise BenchError(f"{tool.name} made another tree ({work.title}), {len(found)} differences:\n{shown}")
        self._leave(work, order)
        return peak

    def _timed(self, tool: Tool, work: Work, turn: int) -> Cost:
        order = self._order(tool, work, turn)
        commands = self._ready(tool, work, order)
        # What the tool before left to be written must not be paid for by this one.
        subprocess.run(["sync", "-f", str(self.scratch.folders[work.place])], check=True)
        cost = cost_of(commands, self._around(tool, work))
        self._leave(work, order)
        return cost

    def _order(self, tool: Tool, work: Work, turn: int) -> Order:
        return Order(
            source=self.scratch.source(work),
            dest=self.scratch.mirror(work, tool.name, turn),
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

    def _change(self, work: Work, turn: int) -> None:
        if work.changed:
            trees.change(self.scratch.source(work), work.changed, turn)

    @staticmethod
    def _leave(work: Work, order: Order) -> None:
        # Memory is dear. On a disk mirrors keep their inodes to the end: ext4 does not use one again within minutes,
        # and searching past freed ones would be most of the cost of every later first copy, whoever's it is. Blocks
        # have no such rule.
        if work.fresh and work.place is Place.TMPFS:
            removed(order.dest)
        elif work.fresh:
            trees.hollow(order.dest)
