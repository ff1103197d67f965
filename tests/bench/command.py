"""The command line of the benchmark: what is asked for, output, exit code."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tests.bench import chart, check, machine, report, results
from tests.bench.errors import BenchError
from tests.bench.results import OURS, Result
from tests.bench.scratch import Sizes, opened
from tests.bench.stages import Stage, lightened, perform, stages
from tests.bench.tools import TOOLS
from tests.bench.works import WORKS

MIB = 1024 * 1024
FULL_FILES, FULL = (10_000, 100_000, 1_000_000), Sizes(files=0, large=3072 * MIB, runs=5)
QUICK_FILES, QUICK = (2_000,), Sizes(files=0, large=64 * MIB, runs=3, guest_runs=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Gives 0, or 1 when a tool failed or made another tree, or a ratio is above its bound."""
    options = _parsed(arguments)
    signal.signal(signal.SIGTERM, _stop)
    try:
        head, found = _measured(options)
    except BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if options.json:
        options.json.write_text(results.written(head, found), encoding="utf-8")
    if options.svg:
        options.svg.write_text(chart.drawn(head, found), encoding="utf-8")
    sys.stdout.write(report.whole(head, found))
    failures = check.broken(found) if options.check else []
    for line in failures:
        sys.stderr.write(f"error: {line}\n")
    return 1 if failures else 0


def _measured(options: argparse.Namespace) -> tuple[dict[str, object], list[Result]]:
    chosen = [tool for tool in TOOLS if not options.tools or tool.name in options.tools]
    absent = {tool.name: tool.absent for tool in chosen if tool.absent}
    present = [tool for tool in chosen if tool.name not in absent]
    planned = _planned(options)
    head: dict[str, object] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": {tool.name: tool.version() for tool in present},
        "absent": absent,
    }
    tell = _teller()
    found: list[Result] = []
    with opened(options.scratch, sum(stage.room for stage in planned)) as folders:
        head["file_systems"] = {str(place): machine.file_system(root) for place, root in folders.items()}
        for stage in planned:
            found += perform(stage, folders, tell, lambda result: not (options.check and check.broken([result])))
        tell("removing the scratch folders")
    tell("done")
    return head, found


def _planned(options: argparse.Namespace) -> list[Stage]:
    files, default = (QUICK_FILES, QUICK) if options.quick else (FULL_FILES, FULL)
    large = options.large * MIB if options.large else default.large
    sizes = Sizes(0, large, options.runs or default.runs, default.guest_runs)
    works = [work for work in WORKS if not options.works or work.name in options.works]
    tools = [tool for tool in TOOLS if not tool.absent and (not options.tools or tool.name in options.tools)]
    planned = stages(options.sizes or files, sizes, works, tools)
    return planned if options.tools else [lightened(stage) for stage in planned]


def _teller() -> Callable[[str], None]:
    begin = time.monotonic()

    def tell(text: str) -> None:
        sys.stderr.write(f"bench: [{time.monotonic() - begin:4.0f} s] {text}\n")
        sys.stderr.flush()

    return tell


def _stop(number: int, _frame: FrameType | None) -> None:
    # As an exception, so that the running tool is ended and the scratch folders go away.
    sys.exit(128 + number)


def _count(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    names = list(known)

    def parsed(text: str) -> list[str]:
        found = text.split(",")
        if wrong := [name for name in found if name not in names]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(wrong)}; there are {', '.join(names)}")
        return found

    return parsed


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run.py", description="Time Truecopy against its peers, as ratios."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, under a minute")
    add("--check", action="store_true", help="with --quick: exit 1 if a ratio is far above what it was")
    add("--works", type=_names(work.name for work in WORKS), metavar="A,B", help="these works only")
    add("--tools", type=_names(tool.name for tool in TOOLS), metavar="A,B", help="these tools only, at every size")
    add("--sizes", type=_counts, metavar="N,M", help="numbers of small files")
    add("--large", type=_count, metavar="MIB", help="size of the large file")
    add("--runs", type=_count, metavar="N", help="timed runs")
    add("--json", type=Path, metavar="FILE", help="write every figure to this file")
    add("--svg", type=Path, metavar="FILE", help="draw the ratios")
    add("--scratch", type=Path, default=Path("/var/tmp"), metavar="DIR", help="an existing folder on a real disk")
    options = parser.parse_args(arguments)
    if options.check and not options.quick:
        parser.error("--check has bounds for --quick only")
    if options.tools and OURS not in options.tools:
        parser.error(f"--tools needs {OURS}: everything is compared with it")
    return options
