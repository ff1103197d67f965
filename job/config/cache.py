"""The configuration that was found valid last, so that a run with the same one need not find that out again.

One small file in a private folder. It is believed only if nobody else can have written it and its key says that it
was made of the same bytes by the same program; whatever else it is, the answer is just that nothing is known.

The configuration in force as plain values, and back: exactly of the types that `effective.py` says. Pure.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from math import isfinite
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from job.config.settings import Config
from job.core.stored import UNUSABLE, seconds_of
from job.fs.mounts import is_below
from job.fs.private_folders import Place, open_place, places, read
from job.fs.small_files import replace_file
from job.fs.trusted_path import make_folders

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


_MOST_BYTES = 1 << 20


class CacheFile(NamedTuple):
    """Where what is known of the config at one path lies."""

    places: list[Place]
    """The private folders that it may be in."""
    file: str
    """Its name there."""


def cache_file(config_path: str, environ: Mapping[str, str]) -> CacheFile:
    """Name the file for this config. Few names, so that configs that come and go leave no heap of files behind."""
    slot = hashlib.sha256(os.fsencode(os.path.abspath(config_path))).hexdigest()[:2]
    return CacheFile(places(environ), f"known-{slot}.json")


def load_config(shelf: CacheFile, key: str) -> Config | None:
    """Give the configuration kept under `key`; None if there is none that can be believed. Never raises."""
    for content in _contents(shelf):
        with suppress(*UNUSABLE):
            if content["key"] == key:
                return rebuilt(Config, content["config"])
    return None


def load_last_config(shelf: CacheFile, config_path: str) -> tuple[Config, float] | None:
    """Give the configuration that was kept last for `config_path`, whatever that holds now, and when it was kept.

    In seconds since the epoch; None if there is none that can be believed. Never raises.
    """
    path, found = os.path.abspath(config_path), []
    for content in _contents(shelf):
        with suppress(*UNUSABLE):
            if content["path"] == path:  # else it is of another configuration, whose name has the same slot
                found.append((rebuilt(Config, content["config"]), seconds_of(content["kept_timestamp_seconds"])))
    return max(found, key=lambda each: each[1], default=None)


def _contents(shelf: CacheFile) -> Iterator[Any]:
    for place in shelf.places:
        with suppress(OSError, *UNUSABLE):
            # Not mended: whoever could enter the folder until now may have left something there.
            yield json.loads(read(place, shelf.file, most_bytes=_MOST_BYTES))


def store_config(shelf: CacheFile, key: str, config: Config, of: tuple[str, float]) -> None:
    """Keep a valid configuration without secrets under `key`. Never raises: without it a run only starts slower.

    `of` is the path of its file, and the time, in seconds since the epoch.
    """
    config_path, now = of
    known = {"key": key, "path": os.path.abspath(config_path), "kept_timestamp_seconds": now}
    content = json.dumps({**known, "config": to_plain(config)}).encode() + b"\n"
    if len(content) > _MOST_BYTES:
        return
    sources = [pair.source for pair in config.effective_pairs]
    mirrors = [pair.dest for pair in config.effective_pairs]
    for place in shelf.places:
        if place.apart and any(is_below(place.base, root) for root in (*sources, *mirrors)):
            continue  # the gate refuses it
        with suppress(OSError):
            if place.lasting and not place.apart:
                os.close(make_folders(place.base, sources, mirrors))
            _keep(place, shelf.file, content)
            return


def _keep(place: Place, name: str, content: bytes) -> None:
    folder = open_place(place, make=True)
    try:
        replace_file(folder, os.fsencode(name), content)
    finally:
        os.close(folder)
