"""Names in `job` are terms of the field: no word of the old dialect, no class name twice. Lengths have limits."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for path in (ROOT / "job").rglob("*.py") if path.read_text("utf-8").strip())
MOST_MODULES = 181
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

DIALECT = {
    "anchor": "root_check",
    "bare": "plain, empty",
    "bench": "PairContext, PairRun",
    "book": "table",
    "breathe": "checkpoint",
    "care": "scan depth",
    "crew": "WorkerPool",
    "crowd": "large_dir",
    "deeds": "Actions",
    "desk": "queue",
    "dismiss": "kill",
    "division": "HugeFolders",
    "dress": "set_initial",
    "effective": "settings",
    "errand": "WorkItem",
    "errands": "WorkItem",
    "eyes": "scanner",
    "gate": "preflight",
    "glance": "FolderScan",
    "guest": "PageCacheGuard",
    "hear": "poll",
    "heard": "received",
    "hire": "start",
    "holey": "sparse",
    "home": "state folder",
    "hopeless": "exhausted",
    "leftovers": "temp journal",
    "likeness": "content compare",
    "linkbook": "hard-link table",
    "look": "scan",
    "looked": "scanned",
    "looker": "scanner",
    "lookers": "scanners",
    "looking": "scanning",
    "looks": "scans",
    "mannerly": "polite, low-priority",
    "means": "Policy",
    "member": "link_name",
    "members": "link_names",
    "mend": "fix_metadata",
    "mended": "fixed",
    "meter": "Progress",
    "mine": "own",
    "nobodys": "ownerless",
    "notes": "unsupported metadata",
    "onward": "followups",
    "outlook": "options_key",
    "pace": "RateLimiter",
    "placed": "BatchResult",
    "placing": "renaming",
    "post": "WorkerPipe",
    "pulse": "health file",
    "recall": "index lookup",
    "recruit": "start_worker",
    "room": "free_space",
    "rounds": "WorkQueue",
    "shelf": "versions folder",
    "sight": "view",
    "somebody": "user",
    "spelled": "normalised",
    "spelling": "filename rules",
    "spellings": "filename rules",
    "squeezed": "compressed",
    "steady": "stable_read",
    "sure": "complete",
    "survey": "parallel scan",
    "tacho": "RateLimiter",
    "team": "supervisor",
    "tell": "log, report, emit",
    "teller": "reporter",
    "telling": "reporting",
    "theirs": "other",
    "tidings": "pending_events",
    "told": "logged, reported",
    "trail": "DirCursor",
    "trails": "cursors",
    "trickle": "WritebackLimiter",
    "twin": "MirrorReader",
    "unheld": "unsupported metadata",
    "unsure": "incomplete",
    "untold": "not logged",
    "unvisited": "not synced",
    "visit": "sync folder",
    "visited": "synced",
    "visitor": "FolderSync",
    "visits": "folder syncs",
    "wall": "sandbox",
    "walled": "sandboxed",
    "whats": "kinds",
    "whereabouts": "hang diagnosis",
    "who": "holder, owner, user",
}
"""Refused words, and the terms to use instead."""

EXCEPTIONS = {
    "effective": "effective user and groups, as POSIX has them",
    "effective_pairs": "pairs after defaults and options were applied",
    "state_home": "XDG_STATE_HOME",
    "_home_by_number": "the home folder of a user",
    "_looks_unmounted": "a verb: a folder looks unmounted",
    "_wall": "the wall clock",
    "wall": "the wall clock",
}
"""Names that have such a word in its ordinary sense."""

LONG_FILES: dict[str, str] = {}
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


def test_no_class_name_occurs_twice() -> None:
    classes = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )

    assert [name for name, count in classes.items() if count > 1] == []


def test_the_package_has_a_limited_number_of_modules() -> None:
    assert len([path for path in MODULES if path.name != "__init__.py"]) <= MOST_MODULES


def test_no_module_is_longer_than_a_review_can_hold() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}

    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES and name not in LONG_FILES} == {}


def test_no_function_is_longer_than_one_story() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    too_long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION}
    assert too_long.keys() - LONG_FUNCTIONS.keys() == set()
