"""Write what the README says of the figures, from the JSON of the measurement that is committed. Pure."""

import re
from collections.abc import Mapping, Sequence

from tests.bench.report import table
from tests.bench.results import Result, amount, read
from tests.bench.targets import lines

VERSION = re.compile(r"\d+(?:\.\d+)+\S*(?: \([0-9a-f]{7,}(?:-dirty)?\))?")


def section(text: str) -> str:
    """Say on what was measured and how, then each target with what came of it."""
    head, results = read(text)
    rows = [["work", "against", "at most (wanted)", "measured", "verdict"], *lines(results)]
    return f"{_told(head, results)}\n\n{table(rows)}"


def _told(head: Mapping[str, Mapping[str, object]], results: Sequence[Result]) -> str:
    machine = head["machine"]
    programs = {name: said for name, said in head["versions"].items() if name != "original"}
    versions = ", ".join(f"{name} {_number(str(said))}" for name, said in programs.items())
    places = ", ".join(sorted({str(kind) for kind in head["file_systems"].values()}))
    runs = sorted({len(costs) for result in results for costs in result.costs.values()})
    times = f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else str(runs[0] if runs else 0)
    return (
        f"Measured on {str(head['date'])[:10]}: {machine['cores']} cores of {machine['processor']}, "
        f"{amount(int(str(machine['memory_bytes'])))} of memory, Linux {str(machine['kernel']).partition('-')[0]}, "
        f"Python {machine['python']}; {places}; {versions}.\n"
        f"Wall time of whole processes with default settings, as a share of the peer's: "
        f"median (least..most) of {times} paired runs."
    )


def _number(said: str) -> str:
    found = VERSION.search(said)
    return found[0] if found else said
