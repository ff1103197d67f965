"""Refuse folders that are the same, or lie in one another by any path, link or bind mount."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER
from job.core.outcome import Refusal
from job.errors import Refused
from job.fs import mounts
from job.fs.dircursor import Identity, closing_fd, identity
from job.fs.own_files import open_own_folder
from job.fs.trusted_path import open_trusted_folder, open_trusted_parent
from job.store.pair_records import DamagedIdentityError, read_identity

_HINT = "Give the mirror a folder of its own, outside the source, and the source one outside the mirror."


def check_roots(pair: Pair, source: int, mirror: int) -> None:
    """Refuse roots that are one folder, or lie in one another, bind mounts included."""
    if identity(source) == identity(mirror):
        raise Refused(Refusal.OVERLAP, f"{pair.source} and {pair.dest} are the same folder", hint=_HINT)
    if identity(source) in _around(mirror) or mounts.is_within(mirror, source):
        raise Refused(Refusal.OVERLAP, f"the mirror {pair.dest} lies in the source {pair.source}", hint=_HINT)
    if identity(mirror) in _around(source) or mounts.is_within(source, mirror):
        raise Refused(Refusal.OVERLAP, f"the source {pair.source} lies in the mirror {pair.dest}", hint=_HINT)
    if mounts.is_mounted_below(source, mirror):
        raise Refused(Refusal.OVERLAP, f"the mirror {pair.dest} is mounted in the source {pair.source}", hint=_HINT)
    if mounts.is_mounted_below(mirror, source):
        raise Refused(Refusal.OVERLAP, f"the source {pair.source} is mounted in the mirror {pair.dest}", hint=_HINT)


def check_new_mirror(pair: Pair, source: int, above: int) -> None:
    """Refuse to create a mirror in a folder that is, or lies in, the source or another mirror."""
    if identity(source) in _around(above) or mounts.is_within(above, source):
        raise Refused(Refusal.OVERLAP, f"the mirror {pair.dest} lies in the source {pair.source}", hint=_HINT)
    if other := _mirror_around(above):
        message = f"the mirror {pair.dest} lies in a folder that is the mirror of {other}"
        hint = f"Write another path. If that folder is no mirror any more, move its {STATE_FOLDER.decode()} away."
        raise Refused(Refusal.OVERLAP, message, hint=hint)


def _mirror_around(folder: int) -> str:
    """Return the source of the mirror that an open folder is or lies in; empty if there is none."""
    for each in _upwards(folder):
        with suppress(OSError, DamagedIdentityError), closing_fd(open_own_folder(STATE_FOLDER, each)) as state:
            if (found := read_identity(state)) is not None:
                return found.source.written
    return ""


def _around(folder: int) -> set[Identity]:
    return {identity(each) for each in _upwards(folder)}


def _upwards(folder: int) -> Iterator[int]:
    """Yield descriptors of an open folder and of those above it, each valid until the next."""
    current, below = os.dup(folder), None
    try:
        while identity(current) != below:  # the root lies in itself
            yield current
            below = identity(current)
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = above
    except PermissionError:
        return  # above a folder that we may not enter, the mount table decides
    finally:
        os.close(current)


def check_state(pair: Pair, state_dir: str, roots: tuple[int, int]) -> None:
    """Refuse a state folder inside the source or the mirror: it would change during its copy, or be overwritten.

    It may not exist yet, and is not created: then the nearest existing folder above it decides.
    """
    with closing_fd(_open_nearest(os.path.join(state_dir, pair.name))) as state:
        around = _around(state)
        inside = [identity(root) in around or mounts.is_within(state, root) for root in roots]
    for path, is_inside in zip((pair.source, pair.dest), inside, strict=True):
        if is_inside:
            message = f"the state folder {state_dir} lies in {path}"
            hint = "Set state_dir to a folder outside every source and mirror."
            raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint)


def _open_nearest(path: str) -> int:
    while True:
        try:
            return open_trusted_folder(path or ".")
        except OSError:
            above = os.path.dirname(path)
            if above == path:
                raise
            path = above


def check_target(pairs: Sequence[Pair], path: str, target: int) -> None:
    """Refuse the open target of a restore, at `path`, that is or lies in a mirror. Raises `Refused`."""
    for pair in pairs:
        with suppress(OSError), closing_fd(open_trusted_folder(pair.dest)) as mirror:
            if identity(mirror) in _around(target) or mounts.is_within(target, mirror):
                message = f"{path} is, or lies in, the mirror {pair.dest} of {pair.name}"
                raise Refused(Refusal.OVERLAP, message, hint="Restore to a folder outside of all mirrors.")


def mirror_conflicts(pairs: Sequence[Pair]) -> dict[str, Refused]:
    """Find pairs whose mirrors are one folder, or lie in one another, although their paths do not say so.

    Both pairs are refused. Mirrors that cannot be opened are left to the preflight of their pair.
    """
    found: dict[str, Refused] = {}
    with ExitStack() as stack:
        opened: list[tuple[Pair, int]] = []
        missing: list[Pair] = []
        for pair in pairs:
            try:
                mirror = stack.enter_context(closing_fd(open_trusted_folder(pair.dest)))
            except FileNotFoundError:
                missing.append(pair)
                continue
            except (OSError, ValueError):
                continue
            for other, root in opened:
                if _nested(mirror, root):
                    _note_conflict(found, pair, other)
            opened.append((pair, mirror))
        for pair in missing:
            for other in _mirrors_above(pair, opened):
                _note_conflict(found, pair, other)
    return found


def _note_conflict(found: dict[str, Refused], pair: Pair, other: Pair) -> None:
    for one, two in ((pair, other), (other, pair)):
        message = f"the mirrors of {one.name} and {two.name} overlap: {one.dest} and {two.dest}"
        found[one.name] = Refused(Refusal.OVERLAP, message, hint="Give each pair a mirror of its own.")


def _mirrors_above(missing: Pair, opened: Sequence[tuple[Pair, int]]) -> list[Pair]:
    """Find the pairs in whose mirrors a missing mirror would be created."""
    try:
        above, _ = open_trusted_parent(missing.dest)
    except (OSError, ValueError):
        return []
    with closing_fd(above):
        around = _around(above)
        return [pair for pair, mirror in opened if identity(mirror) in around or mounts.is_within(above, mirror)]


def _nested(one: int, two: int) -> bool:
    if identity(one) in _around(two) or identity(two) in _around(one):
        return True
    return mounts.is_within(one, two) or mounts.is_within(two, one)
