"""What was asked of the engine, as ratios, and what came of it: a line and a verdict for each target. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.results import OURS, Result, growths
from tests.bench.works import STANDING, WORKS

GIB = 1024**3
MB = 10**6
HUNDRED_THOUSAND, MILLION = 100_000, 1_000_000

AS_WANTED = "as wanted"
MET = "met"
MISSED = "missed"
TOO_SMALL = "none at this size"
NOT_MEASURED = "not measured"
NO_FIGURE = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """How long we may take for a work, as a share of a peer's time, at a size; and what we really want."""

    work: str
    peer: str
    size: int
    at_most: float
    wanted: float | None = None


class Line(NamedTuple):
    """A target and what came of it, as text."""

    work: str
    against: str
    target: str
    measured: str
    verdict: str


TARGETS = (
    Target("unchanged", "rsync", HUNDRED_THOUSAND, 0.5, 0.4),
    Target("unchanged", "rsync", MILLION, 0.4, 0.33),
    Target("unchanged_audited", "rsync", HUNDRED_THOUSAND, 0.75, 0.6),
    Target("unchanged_audited", "rsync", MILLION, 0.75, 0.6),
    Target("first_copy_tmpfs", "rsync", HUNDRED_THOUSAND, 0.65, 0.5),
    Target("first_copy_durable", "rsync", HUNDRED_THOUSAND, 0.8, 0.6),
    Target("large_sha256", "cp", 3 * GIB, 1.4),
    Target("large_blake3", "cp", 3 * GIB, 1.2),
    Target("changed", "rsync", HUNDRED_THOUSAND, 0.9, 0.6),
    Target("by_checksum", "rsync", HUNDRED_THOUSAND, 1.1, 0.8),
    Target("unchanged", "original", HUNDRED_THOUSAND, 0.1),
    Target("first_copy_tmpfs", "original", HUNDRED_THOUSAND, 0.35),
    Target("first_copy_durable", "original", HUNDRED_THOUSAND, 0.35),
)
CPU_TARGET = Target("first_copy_tmpfs", "rsync", HUNDRED_THOUSAND, 1.1, 0.9)
"""The same for CPU time, user and system, of all processes."""
GROWTH_AT_MOST = 11.0
"""Times the time that nothing changed takes, for ten times the files."""
MEMORY_AT_MOST = 150 * MB
"""Peak of PSS over all our processes with a million files, whatever the work."""

KNOWN = {work.name: work for work in WORKS}
COMMANDS = {"rsync": "`rsync -a`", "cp": "`cp -a`", "rclone": "`rclone sync`", "original": "the original's loop"}
BY_CHECKSUM = {"rsync": "`rsync -ac`"}


def lines(results: Sequence[Result]) -> list[Line]:
    """Hold the results against every target."""
    ratios = [_ratio_line(target, results) for target in TARGETS]
    return [
        *ratios,
        _cpu_line(results),
        _growth_line(results),
        *(_memory_line(result) for result in memory_results(results)),
    ]


def target_of(result: Result, peer: str, results: Sequence[Result]) -> Target | None:
    """Find the target that is held against this one of the results, if any is."""
    own = [target for target in TARGETS if (target.work, target.peer) == (result.work.name, peer)]
    return next((target for target in own if _result_for(target, results) is result), None)


def memory_results(results: Sequence[Result]) -> list[Result]:
    """Pick what says how much memory a tree takes: the works on the largest tree that was run."""
    kept = [each for each in results if (each.work.each_size or each.work is STANDING) and each.memory.get(OURS)]
    largest = max((each.size for each in kept), default=0)
    return [each for each in kept if each.size == largest]


def verdict(value: float, at_most: float, wanted: float | None = None) -> str:
    """Say whether a target is met."""
    if value > at_most:
        return MISSED
    return AS_WANTED if wanted is not None and value <= wanted else MET


def _ratio_line(target: Target, results: Sequence[Result]) -> Line:
    work = KNOWN[target.work]
    against = (BY_CHECKSUM if work.by_checksum else COMMANDS)[target.peer]
    if work.durable and target.peer != "original":
        against += ", then `sync -f`"
    asked = f"{target.at_most:g}" + (f" ({target.wanted:g})" if target.wanted is not None else "")
    result = _result_for(target, results)
    found = result.ratios.get(target.peer) if result else None
    if result is None or found is None:
        return Line(Result(work, target.size).title, against, asked, NO_FIGURE, NOT_MEASURED)
    said = verdict(found.middle, target.at_most, target.wanted) if result.size >= target.size else TOO_SMALL
    return Line(result.title, against, asked, str(found), said)


def _cpu_line(results: Sequence[Result]) -> Line:
    result, at_most, wanted = _result_for(CPU_TARGET, results), CPU_TARGET.at_most, CPU_TARGET.wanted
    work = KNOWN[CPU_TARGET.work]
    against = f"CPU time of {COMMANDS[CPU_TARGET.peer]}"
    asked = f"{at_most:g} ({wanted:g})"
    found = result.cpu_ratios.get(CPU_TARGET.peer) if result else None
    if result is None or found is None:
        return Line(Result(work, CPU_TARGET.size).title, against, asked, NO_FIGURE, NOT_MEASURED)
    said = verdict(found.middle, at_most, wanted) if result.size >= CPU_TARGET.size else TOO_SMALL
    return Line(result.title, against, asked, str(found), said)


def _result_for(target: Target, results: Sequence[Result]) -> Result | None:
    """Find the result of the very size; for the smallest size that has a target, else the largest below it."""
    smallest = min(each.size for each in TARGETS if (each.work, each.peer) == (target.work, target.peer))
    found = {each.size: each for each in results if each.work.name == target.work and each.costs}
    if target.size in found or target.size > smallest:
        return found.get(target.size)
    return found.get(max((size for size in found if size < target.size), default=0))


def _growth_line(results: Sequence[Result]) -> Line:
    found = [each for each in growths(results) if (each.tool, each.work.name) == (OURS, "unchanged")]
    tenfold = next((each for each in found if (each.smaller, each.larger) == (HUNDRED_THOUSAND, MILLION)), None)
    title = f"{KNOWN['unchanged'].title}, {MILLION:,} files"
    against = f"itself, {HUNDRED_THOUSAND:,} files"
    if tenfold is None:
        return Line(title, against, f"{GROWTH_AT_MOST:g}", NO_FIGURE, NOT_MEASURED)
    return Line(title, against, f"{GROWTH_AT_MOST:g}", f"{tenfold.times:.1f}", verdict(tenfold.times, GROWTH_AT_MOST))


def _memory_line(result: Result) -> Line:
    used = result.memory[OURS]
    said = verdict(used, MEMORY_AT_MOST)
    asked = f"{MEMORY_AT_MOST // MB} MB"
    if result.size < MILLION and said != MISSED:
        said = TOO_SMALL
    title = f"{'first copy' if result.work is STANDING else result.work.title}, {result.size:,} files"
    return Line(title, "memory of all processes", asked, f"{used / MB:.0f} MB", said)
