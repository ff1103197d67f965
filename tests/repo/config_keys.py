"""The tables of all keys of the configuration, as Markdown, for the docs. Pure."""

import json
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from job.config.describe import OF_ALL_PAIRS, TABLES, Key, all_keys
from job.config.fields import Words
from job.config.model import PairConfig, WrittenConfig


def key_table() -> str:
    """Give all keys as a Markdown table."""
    head = ("key", "value", "default", "environment variable", "meaning")
    rows: list[tuple[str, ...]] = []
    for key in all_keys():
        field = field_of(key)
        rows.append((*_about(key.name, field), f"`{key.variable}`", field.description or ""))
    return _markdown(head, rows)


def pair_table() -> str:
    """Give the keys of one pair as a Markdown table."""
    head = ("key", "value", "default", "meaning")
    fields = PairConfig.model_fields
    return _markdown(
        head, [(*_about(name, field), field.description or OF_ALL_PAIRS) for name, field in fields.items()]
    )


def field_of(key: Key) -> FieldInfo:
    """Give the field of a key outside of `pairs`."""
    section, _, name = key.name.rpartition(".")
    return (TABLES[section] if section else WrittenConfig).model_fields[name]


def words_of(field: FieldInfo) -> str:
    """Give the values of a field in words."""
    return _words(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)


def _about(name: str, field: FieldInfo) -> tuple[str, str, str]:
    return f"`{name}`", words_of(field), _default(field)


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _words(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated_words(parts[0], parts[1:])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in parts)
    if origin is tuple:
        return "list of tables" if parts[0] is PairConfig else f"list: {_words(parts[0])}"
    if parts:
        return " or ".join(_words(part) for part in parts if part is not NoneType)
    return {bool: "true or false", int: "whole number", str: "text", SecretStr: "text, secret"}[annotation]


def _annotated_words(annotation: Any, metadata: tuple[Any, ...]) -> str:
    marked = [mark.text for mark in metadata if isinstance(mark, Words)]
    least = [mark.ge for mark in metadata if hasattr(mark, "ge")]
    most = [mark.le for mark in metadata if hasattr(mark, "le")]
    if marked:
        return str(marked[-1])
    return f"{least[0]} to {most[0]}" if least and most else _words(annotation)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "not set"
    value = field.default
    return f"`{json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)}`"
