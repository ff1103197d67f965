"""Find what is at the path of a mirror, and what is remembered of it: the facts that `core/mirror_identity.py` judges.

Nothing is written.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER
from job.core.file_systems import FileSystemMatch, match_file_system
from job.core.mirror_identity import MirrorFacts, MirrorFound, MirrorPlace, classify, is_continued, is_made_since
from job.core.outcome import Refusal
from job.engine.preflight import presence
from job.errors import Refused
from job.fs.dircursor import closing_fd, generation_of, identity
from job.fs.mounts import identity_of, is_in_container, is_on_container_layer, location_of, mount_of
from job.fs.own_files import open_own_folder
from job.fs.trusted_path import open_trusted_folder, open_trusted_parent
from job.store.memory import Memory, MirrorMemory
from job.store.pair_records import (
    IDENTITY_FILE,
    DamagedIdentityError,
    PairIdentity,
    ResolvedPath,
    find_state_folder,
    read_identity,
)

_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class MirrorFindings(NamedTuple):
    """What is at the path of a mirror."""

    facts: MirrorFacts
    found: PairIdentity | None
    """The identity of the mirror."""
    remembered: MirrorMemory | None = None
    """What is remembered of it."""
    is_last: bool = False
    """Whether it is the mirror that was seen last."""
    trace: str = ""
    """Why a mirror is remembered, in words; empty if none is."""
    duplicate: str = ""
    """The path of another mirror with the same id."""
    same_id: str = ""
    """The id of the remembered mirror whose folder this is, although it lacks its identity."""
    replaced: tuple[str, ...] = ()
    """The ids of the mirrors in whose place this one was made."""


def gather(pair: Pair, mirror: int | None, memory: Memory, state_dir: str | None) -> MirrorFindings:
    """Gather what the verdict on a mirror depends on; None for one that does not exist. Nothing is written.

    Raises `Refused` for an identity that cannot be read, and `OSError`.
    """
    found = None if mirror is None else read_mirror_identity(pair, mirror)
    source = ResolvedPath.of(pair.source)
    known, mirrors = memory.seen_at(pair.dest)
    remembered = next((each for each in mirrors if found and each.mirror_id == found.mirror_id), None)
    if found is not None and remembered is None:
        remembered = memory.mirror(found.mirror_id)
    mirrors = [each for each in mirrors if each.source.matches(source)]
    never_written = found is not None and found.cycle is not None and not found.cycle.number
    kind = classify(
        found.mirror_id if found else None,
        holds_content=None if mirror is None else (found is None or never_written) and _holds_content(mirror),
        names_source=found is not None and found.source.matches(source),
        never_written=never_written,
        adopted=known.ids if known else (),
        of_others=(remembered.mirror_id,) if remembered and not remembered.source.matches(source) else (),
    )
    trace = ""
    if known is not None:
        trace = f"is known since {known.since}" if known.since else "is known"
    elif state_dir is not None and found is None:
        trace = _trace_in_state(pair, state_dir, missing=mirror is None)
    duplicate = ""
    if kind is MirrorFound.OWN and mirror is not None and found is not None and pair.mirror_check == "awake":
        duplicate = _duplicate(pair, mirror, found.mirror_id, remembered, memory)
    same_id, same_disk = "", False
    replaced: tuple[str, ...] = ()
    if mirror is not None and kind in {MirrorFound.UNMARKED, MirrorFound.EMPTY}:
        same_id, same_disk = _same(mirror, mirrors)
        if kind is MirrorFound.EMPTY and not same_id:
            replaced = _replaced(mirror, mirrors, memory)
    facts = MirrorFacts(
        kind,
        remembered=bool(trace),
        on_layer=kind is not MirrorFound.OWN and _is_on_layer(pair, mirror),
        same_disk=same_disk,
        continued=found is None or is_continued(found.cycle, remembered.cycle if remembered else None),
        duplicated=bool(duplicate),
        made_since=bool(replaced),
    )
    is_last = bool(found and known and known.ids[-1:] == (found.mirror_id,))
    return MirrorFindings(facts, found, remembered, is_last, trace, duplicate, same_id, replaced)


def _holds_content(mirror: int) -> bool:
    try:
        return presence.holds_content(mirror)
    except OSError:
        return True  # it cannot be listed: not to be taken for an empty one


def _is_on_layer(pair: Pair, mirror: int | None) -> bool:
    if mirror is not None:
        return is_on_container_layer(mirror)
    with suppress(OSError):
        above, _ = open_trusted_parent(pair.dest)
        with closing_fd(above):
            return is_on_container_layer(above)
    return False


def _same(mirror: int, mirrors: Sequence[MirrorMemory]) -> tuple[str, bool]:
    """Return the remembered id of an open folder, if it is that of a mirror, and whether one was on its file system."""
    here = place_of(mirror)
    on_disk = [
        each
        for each in mirrors
        if match_file_system(each.place.file_system, here.file_system) is not FileSystemMatch.OTHER
    ]
    same = [each.mirror_id for each in on_disk if each.place.folder == here.folder]
    return (same[-1] if same else ""), bool(on_disk)


def _replaced(mirror: int, mirrors: Sequence[MirrorMemory], memory: Memory) -> tuple[str, ...]:
    """Return the ids of the mirrors in whose place a person made an open empty folder since the last cycle on them.

    What is mounted into a container is made by the engine if it is missing.
    """
    mount, changed_ns = mount_of(mirror), os.fstat(mirror).st_ctime_ns
    if mount is None or (is_in_container() and location_of(mirror, mount) == (mount.device, mount.root)):
        return ()
    here = place_of(mirror)
    before = [each for each in mirrors if each.place.is_at(here)]
    with suppress(OSError):
        known = [(each.place, memory.last_cycle_ns(each.mirror_id)) for each in before]
        if is_made_since(here, changed_ns, known):
            return tuple(each.mirror_id for each in before)
    return ()


def place_of(mirror: int) -> MirrorPlace:
    """Return where the root of an open mirror is. Raises `OSError`."""
    mount = mount_of(mirror)
    found = location_of(mirror, mount) if mount else None
    generation = generation_of(mirror, mount.type) if mount else ""
    where = os.fsdecode(found[1]) if found else ""
    return MirrorPlace(identity_of(mirror, mount), *identity(mirror), generation, where)


def _duplicate(pair: Pair, mirror: int, mirror_id: str, remembered: MirrorMemory | None, memory: Memory) -> str:
    """Return the path of another folder with the same id, where it was used last or is configured as a mirror."""
    own, here = identity(mirror), os.path.abspath(pair.dest)
    used = [remembered.path] if remembered else []
    for path in dict.fromkeys([*used, *memory.awake]):
        if os.path.abspath(path) == here:
            continue
        with suppress(OSError, DamagedIdentityError), closing_fd(open_trusted_folder(path)) as root:
            other = identity_in(root)
            if identity(root) != own and other is not None and other.mirror_id == mirror_id:
                return path
    return ""


def _trace_in_state(pair: Pair, state_dir: str, *, missing: bool) -> str:
    """Return what the state below `state_dir` tells of a mirror that is not remembered; empty for nothing.

    A version that kept no memory left the state of a pair. A missing mirror is not made either under a name that was
    used with another source: the folders of the configuration may have changed places.
    """
    try:
        place = find_state_folder(state_dir, pair, None)
    except (OSError, DamagedIdentityError):
        return ""  # the preflight reports it when it opens the state
    other = place.used_by
    if other is None:
        path = os.path.join(state_dir, place.name)
        return f"its state does: {path}" if missing and os.path.isdir(path) else ""
    if missing and not other.source.matches(ResolvedPath.of(pair.source)):
        used = f" with {other.mirror.written}" if other.mirror else ""
        return f"the pair {pair.name} was {other.source.written}{used} until now"
    return ""


def read_mirror_identity(pair: Pair, mirror: int) -> PairIdentity | None:
    """Read the identity of an open mirror; None if it has none. Raises `Refused` and `OSError`."""
    try:
        return identity_in(mirror)
    except DamagedIdentityError as error:
        file = f"{pair.dest}/{STATE_FOLDER.decode('ascii')}/{IDENTITY_FILE}"
        message = f"{file} cannot be used: {error}"
        hint = f"If {pair.dest} is the mirror of {pair.source}, delete this file; it is written again."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint) from None


def identity_in(mirror: int) -> PairIdentity | None:
    """Read the identity of an open mirror; None if it has none. Raises `DamagedIdentityError` and `OSError`."""
    try:
        mirror_state = open_own_folder(STATE_FOLDER, mirror)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        return None  # the preflight reports what is no folder when it opens the state
    with closing_fd(mirror_state):
        return read_identity(mirror_state)


def id_of(mirror: int) -> str | None:
    """Return the id of an open mirror; None if it has none, or it cannot be read."""
    with suppress(OSError, DamagedIdentityError):
        found = identity_in(mirror)
        return found.mirror_id if found else None
    return None
