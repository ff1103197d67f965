"""Faults of a configuration as messages: the key, its value, and a valid example. Pure."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from job.config import describe
from job.config.consistency import KeyPath, spell
from job.config.model import WrittenConfig
from job.core.redaction import MASK, without_login

_LONGEST = 120
_WIDEST_NUMBER = 256
MAY_HOLD_A_LOGIN = frozenset({"metrics.pushgateway", "metrics.pushgateway_username"})
"""Keys whose values may contain a login by mistake."""
_NO_LOGIN = re.compile(r"(https?:/{0,3})?[A-Za-z0-9_.-]*(:\d{0,5})?(/[A-Za-z0-9_./-]*)?")
"""An address or name that cannot contain part of a login."""
_SECRETS = frozenset(key.name for key in describe.all_keys() if key.is_secret)
_TABLES = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_LISTS = ("tuple_type", "list_type")


class Fault(NamedTuple):
    """A fault: `place` is the key, `value` its value, empty if it must not be shown, `message` the next step."""

    place: str
    value: str
    message: str

    def __str__(self) -> str:
        """Format the fault as one printable line."""
        printable_value = f" = {self.value}" if self.value else ""
        return printable(f"{self.place}{printable_value}: {self.message}")


def faults_of(error: ValidationError, origins: Mapping[str, str]) -> list[Fault]:
    """Return all faults in `error`. `origins` has the sources of keys that are not from the file."""
    return [_fault(found, origins) for found in error.errors(include_url=False)]


def nearest(wanted: str, known: tuple[str, ...] | list[str]) -> str:
    """Return the known name most similar to `wanted`, or an empty text."""
    plain = re.sub(r"[\s-]+", "_", wanted.strip())
    plain = plain.upper() if known and known[0].isupper() else plain.lower()
    return next(iter(get_close_matches(plain[:_LONGEST], known, n=1, cutoff=0.6)), "")


def printable_value(value: object) -> str:
    """Format a value as short JSON on one line, without logins."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping | BaseModel):
        return "a table"
    if isinstance(value, int) and value.bit_length() > _WIDEST_NUMBER:
        return "a number with very many digits"
    text = json.dumps(without_login(value) if isinstance(value, str) else value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def printable(text: str) -> str:
    """Escape line ends, control and undecodable characters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _fault(found: Any, origins: Mapping[str, str]) -> Fault:
    place: KeyPath = found["loc"]
    kind: str = found["type"]
    name = spell(place) or "the configuration"
    origin = origins.get(_key_of(place), "").removeprefix("env ")
    place_text = f"{name} (from {origin})" if origin else name
    if kind == "extra_forbidden":
        # The value is not shown: the key may be that of a password, misspelt.
        return Fault(place_text, "", _unknown(place))
    if kind == "missing":
        return Fault(place_text, "", f"missing; write the {_meaning(place)}")
    return Fault(place_text, _value(place, kind, found["input"]), _message(kind, found))


def _key_of(place: KeyPath) -> str:
    return spell(place[:2]) if place and place[0] in describe.TABLES else str(place[0]) if place else ""


def _value(place: KeyPath, kind: str, value: object) -> str:
    may_be_login = isinstance(value, str) and not _NO_LOGIN.fullmatch(value)
    if _key_of(place) in _SECRETS or (_key_of(place) in MAY_HOLD_A_LOGIN and may_be_login):
        return MASK
    # A value in place of a table may be a secret of that table.
    return "" if kind in _TABLES else printable_value(value)


def _unknown(place: KeyPath) -> str:
    wanted, table = str(place[-1]), place[:-1]
    near = nearest(wanted, describe.known_at(table))
    if near:
        return f"unknown key; the nearest known one is {near}"
    elsewhere = next((key.name for key in describe.all_keys() if key.name.rpartition(".")[2] == wanted), "")
    if elsewhere:
        return f"unknown key here; it belongs at {elsewhere}"
    return "unknown key, and no known one is like it; `truecopy config schema` lists all"


def _meaning(place: KeyPath) -> str:
    field = describe.SECTIONS.get(str(place[0]), WrittenConfig).model_fields.get(str(place[-1]))
    text = (field.description if field else None) or "value"
    return _lowered(text).rstrip(".")


def _message(kind: str, found: Any) -> str:
    context: Mapping[str, Any] = found.get("ctx", {})
    if kind == "conflict":
        return str(context["text"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"not one of the choices; write {context['expected']}"
    if kind in _TABLES:
        return "not a table; write keys with their values"
    if kind in _LISTS:
        return "not a list; write the values in [ and ], even a single one"
    if kind.startswith(("int_", "greater_", "less_")):
        return _number_message(kind, context)
    return _WORDINGS.get(kind) or _lowered(str(found["msg"]))


def _number_message(kind: str, context: Mapping[str, Any]) -> str:
    if kind.startswith("greater_"):
        return f"too small; write {next(iter(context.values()))} or more"
    if kind.startswith("less_"):
        return f"too large; write {next(iter(context.values()))} or less"
    return "not a whole number; write digits, such as 9477"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


_WORDINGS = {
    "string_type": "not text; write it in quotes",
    "string_unicode": "not valid Unicode; write it in UTF-8, without lone surrogates",
    "string_too_short": "empty; write a value or leave the key out",
    "string_pattern_mismatch": (
        "not a usable name; write a letter or digit, then up to 63 letters, digits, dots, dashes and underscores"
    ),
    "bool_type": "not a switch; write true or false",
    "bool_parsing": "not a switch; write true or false",
}
