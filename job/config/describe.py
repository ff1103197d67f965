"""Descriptions of the keys, derived from the model: for `config show`, the schema and the faults."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretStr

from job.config.model import (
    BrakeConfig,
    CopyOptions,
    LogRotateConfig,
    MetricsConfig,
    PairConfig,
    VersionsConfig,
    WrittenConfig,
)
from job.config.settings import PREFIX
from job.core.redaction import MASK

TABLES: Mapping[str, type[BaseModel]] = {
    "versions": VersionsConfig,
    "brake": BrakeConfig,
    "log_rotate": LogRotateConfig,
    "metrics": MetricsConfig,
}
"""The single tables of a configuration, by key."""
SECTIONS: Mapping[str, type[BaseModel]] = {**TABLES, "pairs": PairConfig}
"""All tables of a configuration, by key."""
OF_ALL_PAIRS = "As above, for this pair."
"""Description of the keys that a pair has besides its own."""


class Key(NamedTuple):
    """One key: its dotted name, and the environment variable that overrides it."""

    name: str
    variable: str
    is_list: bool
    """Lists are JSON in environment variables."""
    is_secret: bool


@cache
def all_keys() -> tuple[Key, ...]:
    """Describe all keys with a value: those of the job, the options of all pairs, then the keys of tables."""
    top = sorted(_keys(WrittenConfig, ""), key=lambda key: key.name in CopyOptions.model_fields)
    return (*top, *(key for name, table in TABLES.items() for key in _keys(table, f"{name}.")))


def known_at(place: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the valid keys of the table at `place`."""
    section = SECTIONS.get(str(place[0]), WrittenConfig) if place else WrittenConfig
    if place and place[-1] in TABLES:  # of a pair, too
        section = TABLES[str(place[-1])]
    return tuple(section.model_fields)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file."""
    described = WrittenConfig.model_json_schema()
    for each in described["$defs"]["PairConfig"]["properties"].values():
        each.setdefault("description", OF_ALL_PAIRS)
    # Editors find the schema by this key; config/parse.py removes it.
    described["properties"] = {"$schema": {"type": "string"}, **described["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Truecopy configuration",
        **_untitled(described),
    }


def schema_text() -> str:
    """Return the schema as text."""
    return json.dumps(schema(), indent=2) + "\n"


def values_of(written: WrittenConfig) -> dict[str, Any]:
    """Return the values of all keys by dotted name, as JSON values with masked secrets."""
    plain = written.model_dump(mode="json")
    found: dict[str, Any] = {}
    for key in all_keys():
        value: Any = plain
        for part in key.name.split("."):
            value = value[part]
        found[key.name] = MASK if key.is_secret and value is not None else _plain(value)
    found["pairs"] = [pair.model_dump(mode="json", exclude_unset=True) for pair in written.pairs]
    return found


def _keys(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        kinds = tuple(_kinds(field.annotation))
        if any(table in kinds for table in TABLES.values()):
            continue
        yield Key(
            name=prefix + name,
            variable=PREFIX + (prefix + name).replace(".", "_").upper(),
            is_list=tuple in kinds,
            is_secret=SecretStr in kinds,
        )


def _kinds(annotation: Any) -> Iterator[Any]:
    yield get_origin(annotation) or annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _plain(value: Any) -> Any:
    """Return whole seconds as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _untitled(node: Any) -> Any:
    """Remove the titles that pydantic generates from the keys."""
    if isinstance(node, Mapping):
        return {name: _untitled(part) for name, part in node.items() if not (name == "title" and isinstance(part, str))}
    return [_untitled(part) for part in node] if isinstance(node, list) else node
