"""The command line of the matrix: what is asked for, output, exit code."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench import machine
from tests.faults.matrix import measured, report
from tests.faults.matrix.finding import Finding
from tests.faults.matrix.matrix import ROWS, obstacles, perform, tools_of
from tests.faults.matrix.row import Row
from tests.faults.matrix.tools import TOOLS, Tool

_CANNOT, _WORSE = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix. Gives 0; 1 if Truecopy is below 3 where nothing is to come later; 2 if something is missing."""
    options = _parsed(arguments)
    rows = [row for row in ROWS if not options.rows or row.number in options.rows]
    tools = [tool for tool in TOOLS if not options.tools or tool.name in options.tools]
    if options.list:
        sys.stdout.write("".join(f"{row.number:>4}  {row.fault}\n" for row in rows))
        return 0
    if missing := obstacles(rows, tools):
        sys.stderr.write("".join(f"error: {line}\n" for line in missing))
        return _CANNOT
    signal.signal(signal.SIGTERM, _stop)
    document = _run(rows, tools, options.scratch)
    if options.json:
        options.json.write_text(measured.written(document), encoding="utf-8")
    sys.stdout.write(report.whole(document))
    worse = report.worse(document)
    if worse:
        sys.stderr.write(f"error: Truecopy is below 3 in {', '.join(worse)}\n")
    return _WORSE if worse else 0


def _run(rows: Sequence[Row], tools: Sequence[Tool], scratch: Path) -> dict[str, Any]:
    begin = time.monotonic()
    findings: dict[str, dict[str, Finding]] = {}
    head: dict[str, object] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe() | {"file_system": machine.file_system(scratch)},
        "versions": {tool.name: tool.version for tool in tools},
    }
    base = Path(tempfile.mkdtemp(prefix="truecopy-faults-", dir=scratch))
    try:
        for row in rows:
            for tool in tools_of(row, tools):
                sys.stderr.write(f"faults: [{time.monotonic() - begin:4.0f} s] {row.number} {tool.name}\n")
                findings.setdefault(row.number, {})[tool.name] = perform(row, tool, base)
    finally:
        shutil.rmtree(base)
    head["seconds"] = round(time.monotonic() - begin)
    return measured.document(head, tuple(rows), findings)


def _stop(number: int, _frame: FrameType | None) -> None:
    # As an exception, so that mounts, devices and the tool at work go away.
    sys.exit(128 + number)


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
        prog="tests/faults/matrix/run.py", description="What goes wrong, made for real, and what each tool makes of it."
    )
    add = parser.add_argument
    add("--rows", type=_names(row.number for row in ROWS), metavar="A,B", help="these rows only")
    add("--tools", type=_names(tool.name for tool in TOOLS), metavar="A,B", help="these tools only")
    add("--list", action="store_true", help="list the rows and do nothing")
    add("--json", type=Path, metavar="FILE", help="write all that was found to this file")
    add("--scratch", type=Path, default=Path("/var/tmp"), metavar="DIR", help="an existing folder on a real disk")
    return parser.parse_args(arguments)
