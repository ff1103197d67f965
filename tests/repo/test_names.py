"""Names in `job` are terms of the field: no word of the old dialect, no class name twice. Lengths have limits."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for path in (ROOT / "job").rglob("*.py") if path.read_text("utf-8").strip())
MOST_LINES_OF_A_FUNCTION = 60

DIALECT = {
    "anchor": "root_check",
    "bench": "PairContext, PairRun",
    "book": "table",
    "breathe": "checkpoint",
    "care": "scan depth",
    "crew": "WorkerPool",
    "dismiss": "kill",
    "dress": "set_initial",
    "errands": "WorkItem",
    "eyes": "scanner",
    "gate": "preflight",
    "hire": "start",
    "holey": "sparse",
    "hopeless": "exhausted",
    "leftovers": "temp journal",
    "likeness": "content compare",
    "linkbook": "hard-link table",
    "looker": "scanner",
    "lookers": "scanners",
    "looking": "scanning",
    "meter": "Progress",
    "notes": "unsupported metadata",
    "onward": "followups",
    "outlook": "options_key",
    "recruit": "start_worker",
    "rounds": "WorkQueue",
    "steady": "stable_read",
    "sure": "complete",
    "survey": "parallel scan",
    "tacho": "RateLimiter",
    "tidings": "pending_events",
    "visitor": "FolderSync",
    "whats": "kinds",
}
"""Refused words, and the terms to use instead."""

EXCEPTIONS: dict[str, str] = {}
"""Names that contain such a word in its ordinary sense, each with the reason."""

LONG_FUNCTIONS: dict[str, str] = {}
"""Files and functions that are longer, each with the reason."""


class Name(NamedTuple):
    """A name that the code gives to something."""

    text: str
    at: str


def names_of(path: Path) -> Iterator[Name]:
    """Give every name that a module defines: its own, and those of classes, functions, parameters and variables."""
    place = str(path.relative_to(ROOT))
    for part in path.relative_to(ROOT).with_suffix("").parts:
        yield Name(part, place)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.ClassDef(name=text) | ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text):
                yield Name(text, f"{place}:{node.lineno}")
            case ast.arg(arg=text) | ast.Name(id=text, ctx=ast.Store()) | ast.Attribute(attr=text, ctx=ast.Store()):
                yield Name(text, f"{place}:{node.lineno}")
            case ast.alias(asname=str(text)) | ast.ExceptHandler(name=str(text)):
                yield Name(text, f"{place}:{node.lineno}")
            case ast.MatchAs(name=str(text)) | ast.MatchStar(name=str(text)) | ast.MatchMapping(rest=str(text)):
                yield Name(text, f"{place}:{node.lineno}")
            case _:
                pass


def words_of(name: str) -> list[str]:
    """Split a name of either case into its words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def offenders() -> dict[str, list[str]]:
    """Give the places of each name that has a refused word."""
    found: dict[str, list[str]] = {}
    for path in MODULES:
        for name in names_of(path):
            if name.text not in EXCEPTIONS and DIALECT.keys() & set(words_of(name.text)):
                found.setdefault(name.text, []).append(name.at)
    return found


def test_no_name_has_a_word_of_the_old_dialect() -> None:
    assert offenders() == {}


def test_every_exception_is_still_needed() -> None:
    used = {name.text for path in MODULES for name in names_of(path)}

    assert EXCEPTIONS.keys() - used == set()
    assert [name for name in EXCEPTIONS if not DIALECT.keys() & set(words_of(name))] == []


def test_no_function_is_longer_than_one_story() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    too_long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION}
    assert too_long.keys() - LONG_FUNCTIONS.keys() == set()
