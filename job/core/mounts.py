"""The file systems of one mirror: which of them holds a path, and whether the index speaks of the same one. Pure."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from job.core.capabilities import Capabilities
from job.core.filenames import Spelling
from job.core.stored import UNUSABLE

T = TypeVar("T")


class ByMount(Generic[T]):
    """One value for the file system of the mirror's root, and one for each that is mounted below it."""

    def __init__(self, root: T, others: Mapping[bytes, T], spelling: Spelling | None = None) -> None:
        """`others` are by the path of their mount point below the root.

        `spelling` is of a root whose file system takes different names for the same.
        """
        self.root = root
        self._key = key = None if spelling is None else spelling.key
        self._others = {key(point): value for point, value in others.items()} if key else dict(others)

    def items(self) -> Iterator[tuple[bytes, T]]:
        """Give all values with their mount points, the root's first, under an empty path."""
        yield b"", self.root
        yield from self._others.items()

    def at(self, path: bytes) -> T:
        """Give the value of the file system that holds the folder at `path`."""
        others = self._others
        if not others:
            return self.root
        if self._key is not None:
            path = self._key(path)
        while path:
            if path in others:
                return others[path]
            path = path.rpartition(b"/")[0]
        return self.root


class Abilities(NamedTuple):
    """What each file system of a mirror can hold."""

    root: Capabilities
    others: tuple[tuple[bytes, Capabilities], ...] = ()
    """Of those mounted below the root, by the path of their mount point."""
    gone: tuple[bytes, ...] = ()
    """Where a file system was mounted once, and now only the empty mount point is left."""


class Identity(NamedTuple):
    """What tells a file system from others. Plain text, only ever compared."""

    proof: str
    """Goes with the file system wherever it is attached, such as its UUID; empty if it tells none."""
    place: str
    """Where it is attached at present: the device, and what else changes when another one takes its place."""


class Verdict(StrEnum):
    """What an identity says about what the index knows of a file system."""

    SAME = "same"
    MOVED = "moved"
    """The same file system, attached anew."""
    OTHER = "other"
    """Another one, or one that cannot be shown to be the same: nothing that is known of it may be believed."""


def judge(known: Identity | None, found: Identity) -> Verdict:
    """Compare the identity that the index was made for with the one that is found."""
    if known is None or known.proof != found.proof:
        return Verdict.OTHER
    if known.place == found.place:
        return Verdict.SAME
    return Verdict.MOVED if found.proof else Verdict.OTHER


def encoded(identity: Identity) -> str:
    """Write it down."""
    return json.dumps(identity)


def decoded(text: object) -> Identity | None:
    """Read what `encoded` wrote; None if the text makes no sense."""
    if not isinstance(text, str):
        return None
    try:
        proof, place = json.loads(text)
    except UNUSABLE:
        return None
    return Identity(proof, place) if isinstance(proof, str) and isinstance(place, str) else None
