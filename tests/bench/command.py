"""The command line of the benchmark: sizes, order of the works, output."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tests.bench import machine, report
from tests.bench.comparison import Comparison, Result
from tests.bench.errors import BenchError
from tests.bench.scratch import Scratch, Sizes, opened
from tests.bench.tools import TOOLS, Tool
from tests.bench.works import WORKS

MIB = 1024 * 1024
FULL = Sizes(files=100_000, large=3072 * MIB, runs=5)
QUICK = Sizes(files=2_000, large=64 * MIB, runs=3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Gives 0, or 1 when a tool failed or made another tree."""
    options = _parsed(arguments)
    default = QUICK if options.quick else FULL
    sizes = Sizes(options.files or default.files, default.large, options.runs or default.runs)
    signal.signal(signal.SIGTERM, _stop)
    try:
        _benchmark(TOOLS, sizes, options.scratch, options.json)
    except BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _benchmark(tools: Sequence[Tool], sizes: Sizes, parent: Path, json_file: Path | None) -> None:
    absent = {tool.name: tool.absent for tool in tools if tool.absent}
    present = [tool for tool in tools if tool.name not in absent]
    head: dict[str, object] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": {tool.name: tool.version() for tool in present},
        "absent": absent,
        "sizes": {"files": sizes.files, "large_bytes": sizes.large, "runs": sizes.runs},
    }
    with opened(parent, sizes, len(present)) as scratch:
        head["file_systems"] = {place: machine.file_system(root) for place, root in scratch.folders.items()}
        results = _results(present, scratch)
    ours = next(tool.name for tool in tools if tool.ours)
    if json_file:
        text = json.dumps({**head, "works": report.raw(results, ours)}, indent=2)
        json_file.write_text(f"{text}\n", encoding="utf-8")
    sys.stdout.write(f"{report.headline(head)}\n{report.ratio_table(results, tools, absent)}\n")
    sys.stdout.write(f"{report.cost_table(results)}\n{report.notes(results, absent)}")


def _results(tools: Sequence[Tool], scratch: Scratch) -> list[Result]:
    comparison = Comparison(tools, scratch)
    _tell("each tool makes its mirror")
    comparison.stand_mirrors()
    results = []
    for work in WORKS:
        _tell(work.title)
        results.append(comparison.perform(work))
    return results


def _tell(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def _stop(number: int, _frame: FrameType | None) -> None:
    # As an exception, so that the running tool is ended and the scratch folders go away.
    sys.exit(128 + number)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run.py", description="Time Truecopy against its peers, as ratios."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--files", type=_count, metavar="N", help=f"small files ({FULL.files}; quick {QUICK.files})")
    parser.add_argument("--runs", type=_count, metavar="N", help=f"timed runs ({FULL.runs}; quick {QUICK.runs})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to this file")
    parser.add_argument(
        "--scratch", type=Path, default=Path("/var/tmp"), metavar="DIR", help="an existing folder on a real file system"
    )
    return parser.parse_args(arguments)
