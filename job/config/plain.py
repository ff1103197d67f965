"""The configuration in force as plain values, and back: exactly of the types that `effective.py` says. Pure."""

from dataclasses import asdict, fields, is_dataclass
from math import isfinite
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from job.config.settings import Config

_Kind = TypeVar("_Kind")


def to_plain(config: Config) -> dict[str, Any]:
    """Give it as JSON can hold it."""
    return asdict(config)


def rebuilt(kind: type[_Kind], table: object) -> _Kind:
    """Build a `kind`, which is a dataclass, from what JSON made of it; raises `TypeError` for anything else."""
    wanted = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass, says the caller
    if not isinstance(table, dict) or table.keys() != wanted.keys():
        raise TypeError("not the fields it should have")
    return kind(**{name: _fitting(wanted[name], value) for name, value in table.items()})


def _fitting(wanted: Any, value: object) -> Any:
    origin, parts = get_origin(wanted), get_args(wanted)
    if is_dataclass(wanted):
        return rebuilt(wanted, value)  # type: ignore[arg-type]  # a class, as annotations are
    if origin in {UnionType, Union}:  # a Literal or None is the second
        return None if value is None else _fitting(parts[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_fitting(parts[0], each) for each in value)
    if type(value) is float and not isfinite(value):
        raise TypeError("a number that no configuration has")
    if value in parts if origin is Literal else type(value) is wanted:
        return value
    raise TypeError("not of the type it should have")
