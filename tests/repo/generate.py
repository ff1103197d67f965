"""Write what is made from the code: the config schema, the tables of the documents, the chart of what was measured.

Run by path, `python tests/repo/generate.py`; with `--check` it writes nothing and exits 1 if something would change.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from job.config import describe  # noqa: E402  (only now found, where the project is not installed)
from job.errors import Exit  # noqa: E402
from tests.bench import budget, chart, readme, results  # noqa: E402
from tests.faults.matrix import measured as matrix  # noqa: E402
from tests.faults.matrix import report  # noqa: E402
from tests.repo import catalogue, config_keys  # noqa: E402


def between(text: str, marker: str, content: str) -> str:
    begin, end = f"<!-- {marker}: made by `make docs` -->\n", f"<!-- end of {marker} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        sys.exit(f"the marker {begin.strip()} and its end should be there once")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def exit_codes() -> str:
    source = (ROOT / "job/errors.py").read_text("utf-8")
    rows = ["| exit code | meaning |", "| --- | --- |"]
    for code in Exit:
        meaning = re.search(rf'^    {code.name} = \d+\n    """(.+?)"""', source, re.MULTILINE)
        if meaning is None:
            sys.exit(f"Exit.{code.name} in job/errors.py has no meaning written under it")
        rows.append(f"| {code.value} | {meaning[1]} |")
    return "\n".join(rows)


def fidelity() -> str:
    results: dict[str, dict[str, str]] = json.loads((ROOT / "tests/fidelity/fidelity.json").read_text("utf-8"))
    kinds = next(iter(results.values()))
    lines = [["", *results], ["---"] * (len(results) + 1)]
    lines += [[kind, *(_shown(cells[kind]) for cells in results.values())] for kind in kinds]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(cell: str) -> str:
    return f"**{cell}**" if cell in {"refused", "lost"} else cell


def generated() -> dict[Path, str]:
    measured = (ROOT / "tests/bench/measured.json").read_text("utf-8")
    tables = {
        "config/README.md": {"keys": config_keys.key_table(), "keys of a pair": config_keys.pair_table()},
        "job/REFERENCE.md": {"events": catalogue.catalogue(), "metrics": catalogue.metric_catalogue()},
        "config/monitoring/README.md": {"metrics": catalogue.metric_catalogue()},
        "README.md": {
            "exit codes": exit_codes(),
            "fault scores": report.scores(matrix.read()),
            "measured": readme.section(measured),
        },
        "tests/bench/README.md": {"budgets": budget.section()},
        "tests/faults/README.md": {"faults": report.section(matrix.read())},
        "tests/fidelity/README.md": {"fidelity": fidelity()},
    }
    made = {
        ROOT / "config/backup_config.schema.json": describe.schema_text(),
        ROOT / "tests/bench/measured.svg": chart.drawn(*results.read(measured)),
    }
    for name, parts in tables.items():
        text = (ROOT / name).read_text("utf-8")
        for marker, content in parts.items():
            text = between(text, marker, content.rstrip("\n"))
        made[ROOT / name] = text
    return made


def main(arguments: list[str]) -> int:
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what the code says; run `make docs`\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(generated()[path], "utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
