"""Decide by its identity and by what is remembered whether a pair may use the mirror at its path (invariant 6).

`mirror_facts.py` gathers the facts, `core/mirror_identity.py` judges them. Nothing is written before the lock is held.
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
    MirrorFound,
    MirrorVerdict,
    is_continued,
    judge_mirror,
    next_step,
)
from job.core.outcome import Refusal
from job.engine.preflight import presence
from job.engine.preflight.mirror_facts import MirrorFindings, gather, identity_in, place_of
from job.errors import JobError, Refused
from job.fs.large_dir import name_exists
from job.fs.own_files import open_own_file
from job.locking import lock
from job.store.memory import Memory, MirrorMemory, now_text
from job.store.pair_records import (
    IDENTITY_FILE,
    DamagedIdentityError,
    PairIdentity,
    ResolvedPath,
    read_identity,
    write_identity,
)

_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class MirrorSwapped(JobError):
    """A mirror that was taken for the sleeping one is another: the pair is to be opened anew."""


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
    replaced: tuple[str, ...] = ()
    """The ids of the mirrors in whose place it was made."""
    asleep: bool = False
    """Whether it was recognised without being read."""

    @property
    def mirror_id(self) -> str:
        """The id of the mirror."""
        return self.identity.mirror_id


def admit(pair: Pair, mirror: int | None, memory: Memory, state_dir: str | None, *, made: bool = False) -> Admitted:
    """Judge the mirror at the path of a pair; None for one that does not exist. Nothing is written.

    `made` tells that it was just made for a verdict on the missing one. Raises `Refused` and `OSError`.
    """
    if made and mirror is not None and identity_in(mirror) is None:
        return Admitted(new_identity(pair), None, MirrorVerdict.MAKE)
    findings = gather(pair, mirror, memory, state_dir)
    verdict = judge_mirror(findings.facts)
    if verdict.refuses:
        raise refusal(pair, findings, verdict)
    if findings.found is not None:
        at_hand = Admitted(findings.found, findings.found, verdict, replaced=findings.replaced)
        return at_hand._replace(known=findings.remembered, is_last=findings.is_last)
    lost = ""
    if mirror is not None and findings.facts.remembered:
        folder = f"{pair.dest}/{STATE_FOLDER.decode('ascii')}"
        gone = f"{folder}/{IDENTITY_FILE}" if name_exists(mirror, STATE_FOLDER) else folder
        lost = f"{gone} does not exist, although the mirror {findings.trace}: what was kept in it is gone"
    adopted = Admitted(new_identity(pair, findings.same_id), None, verdict, lost, replaced=findings.replaced)
    return adopted._replace(known=memory.mirror(findings.same_id))


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
    known, here = memory.mirrors_of(pair), place_of(mirror)
    if not known or known[-1].place.folder != here.folder:
        return None
    if match_file_system(known[-1].place.file_system, here.file_system) is not FileSystemMatch.SAME:
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
        place_of(mirror),
        known.cycle if known else None,
        known.last_success if known else 0.0,
    )
    if found.cycle is not None and (now.cycle is None or now.cycle.mark != found.cycle.mark):
        return now.expect(found.cycle)
    return now
