"""Rows: records of one folder as one text, as the index keeps them. Pure.

JSON by columns, so that nearly all of the work is done in C. A column whose values are all the same is that one value,
and one of the mirror that is the source's is null: of an ordinary folder only names, inodes, sizes, times and checksums
are left. In hostile text the worst is a ValueError.

Unheld: what a mirror's file system cannot hold of a folder's entries, as the index keeps it for a restore. Pure.

Modes, owners and times of files are in their records anyway; here is what has no place there: symlinks and special
files that could not be made, attributes that were refused, and a folder's own metadata, under an empty name.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from job.core.entry import Entry
from job.core.record import Record
from job.core.stored import UNUSABLE

_BETWEEN_NAMES, _BETWEEN_CHECKSUMS = b"/", "\n"
"""What no name and no checksum holds."""
_NO_NAMES = frozenset({b"", b".", b".."})
"""What no entry is called; a name of an index may be examined in the folder it speaks of."""
_NUMBERS = len(Entry._fields) - 1
_FIELDS = 5
_INODES = range(2**64)
"""What an inode number can be: it is looked up as eight bytes."""
_entry_of = partial(tuple.__new__, Entry)
_record_of = partial(tuple.__new__, Record)
# A column as it is stored: a list, the one value of all rows, or None for "as the source's".
_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def encode_records(records: Iterable[Record], options_key: str = "") -> str:
    """Write records down; empty if there are none. The mirror's names are taken to be the source's.

    `options_key` says under which options the mirror was made.
    """
    columns = tuple(zip(*records, strict=True))
    if not columns:
        return ""
    sources, mirrors, checksums, racies = columns
    names, *of_source = zip(*sources, strict=True)
    _, *of_mirror = zip(*mirrors, strict=True)
    kept = [None if theirs == ours else _squeezed(theirs) for ours, theirs in zip(of_source, of_mirror, strict=True)]
    text = _BETWEEN_NAMES.join(names).decode("utf-8", "surrogateescape")
    stored = [
        text,
        [_squeezed(each) for each in of_source],
        kept,
        _BETWEEN_CHECKSUMS.join(checksums),
        _squeezed(racies),
    ]
    return _write([*stored, options_key] if options_key else stored)


def decode_records(text: str, options_key: str = "") -> dict[bytes, Record]:
    """Return records by name; none if the text makes no sense, so that the entries are compared again.

    Those that were made under another policy have to be looked at again, whatever the times say. A policy may end with
    a slash and how the source was mounted; where that is not known, it is not compared.
    """
    if not text:
        return {}
    try:
        records, made_under = _read(text)
    except UNUSABLE:
        return {}
    if made_under == options_key or ("/" not in options_key and made_under.partition("/")[0] == options_key):
        return records
    return {name: record._replace(racy=True) for name, record in records.items()}


def without_records(text: str, names: Collection[bytes]) -> str:
    """Leave records out, so that their entries are compared again; all of them if the text makes no sense."""
    try:
        records, options_key = _read(text)
    except UNUSABLE:
        return ""
    return encode_records([record for name, record in records.items() if name not in names], options_key)


def _read(text: str) -> tuple[dict[bytes, Record], str]:
    """Return records and the policy that they were made under."""
    stored = json.loads(text)
    *fields, options_key = stored if len(stored) > _FIELDS else (*stored, "")
    if type(options_key) is not str:
        raise ValueError
    return _decoded(fields), options_key


def _decoded(stored: Any) -> dict[bytes, Record]:  # whatever JSON can say
    text, of_source, of_mirror, checksums, racies = stored
    names = text.encode("utf-8", "surrogateescape").split(_BETWEEN_NAMES)
    count = len(names)
    if not _NO_NAMES.isdisjoint(names) or "\0" in text:
        raise ValueError
    ours = [_spread(column, int, count) for column in of_source]
    theirs = [
        mine if column is None else _spread(column, int, count) for mine, column in zip(ours, of_mirror, strict=True)
    ]
    if len(ours) != _NUMBERS or not all(min(side[0]) in _INODES and max(side[0]) in _INODES for side in (ours, theirs)):
        raise ValueError
    sources = map(_entry_of, zip(names, *ours, strict=True))
    mirrors = map(_entry_of, zip(names, *theirs, strict=True))
    rest = checksums.split(_BETWEEN_CHECKSUMS), _spread(racies, bool, count)
    return dict(zip(names, map(_record_of, zip(sources, mirrors, *rest, strict=True)), strict=True))


def _squeezed(column: Sequence[object]) -> object:
    return column[0] if column.count(column[0]) == len(column) else column


def _spread(column: object, kind: type, count: int) -> list[Any]:
    values = column if type(column) is list else [column] * count
    if len(values) != count or {*map(type, values)} != {kind}:
        raise ValueError
    return values


MOST_ATTRIBUTE_BYTES = 4 << 20
"""Attributes of the entries of one folder that are written down, in bytes: a row of the index is held as a whole."""
MOST_BYTES_EACH = 64 << 10
"""The same, of one entry."""
FOLDER = b""
"""The folder itself, among the names in it."""


class UnsupportedMetadata(NamedTuple):
    """What an entry of the source is, as far as the mirror does not say it."""

    mode: int
    """The whole st_mode."""
    uid: int
    gid: int
    mtime_ns: int
    target: bytes = b""
    """Text of a symlink."""
    rdev: int = 0
    """Which device a special file stands for."""
    attributes: tuple[tuple[bytes, bytes], ...] = ()
    """Extended attributes, ACLs among them."""

    @property
    def size(self) -> int:
        """Bytes that its attributes take."""
        return sum(len(name) + len(value) for name, value in self.attributes)


def encode_unsupported(unsupported: Mapping[bytes, UnsupportedMetadata]) -> str:
    """Write it down, without attributes beyond `MOST_ATTRIBUTE_BYTES`; empty if there is nothing."""
    if not unsupported:
        return ""
    documents, size = {}, 0
    for name, each in sorted(unsupported.items()):
        size += each.size
        documents[_text(name)] = _document(each if size <= MOST_ATTRIBUTE_BYTES else each._replace(attributes=()))
    return json.dumps(documents, separators=(",", ":"))


def decode_unsupported(text: str) -> dict[bytes, UnsupportedMetadata]:
    """Read what `encode_unsupported` wrote; nothing if the text makes no sense."""
    if not text:
        return {}
    try:
        return {_bytes(name): _unheld(each) for name, each in json.loads(text).items()}
    except UNUSABLE:
        return {}


def _document(unsupported: UnsupportedMetadata) -> list[Any]:
    attributes = {_text(name): b64encode(value).decode("ascii") for name, value in unsupported.attributes}
    return [*unsupported[:4], _text(unsupported.target), unsupported.rdev, attributes]


def _unheld(document: Any) -> UnsupportedMetadata:  # whatever JSON can say
    mode, uid, gid, mtime_ns, target, rdev, attributes = document
    if {*map(type, (mode, uid, gid, mtime_ns, rdev))} != {int}:
        raise ValueError
    kept = tuple((_bytes(name), b64decode(value, validate=True)) for name, value in attributes.items())
    return UnsupportedMetadata(mode, uid, gid, mtime_ns, _bytes(target), rdev, kept)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
