"""The texts of the index: the records of a folder, and the metadata that its mirror does not support. Pure.

Records are JSON by columns, so that most of the work is done in C. A column of equal values is stored as one value, and
a mirror column equal to the source's as null: mostly names, inodes, sizes, times and checksums remain. After the key of
the options, a last column tells since when contents stand, if that is not the ctime for one of them. Hostile text
raises no more than `ValueError`.

Unsupported metadata is stored for a restore: symlinks and special files that could not be created, refused attributes,
and the folder's own metadata under an empty name. Modes, owners and times of files are in their records.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from job.core.entry import Entry
from job.core.record import Record
from job.core.stored_values import UNUSABLE

_BETWEEN_NAMES, _BETWEEN_CHECKSUMS = b"/", "\n"
"""Separators, which occur in no name and no checksum."""
_NO_NAMES = frozenset({b"", b".", b".."})
"""Refused, as a name from the index may be opened in its folder."""
_NUMBERS = len(Entry._fields) - 1
_FIELDS = 5
_INODES = range(2**64)
"""Inode numbers are looked up as eight bytes."""
_TIMES = range(2**63)
"""Nanoseconds since the epoch."""
_entry_of = partial(tuple.__new__, Entry)
_record_of = partial(tuple.__new__, Record)
_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def encode_records(records: Iterable[Record], options_key: str = "") -> str:
    """Encode records; empty for none. The mirror's names must be the source's."""
    columns = tuple(zip(*records, strict=True))
    if not columns:
        return ""
    sources, mirrors, checksums, racies, sinces = columns
    names, *of_source = zip(*sources, strict=True)
    _, *of_mirror = zip(*mirrors, strict=True)
    kept = [
        None if mirror == source else mirror[0] if mirror.count(mirror[0]) == len(mirror) else mirror
        for source, mirror in zip(of_source, of_mirror, strict=True)
    ]
    text = _BETWEEN_NAMES.join(names).decode("utf-8", "surrogateescape")
    stored = [
        text,
        [each[0] if each.count(each[0]) == len(each) else each for each in of_source],
        kept,
        _BETWEEN_CHECKSUMS.join(checksums),
        racies[0] if racies.count(racies[0]) == len(racies) else racies,
    ]
    if any(sinces):
        return _write([*stored, options_key, sinces])
    return _write([*stored, options_key] if options_key else stored)


def decode_records(text: str, options_key: str = "") -> dict[bytes, Record]:
    """Return records by name; none if the text is invalid, so that the entries are compared again.

    Records made under other options become racy, so that they are examined again. A key may end with a slash and the
    mount options of the source; if `options_key` has none, these are not compared.
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


def changed_sources(text: str, rows: Iterable[tuple[Any, ...]]) -> tuple[list[Entry], list[Entry]]:
    """Return the recorded source entries that are not among the `rows` of a listing, and rows that are not recorded.

    Invalid text has none: its entries are compared again. The numbers of entries are not checked.
    """
    if not text:
        return [], []
    try:
        stored = json.loads(text)
        names = stored[0].encode("utf-8", "surrogateescape").split(_BETWEEN_NAMES)
        columns = [column if type(column) is list else repeat(column, len(names)) for column in stored[1]]
        if len(columns) != _NUMBERS:
            return [], []
        recorded, present = set(zip(names, *columns, strict=True)), set(rows)
    except UNUSABLE:
        return [], []
    return [*map(_entry_of, recorded - present)], [*map(_entry_of, present - recorded)]


def without_records(text: str, names: Collection[bytes]) -> str:
    """Remove records, so that their entries are compared again; all of them if the text is invalid."""
    try:
        records, options_key = _read(text)
    except UNUSABLE:
        return ""
    return encode_records([record for name, record in records.items() if name not in names], options_key)


def _read(text: str) -> tuple[dict[bytes, Record], str]:
    """Return records and their options key."""
    stored = json.loads(text)
    fields, rest = stored[:_FIELDS], [*stored[_FIELDS:]]
    options_key, sinces = rest + ["", 0][len(rest) :]
    if type(options_key) is not str:
        raise ValueError
    return _decoded(fields, sinces), options_key


