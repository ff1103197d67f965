"""Decide by its identity and by what is remembered whether a pair may use the mirror at its path (invariant 6).

The facts are gathered here, `core/mirror_identity.py` judges them. Nothing is written before the lock is held.
"""

import errno
import os
from contextlib import suppress
from typing import NamedTuple

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER
from job.core.file_systems import FileSystemMatch, match_file_system
from job.core.mirror_identity import (
    CycleMark,
    MirrorFacts,
    MirrorFound,
    MirrorVerdict,
    classify,
    is_continued,
    judge_mirror,
    next_step,
)
from job.core.outcome import Refusal
from job.engine.preflight import presence
from job.errors import JobError, Refused
from job.fs.dircursor import closing_fd, identity
from job.fs.large_dir import name_exists
from job.fs.mounts import identity_of, is_on_container_layer, mount_of
from job.fs.own_files import open_own_file, open_own_folder
from job.fs.trusted_path import open_trusted_folder, open_trusted_parent
from job.locking import lock
from job.store.memory import Memory, MirrorMemory, now_text
from job.store.pair_records import (
    IDENTITY_FILE,
    DamagedIdentityError,
    PairIdentity,
    ResolvedPath,
    find_state_folder,
    read_identity,
    write_identity,
)

_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class MirrorSwapped(JobError):
    """A mirror that was taken for the sleeping one is another: the pair is to be opened anew."""


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
    """The id of the remembered mirror that this one is, although it lacks its identity."""


class Admitted(NamedTuple):
    """A mirror that the pair may use."""

    identity: PairIdentity
    """As it is on the mirror, or as it is to be written."""
    found: PairIdentity | None
    """As it is on the mirror; None if it is a new one."""
    verdict: MirrorVerdict = MirrorVerdict.GO_ON
    lost: str = ""
    """What a remembered mirror lacks, if its contents are compared therefore."""
    known: MirrorMemory | None = None
    """What is remembered of it; read before the sandbox."""
    is_last: bool = False
    """Whether it is the mirror that was seen last."""
    asleep: bool = False
    """Whether it was recognised without being read."""

    @property
    def mirror_id(self) -> str:
        """The id of the mirror."""
        return self.identity.mirror_id


def gather(pair: Pair, mirror: int | None, memory: Memory, state_dir: str | None) -> MirrorFindings:
    """Gather what the verdict on a mirror depends on; None for one that does not exist. Nothing is written.

    Raises `Refused` for an identity that cannot be read, and `OSError`.
    """
    found = None if mirror is None else read_mirror_identity(pair, mirror)
    source = ResolvedPath.of(pair.source)
    known, remembered = memory.pair(pair.dest), memory.mirror(found.mirror_id) if found else None
    kind = classify(
        found.mirror_id if found else None,
        exists=mirror is not None,
        holds_content=mirror is not None and found is None and _holds_content(mirror),
        names_source=found is not None and found.source.matches(source),
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
    same_id = ""
    if mirror is not None and kind in {MirrorFound.UNMARKED, MirrorFound.EMPTY}:
        same_id = _id_of_same(mirror, pair, memory, folder_only=kind is MirrorFound.EMPTY)
    facts = MirrorFacts(
        kind,
        remembered=bool(trace),
        on_layer=kind is not MirrorFound.OWN and _is_on_layer(pair, mirror),
        same_disk=kind is MirrorFound.UNMARKED and bool(same_id),
        continued=found is None or is_continued(found.cycle, remembered.cycle if remembered else None),
        duplicated=bool(duplicate),
    )
    is_last = bool(found and known and known.ids[-1:] == (found.mirror_id,))
    return MirrorFindings(facts, found, remembered, is_last, trace, duplicate, same_id)


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


def _id_of_same(mirror: int, pair: Pair, memory: Memory, *, folder_only: bool) -> str:
    """Return the remembered id of an open folder, or, unless `folder_only`, of a mirror on its file system."""
    here, root = identity_of(mirror, mount_of(mirror)), identity(mirror)
    known = memory.mirrors_of(pair)[::-1]
    on_disk = [each for each in known if match_file_system(each.file_system, here) is not FileSystemMatch.OTHER]
    same = [each for each in on_disk if each.root == root] or ([] if folder_only else on_disk)
    return same[0].mirror_id if same else ""


def _duplicate(pair: Pair, mirror: int, mirror_id: str, remembered: MirrorMemory | None, memory: Memory) -> str:
    """Return the path of another folder with the same id, where it was used last or is configured as a mirror."""
    own, here = identity(mirror), os.path.abspath(pair.dest)
    used = [remembered.path] if remembered else []
    for path in dict.fromkeys([*used, *memory.awake]):
        if os.path.abspath(path) == here:
            continue
        with suppress(OSError, DamagedIdentityError), closing_fd(open_trusted_folder(path)) as root:
            other = _read(root)
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
        return _read(mirror)
    except DamagedIdentityError as error:
        file = f"{pair.dest}/{STATE_FOLDER.decode('ascii')}/{IDENTITY_FILE}"
        message = f"{file} cannot be used: {error}"
        hint = f"If {pair.dest} is the mirror of {pair.source}, delete this file; it is written again."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint) from None


