"""The results as JSON: what `make faults` measured, committed, from which tables of documents are generated."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.matrix.finding import Finding, plain
from tests.faults.matrix.reference import note
from tests.faults.matrix.row import Row

COMMITTED = Path(__file__).with_name("measured.json")

Findings = Mapping[str, Mapping[str, Finding]]
"""By the row's number, then by the tool's name."""


def document(head: Mapping[str, object], rows: tuple[Row, ...], findings: Findings) -> dict[str, Any]:
    """Put together what is to be kept."""
    return {**head, "rows": {row.number: _of(row, findings[row.number]) for row in rows if row.number in findings}}


def _of(row: Row, findings: Mapping[str, Finding]) -> dict[str, object]:
    told = {"fault": row.fault, "later": row.later, "note": row.note}
    kept: dict[str, object] = {name: text for name, text in told.items() if text}
    return kept | {"tools": {tool: _cell(row.number, tool, finding) for tool, finding in findings.items()}}


def _cell(row: str, tool: str, finding: Finding) -> dict[str, object]:
    differs = note(row, tool, finding.score)
    return plain(finding) | ({"note": differs} if differs else {})


def written(document: Mapping[str, Any]) -> str:
    """Write it for a file."""
    return json.dumps(document, indent=1) + "\n"


def read() -> dict[str, Any]:
    """Give the committed results."""
    found: dict[str, Any] = json.loads(COMMITTED.read_text("utf-8"))
    return found
