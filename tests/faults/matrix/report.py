"""The table for a terminal, and those of the documents. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.bench.report import table
from tests.faults.matrix.tools import OURS, TOOLS

NOT_ASKED = "n/a"
_BEST = 3


def whole(document: Mapping[str, Any]) -> str:
    """Write the table with what was found in each cell that is not as it should be."""
    lines = [f"{number} {tool}: {'; '.join(_why(cell))}" for number, tool, cell in _cells(document) if _why(cell)]
    return f"{_table(document)}\n" + "".join(f"{line}\n" for line in lines)


def worse(document: Mapping[str, Any]) -> list[str]:
    """Give the rows in which Truecopy is below 3 though nothing is to come later."""
    rows = {number: row for number, row in document["rows"].items() if OURS in row["tools"] and "later" not in row}
    return [number for number, row in rows.items() if row["tools"][OURS]["score"] < _BEST]


def scores(document: Mapping[str, Any]) -> str:
    """Write how many rows of each tool have each score."""
    found = Counter((tool, cell["score"]) for _, tool, cell in _cells(document))
    rows = [[_emphasised(score), *(str(found[tool.name, score]) for tool in TOOLS)] for score in range(_BEST, -1, -1)]
    return table([["score", *(tool.title for tool in TOOLS)], *rows])


def section(document: Mapping[str, Any]) -> str:
    """Write the machine and the versions, the table, and the conditions of some rows."""
    machine = document["machine"]
    peers = ", ".join(_version(name, said) for name, said in document["versions"].items() if name != "original")
    told = (
        f"Measured on {str(document['date'])[:10]} by `make faults` in {document['seconds'] / 60:.0f} minutes: "
        f"{machine['cores']} cores of {machine['processor']}, Linux {str(machine['kernel']).partition('-')[0]}, Python "
        f"{machine['python']}; {peers}."
    )
    notes = [f"- Row {number}: {row['note']}\n" for number, row in document["rows"].items() if "note" in row]
    return f"{told}\n\n{_table(document)}\n{''.join(notes)}"


def _table(document: Mapping[str, Any]) -> str:
    rows = [["", "what goes wrong", *(tool.title for tool in TOOLS)]]
    for number, row in document["rows"].items():
        rows.append([number, row["fault"], *(_shown(tool.name, row) for tool in TOOLS)])
    return table(rows)


def _shown(tool: str, row: Mapping[str, Any]) -> str:
    cell = row["tools"].get(tool)
    if cell is None:
        return NOT_ASKED
    score = _emphasised(cell["score"])
    left = f", {cell['left']} files left" if cell.get("left") else ""
    later = f", later: {row['later']}" if tool == OURS and cell["score"] < _BEST and "later" in row else ""
    return f"{score}{left}{later}"


def _emphasised(score: int) -> str:
    return f"**{score}**" if score < 2 else str(score)


def _cells(document: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [(number, tool, cell) for number, row in document["rows"].items() for tool, cell in row["tools"].items()]


def _why(cell: Mapping[str, Any]) -> list[str]:
    if cell["score"] == _BEST:
        return []
    found = [*cell.get("wrong", []), *cell.get("absent", []), *cell.get("lesser", [])]
    ended = "it hung" if cell["code"] is None else f"exit {cell['code']}"
    return [f"{cell['score']}", *found, ended, *([cell["said"]] if cell["said"] else [])]


def _version(name: str, said: str) -> str:
    words = [word.removeprefix("v") for word in said.split()]
    number = next((word for word in words if word[:1].isdigit()), said)
    return f"{name} {number}"