def _read(mirror: int) -> PairIdentity | None:
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
        found = _read(mirror)
        return found.mirror_id if found else None
    return None


def admit(pair: Pair, mirror: int | None, memory: Memory, state_dir: str | None, *, made: bool = False) -> Admitted:
    """Judge the mirror at the path of a pair; None for one that does not exist. Nothing is written.

    `made` tells that it was just made for a verdict on the missing one. Raises `Refused` and `OSError`.
    """
    if made and mirror is not None and _read(mirror) is None:
        return Admitted(new_identity(pair), None, MirrorVerdict.MAKE)
    findings = gather(pair, mirror, memory, state_dir)
    verdict = judge_mirror(findings.facts)
    if verdict.refuses:
        raise refusal(pair, findings, verdict)
    if findings.found is not None:
        return Admitted(findings.found, findings.found, verdict, known=findings.remembered, is_last=findings.is_last)
    lost = ""
    if mirror is not None and findings.facts.remembered:
        folder = f"{pair.dest}/{STATE_FOLDER.decode('ascii')}"
        gone = f"{folder}/{IDENTITY_FILE}" if name_exists(mirror, STATE_FOLDER) else folder
        lost = f"{gone} does not exist, although the mirror {findings.trace}: what was kept in it is gone"
    return Admitted(new_identity(pair, findings.same_id), None, verdict, lost, memory.mirror(findings.same_id))


def new_identity(pair: Pair, mirror_id: str = "") -> PairIdentity:
    """Return the identity of a mirror that is adopted now, with a new id if none is given."""
    mark = CycleMark(0, os.urandom(16).hex())
    return PairIdentity(mirror_id or os.urandom(16).hex(), pair.name, ResolvedPath.of(pair.source), now_text(), mark)


def refusal(pair: Pair, findings: MirrorFindings, verdict: MirrorVerdict) -> Refused:
    """Return the refusal of a mirror, with the next step."""
    found, kind = findings.found, findings.facts.found
    if verdict is MirrorVerdict.NOT_MOUNTED:
        message = f"{pair.dest} lies in the container itself, not on a volume or a folder of the host"
    elif kind is MirrorFound.MISSING:
        message = f"the mirror {pair.dest} does not exist, but {findings.trace}"
    elif kind is MirrorFound.EMPTY:
        message = f"the mirror {pair.dest} is empty, but {findings.trace}"
    elif found is None:
        message = f"{pair.dest} holds entries and no identity, and the mirror {findings.trace}: it is not this one"
    elif findings.duplicate:
        message = f"{pair.dest} and {findings.duplicate} are two copies of one mirror, with the same id"
    elif kind is MirrorFound.OTHER_PAIR:
        message = (
            f"{pair.dest} is the mirror of {found.source.written} (pair {found.pair}, since {found.made}), "
            f"not of {pair.source}"
        )
    elif kind is MirrorFound.UNKNOWN:
        message = (
            f"{pair.dest} is a mirror of {found.source.written} since {found.made}, but none that is known here: "
            f"the mirror {findings.trace}"
        )
    else:
        message = f"{pair.dest} is not as the last cycle known here left it: something else wrote to it, or it is older"
    return Refused(Refusal(verdict.value), message, hint=next_step(findings.facts, pair.name, pair.dest))