def _decoded(stored: Any, sinces: Any) -> dict[bytes, Record]:  # any JSON values
    text, of_source, of_mirror, checksums, racies = stored
    names = text.encode("utf-8", "surrogateescape").split(_BETWEEN_NAMES)
    count = len(names)
    if not _NO_NAMES.isdisjoint(names) or "\0" in text:
        raise ValueError
    source_columns = [_expanded(column, int, count) for column in of_source]
    mirror_columns = [
        source if column is None else _expanded(column, int, count)
        for source, column in zip(source_columns, of_mirror, strict=True)
    ]
    if len(source_columns) != _NUMBERS or not all(
        min(side[0]) in _INODES and max(side[0]) in _INODES for side in (source_columns, mirror_columns)
    ):
        raise ValueError
    sources = map(_entry_of, zip(names, *source_columns, strict=True))
    mirrors = map(_entry_of, zip(names, *mirror_columns, strict=True))
    since_column = _expanded(sinces, int, count)
    if min(since_column) not in _TIMES or max(since_column) not in _TIMES:
        raise ValueError
    rest = checksums.split(_BETWEEN_CHECKSUMS), _expanded(racies, bool, count), since_column
    return dict(zip(names, map(_record_of, zip(sources, mirrors, *rest, strict=True)), strict=True))


def _expanded(column: object, kind: type, count: int) -> list[Any]:
    values = column if type(column) is list else [column] * count
    if len(values) != count or {*map(type, values)} != {kind}:
        raise ValueError
    return values


MOST_ATTRIBUTE_BYTES = 4 << 20
"""Stored attributes of the entries of one folder, in bytes: a row of the index is read as a whole."""
MOST_BYTES_EACH = 64 << 10
"""Stored attributes of one entry, in bytes."""
FOLDER = b""
"""Name of the folder itself."""


class UnsupportedMetadata(NamedTuple):
    """Metadata of a source entry that the mirror does not have."""

    mode: int
    """The whole st_mode."""
    uid: int
    gid: int
    mtime_ns: int
    target: bytes = b""
    """Text of a symlink."""
    rdev: int = 0
    """Device number of a device."""
    attributes: tuple[tuple[bytes, bytes], ...] = ()
    """Extended attributes, including ACLs."""

    @property
    def size(self) -> int:
        """Size of its attributes in bytes."""
        return sum(len(name) + len(value) for name, value in self.attributes)


def encode_unsupported(unsupported: Mapping[bytes, UnsupportedMetadata]) -> str:
    """Encode it by name, without attributes beyond `MOST_ATTRIBUTE_BYTES`; empty for none."""
    if not unsupported:
        return ""
    documents, size = {}, 0
    for name, each in sorted(unsupported.items()):
        size += each.size
        documents[_text(name)] = _document(each if size <= MOST_ATTRIBUTE_BYTES else each._replace(attributes=()))
    return json.dumps(documents, separators=(",", ":"))


def decode_unsupported(text: str) -> dict[bytes, UnsupportedMetadata]:
    """Decode the text of `encode_unsupported`; empty if it is invalid."""
    if not text:
        return {}
    try:
        return {_bytes(name): _unsupported(each) for name, each in json.loads(text).items()}
    except UNUSABLE:
        return {}


def _document(unsupported: UnsupportedMetadata) -> list[Any]:
    attributes = {_text(name): b64encode(value).decode("ascii") for name, value in unsupported.attributes}
    return [*unsupported[:4], _text(unsupported.target), unsupported.rdev, attributes]


def _unsupported(document: Any) -> UnsupportedMetadata:  # any JSON value
    mode, uid, gid, mtime_ns, target, rdev, attributes = document
    if {*map(type, (mode, uid, gid, mtime_ns, rdev))} != {int}:
        raise ValueError
    kept = tuple((_bytes(name), b64decode(value, validate=True)) for name, value in attributes.items())
    return UnsupportedMetadata(mode, uid, gid, mtime_ns, _bytes(target), rdev, kept)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
