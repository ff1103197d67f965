"""Cache the last valid configuration, so that a run with the same file and environment starts without pydantic.

One small JSON file in a private folder. It is used only if its key matches (made of the same bytes by the same program)
and only this user can have written it; anything else counts as a miss.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import isfinite
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from job.config.settings import Config
from job.core.stored_values import UNUSABLE, seconds_of
from job.fs.dircursor import closing_fd
from job.fs.mounts import is_below
from job.fs.own_files import replace_file
from job.fs.private_folders import open_private, places, read
from job.fs.trusted_path import make_folders

_MOST_BYTES = 1 << 20
_Value = TypeVar("_Value")


class ConfigCache:
    """The cache of the configuration at one path."""

    def __init__(self, config_path: str, environ: Mapping[str, str]) -> None:
        self._path = os.path.abspath(config_path)
        self._places = places(environ)
        # 256 names at most, so that temporary configurations leave few files behind.
        self._name = f"known-{hashlib.sha256(os.fsencode(self._path)).hexdigest()[:2]}.json"

    def load(self, key: str) -> Config | None:
        """Return the configuration stored under `key`; None for a miss."""
        for document in self._documents():
            with suppress(*UNUSABLE):
                if document["key"] == key:
                    return rebuilt(Config, document["config"])
        return None

    def load_last(self) -> tuple[Config, float] | None:
        """Return the newest configuration of this path, even if its file has changed, and its time (epoch)."""
        found = []
        for document in self._documents():
            with suppress(*UNUSABLE):
                if document["path"] == self._path:  # two paths can share a name
                    found.append((rebuilt(Config, document["config"]), seconds_of(document["kept_timestamp_seconds"])))
        return max(found, key=lambda each: each[1], default=None)

    def store(self, key: str, config: Config, now: float) -> None:
        """Store a valid configuration without secrets, at `now` (epoch seconds); a failure is ignored."""
        document = {"key": key, "path": self._path, "kept_timestamp_seconds": now, "config": as_table(config)}
        if len(content := json.dumps(document).encode() + b"\n") > _MOST_BYTES:
            return
        sources = [pair.source for pair in config.effective_pairs]
        mirrors = [pair.dest for pair in config.effective_pairs]
        for place in self._places:
            if place.outside_trees and any(is_below(place.base, root) for root in (*sources, *mirrors)):
                continue  # the preflight refuses such a configuration
            with suppress(OSError):
                if place.persistent and not place.outside_trees:
                    os.close(make_folders(place.base, sources, mirrors))
                with closing_fd(open_private(place, make=True)) as folder:
                    replace_file(folder, os.fsencode(self._name), content)
                return

    def _documents(self) -> Iterator[Any]:
        for place in self._places:
            with suppress(OSError, *UNUSABLE):
                yield json.loads(read(place, self._name, most_bytes=_MOST_BYTES))


def as_table(value: object) -> object:
    """Return the JSON form of a named tuple."""
    if isinstance(value, tuple):
        values = map(as_table, value)
        return dict(zip(value._fields, values, strict=True)) if hasattr(value, "_fields") else [*values]
    return value


def rebuilt(kind: type[_Value], table: object) -> _Value:
    """Build a named tuple from its JSON form. Raises `TypeError` unless each value has exactly the annotated type."""
    wanted = kind.__annotations__
    if not isinstance(table, dict) or table.keys() != wanted.keys():
        raise TypeError("other fields")
    return kind(**{name: _value_as(wanted[name], value) for name, value in table.items()})


def _value_as(wanted: Any, value: object) -> Any:
    origin, parts = get_origin(wanted), get_args(wanted)
    if hasattr(wanted, "_fields"):
        return rebuilt(wanted, value)
    if origin in {UnionType, Union}:  # a Literal or None is a Union
        return None if value is None else _value_as(parts[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_value_as(parts[0], each) for each in value)
    if (value in parts if origin is Literal else type(value) is wanted) and (
        type(value) is not float or isfinite(value)
    ):
        return value
    raise TypeError("another type")