def of_sleeping(pair: Pair, mirror: int, memory: Memory) -> Admitted | None:
    """Recognise a mirror that may sleep without reading it; None if it has to be read."""
    known = memory.mirrors_of(pair)
    if not known or known[-1].root != identity(mirror):
        return None
    here = identity_of(mirror, mount_of(mirror))
    if match_file_system(known[-1].file_system, here) is not FileSystemMatch.SAME:
        return None
    expected = PairIdentity(known[-1].mirror_id, pair.name, ResolvedPath.of(pair.source), known[-1].adopted)
    return Admitted(expected, expected, known=known[-1], asleep=True)


def is_made_by_next_cycle(pair: Pair, memory: Memory, state_dir: str | None) -> bool:
    """Return whether the mirror does not exist and the next cycle makes it."""
    if not presence.is_missing(pair):
        return False
    try:
        presence.check_above(pair)
        admit(pair, None, memory, state_dir)
    except (Refused, OSError):
        return False
    return True


class HeldIdentity:
    """The identity of a claimed mirror. The file stays open, so that no other gets its inode number."""

    def __init__(self, mirror_state: int, identity: PairIdentity, next_mark: str) -> None:
        """`next_mark` is for a cycle that writes; empty to leave the present mark."""
        self.identity = identity
        self.next_mark = next_mark
        self._folder = mirror_state
        self._file = open_own_file(IDENTITY_FILE, mirror_state, os.O_RDONLY)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def is_held(self, mirror: int) -> bool:
        """Return whether the file was neither removed nor replaced in the open mirror. Raises nothing."""
        return lock.is_held(self._file, mirror, b"/".join((STATE_FOLDER, IDENTITY_FILE.encode("ascii"))))

    def mark_once(self) -> None:
        """Give the mirror the mark of a cycle that writes, so that a clone of it is noticed.

        On a full disk the present mark stays: copies meet the same error.
        """
        mark, self.next_mark = self.next_mark, ""
        if not mark:
            return
        before = self.identity.cycle
        marked = self.identity._replace(cycle=CycleMark(before.number + 1 if before else 1, mark), mirror=None)
        with suppress(OSError):
            write_identity(self._folder, marked)
            opened = open_own_file(IDENTITY_FILE, self._folder, os.O_RDONLY)
            os.close(self._file)
            self._file, self.identity = opened, marked


def settle(pair: Pair, mirror_state: int, admitted: Admitted) -> HeldIdentity:
    """Check under the lock that the mirror is still the admitted one; write its identity if it is new.

    Raises `MirrorSwapped` and `OSError`.
    """
    known = admitted.known
    try:
        now = read_identity(mirror_state)
    except DamagedIdentityError:
        now = None
    if admitted.asleep and now is not None and now.mirror_id == admitted.mirror_id:
        is_same = now.source.matches(admitted.identity.source) and is_continued(
            now.cycle, known.cycle if known else None
        )
        admitted = admitted._replace(identity=now, found=now) if is_same else admitted
    if now != admitted.found:
        raise MirrorSwapped(f"the mirror {pair.dest} is another one than a moment ago", hint="Run it again.")
    if now is None:
        write_identity(mirror_state, admitted.identity)
    return HeldIdentity(mirror_state, admitted.identity, next_mark(admitted.identity, known))


def next_mark(identity: PairIdentity, known: MirrorMemory | None) -> str:
    """Return the mark for a cycle that writes: the remembered one, so that a kill at any moment leaves one that is.

    Empty if the mirror has it already: what is remembered is to be renewed first.
    """
    if known is None or known.cycle is None:
        return os.urandom(16).hex()
    return known.cycle.upcoming if identity.cycle and identity.cycle.mark == known.cycle.mark else ""


def memory_of(pair: Pair, mirror: int, found: PairIdentity, known: MirrorMemory | None) -> MirrorMemory:
    """Return what is to be remembered of an admitted, open mirror, with a mark to expect from the next cycle."""
    now = MirrorMemory(
        found.mirror_id,
        ResolvedPath.of(pair.source),
        known.adopted if known else now_text(),
        os.path.abspath(pair.dest),
        identity_of(mirror, mount_of(mirror)),
        identity(mirror),
        known.cycle if known else None,
        known.last_success if known else 0.0,
    )
    if found.cycle is not None and (now.cycle is None or now.cycle.mark != found.cycle.mark):
        return now.expect(found.cycle)
    return now
