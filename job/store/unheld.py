"""Unheld: what a mirror's file system cannot hold of a folder's entries, as the index keeps it for a restore. Pure.

Modes, owners and times of files are in their records anyway; here is what has no place there: symlinks and special
files that could not be made, attributes that were refused, and a folder's own metadata, under an empty name.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from job.core.stored import UNUSABLE

MOST_BYTES = 4 << 20
"""Attributes of the entries of one folder that are written down, in bytes: a row of the index is held as a whole."""
MOST_BYTES_EACH = 64 << 10
"""The same, of one entry."""
FOLDER = b""
"""The folder itself, among the names in it."""


class Unheld(NamedTuple):
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


def encoded(unheld: Mapping[bytes, Unheld]) -> str:
    """Write it down, without attributes beyond `MOST_BYTES`; empty if there is nothing."""
    if not unheld:
        return ""
    documents, size = {}, 0
    for name, each in sorted(unheld.items()):
        size += each.size
        documents[_text(name)] = _document(each if size <= MOST_BYTES else each._replace(attributes=()))
    return json.dumps(documents, separators=(",", ":"))


def decoded(text: str) -> dict[bytes, Unheld]:
    """Read what `encoded` wrote; nothing if the text makes no sense."""
    if not text:
        return {}
    try:
        return {_bytes(name): _unheld(each) for name, each in json.loads(text).items()}
    except UNUSABLE:
        return {}


def _document(unheld: Unheld) -> list[Any]:
    attributes = {_text(name): b64encode(value).decode("ascii") for name, value in unheld.attributes}
    return [*unheld[:4], _text(unheld.target), unheld.rdev, attributes]


def _unheld(document: Any) -> Unheld:  # whatever JSON can say
    mode, uid, gid, mtime_ns, target, rdev, attributes = document
    if {*map(type, (mode, uid, gid, mtime_ns, rdev))} != {int}:
        raise ValueError
    kept = tuple((_bytes(name), b64decode(value, validate=True)) for name, value in attributes.items())
    return Unheld(mode, uid, gid, mtime_ns, _bytes(target), rdev, kept)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
