"""The texts of the index about versions and orphans: the rows of one folder, as JSON by columns. Pure.

A column of equal values is stored as one value, as in `store/codec.py`: most rows of a cycle have one reason and time.
Hostile text gives no rows.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from job.core.stored_values import UNUSABLE, number_of
from job.core.versions import OrphanRow, VersionReason, VersionRow

_BETWEEN = "/"
"""Separates names, and occurs in none."""
_NO_NAMES = frozenset({"", ".", ".."})
"""Refused, as a name from the index may be opened in its folder."""
_VERSION = (int, int, int, int, str, str, bool)
_ORPHAN = (int, int, int, int, int, int, int, str, int)
_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_version = partial(tuple.__new__, VersionRow)
_orphan = partial(tuple.__new__, OrphanRow)


def encode_versions(rows: Sequence[VersionRow]) -> str:
    """Encode the versions of a folder; empty for none."""
    return _encode(rows)


def decode_versions(text: str) -> list[VersionRow]:
    """Decode the text of `encode_versions`; none if it is invalid."""
    try:
        return [
            _version((name, *numbers, checksum, VersionReason(why), replaced_another))
            for name, *numbers, checksum, why, replaced_another in _decode(text, _VERSION)
        ]
    except UNUSABLE:
        return []


def encode_orphans(rows: Sequence[OrphanRow]) -> str:
    """Encode the orphans of a folder; empty for none."""
    return _encode(rows)


def decode_orphans(text: str) -> list[OrphanRow]:
    """Decode the text of `encode_orphans`; none if it is invalid."""
    try:
        return [_orphan(row) for row in _decode(text, _ORPHAN)]
    except UNUSABLE:
        return []


def _encode(rows: Sequence[tuple[Any, ...]]) -> str:
    if not rows:
        return ""
    names, *columns = zip(*rows, strict=True)
    text = _BETWEEN.join(name.decode("utf-8", "surrogateescape") for name in names)
    return _write([text, *(column[0] if column.count(column[0]) == len(column) else column for column in columns)])


def _decode(text: str, types: tuple[type, ...]) -> list[tuple[Any, ...]]:
    """Return the rows of a text. Raises `UNUSABLE` errors if it is invalid."""
    if not text:
        return []
    joined, *columns = json.loads(text)
    names = joined.split(_BETWEEN)
    if len(columns) != len(types) or not _NO_NAMES.isdisjoint(names) or "\0" in joined or len({*names}) != len(names):
        raise ValueError
    expanded = [_expanded(column, kind, len(names)) for column, kind in zip(columns, types, strict=True)]
    return list(zip((name.encode("utf-8", "surrogateescape") for name in names), *expanded, strict=True))


def _expanded(column: object, kind: type, count: int) -> list[Any]:
    values = column if type(column) is list else [column] * count
    if len(values) != count or {*map(type, values)} != {kind}:
        raise ValueError
    return [*map(number_of, values)] if kind is int else values
