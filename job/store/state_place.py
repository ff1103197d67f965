"""Where below a `state_dir` the state of a pair lies: in a folder of the pair's name, unless that is of another pair.

A state belongs to a source and a mirror, not to a name: a renamed pair goes on with its state, and a new pair that
gets the name of an old one begins with none.
"""

import os
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from job.config.settings import Pair
from job.fs.private import open_ours
from job.fs.trusted_path import open_trusted_folder
from job.store.identity import DamagedIdentityError, Identity, Paths, read_identity


class StatePlace(NamedTuple):
    """The folder of a pair's state."""

    name: str
    """Below `state_dir`; it need not exist."""
    taken_by: Identity | None = None
    """The pair that the folder of this pair's name belongs to, if it is another one."""


def state_place(state_dir: str, pair: Pair) -> StatePlace:
    """Find the folder of a pair's state. Raises `OSError`, and `DamagedIdentityError` for the one of its name."""
    try:
        folder = open_trusted_folder(state_dir)
    except FileNotFoundError:
        return StatePlace(pair.name)
    try:
        return _place(folder, pair)
    finally:
        os.close(folder)


def _place(folder: int, pair: Pair) -> StatePlace:
    mine = Paths.of(pair.source), Paths.of(pair.dest)
    exists, found = _identity(folder, pair.name)
    if exists and (found is None or _is(found, mine)):
        return StatePlace(pair.name)
    for name, other in _others(folder):
        if _is(other, mine):
            return StatePlace(name, found)
    if not exists:
        return StatePlace(pair.name)
    taken = {name.casefold() for name in os.listdir(folder)}
    free = next(name for name in (f"{pair.name}-{number}" for number in count(2)) if name.casefold() not in taken)
    return StatePlace(free, found)


def is_of(identity: Identity, pair: Pair) -> bool:
    """Tell whether an identity is that of a pair."""
    return _is(identity, (Paths.of(pair.source), Paths.of(pair.dest)))


def _is(identity: Identity, pair: tuple[Paths, Paths]) -> bool:
    source, mirror = pair
    return identity.source.matches(source) and identity.mirror.matches(mirror)


def _others(folder: int) -> Iterator[tuple[str, Identity]]:
    for name in sorted(os.listdir(folder)):
        if name.startswith("."):
            continue
        try:
            _, found = _identity(folder, name)
        except (OSError, DamagedIdentityError):
            continue
        if found is not None:
            yield name, found


def _identity(folder: int, name: str) -> tuple[bool, Identity | None]:
    """Tell whether there is a folder of that name, and whose it says it is."""
    try:
        inner = open_ours(os.fsencode(name), folder)
    except FileNotFoundError:
        return False, None
    try:
        return True, read_identity(inner)
    finally:
        os.close(inner)
