"""From the text of a configuration file to its mapping, and the place of whatever cannot be read. Pure."""

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from job.config import secrecy
from job.config.faults import Fault, printable

FORMATS = (".json", ".toml")

_TOML_PLACE = re.compile(r"\s*\(at line (\d+), column (\d+)\)|\s*\(at end of document\)")
_LONGEST = 120
_DEEPEST = 32
"""Tables and lists in one another that are looked at, in `_DEEP_KEY` too; a configuration has three."""
_DEEP_KEY = re.compile(r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A dotted key of TOML for more levels than these: reading it would take time with the square of their number."""
_TOO_DEEP = "nested too deeply; a configuration has at most three levels"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text says: `mapping` is None where it cannot be read at all."""

    mapping: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()


def parse(text: str, extension: str) -> Parsed:
    """Read `text` as its file's `extension` says. Never raises: whatever is wrong comes back as faults."""
    if extension.lower() not in FORMATS:
        told = f"{extension} is not a known extension" if extension else "the file has no extension"
        return _unreadable("the file's name", f"{told}; name it .json or .toml after what is in it")
    try:
        parsed = _json(text) if extension.lower() == ".json" else _toml(text)
    except RecursionError:
        return _unreadable("the file", _TOO_DEEP)
    return _unreadable("the file", _TOO_DEEP) if _is_too_deep(parsed.mapping) else parsed


def _is_too_deep(mapping: dict[str, Any] | None) -> bool:
    level: list[Any] = [mapping or {}]
    for _ in range(_DEEPEST):
        within = (value for each in level for value in (each.values() if isinstance(each, dict) else each))
        level = [value for value in within if isinstance(value, dict | list)]
    return bool(level)


@dataclass(slots=True)
class _Doubles:
    names: list[str] = field(default_factory=list)

    def table(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in items:
            if name in found:
                self.names.append(name)
            found[name] = value
        return found


def _json(text: str) -> Parsed:
    doubles = _Doubles()
    try:
        mapping = json.loads(text, object_pairs_hook=doubles.table, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return _unreadable(*_at(text, error.lineno, error.colno, error.msg, _json_advice(error.msg)))
    except ValueError as error:
        return _unreadable("the file", _in_words(error))
    if not isinstance(mapping, dict):
        return _unreadable("the file", "not a table; begin it with { and write keys with their values")
    faults = tuple(
        Fault(name, "", "this key is there twice in one table, and only one can count; keep one")
        for name in doubles.names
    )
    return Parsed(mapping, faults)


def _refuse_constant(word: str) -> float:
    msg = f"{word} is not a number a configuration can hold; write digits"
    raise ValueError(msg)


def _json_advice(message: str) -> str:
    if "escape" in message:
        return "in JSON write each backslash twice, as in C:\\\\Users, or use forward slashes"
    if "Extra data" in message:
        return "the file has to end with the } that closes its first {"
    return "check for a missing or extra comma, quote or bracket; JSON has no comments, TOML has"


def _toml(text: str) -> Parsed:
    if deep := _DEEP_KEY.search(text):
        return _unreadable(f"line {text.count(chr(10), 0, deep.start()) + 1}", _TOO_DEEP)
    try:
        return Parsed(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = _TOML_PLACE.search(message)
        reason = _TOML_PLACE.sub("", message)
        lines = text.split("\n")
        line, column = (int(match[1]), int(match[2])) if match and match[1] else (len(lines), len(lines[-1]) + 1)
        return _unreadable(*_at(text, line, column, reason, "text needs quotes, a list [ and ], a table a [name]"))
    except ValueError as error:
        return _unreadable("the file", _in_words(error))


def _in_words(error: ValueError) -> str:
    """Word what Python says of a number of thousands of digits, which speaks of Python."""
    return "a number has too many digits; write a shorter one" if "integer string" in str(error) else str(error)


def _at(text: str, line: int, column: int, reason: str, advice: str) -> tuple[str, str]:
    shown = printable(secrecy.quotable(text.split("\n")[line - 1])[:_LONGEST])
    quoted = f" in: {shown}" if shown else ""
    return f"line {line}, column {column}", f"{reason}{quoted}; {advice}"


def _unreadable(place: str, message: str) -> Parsed:
    return Parsed(None, (Fault(place, "", message),))
