"""Adopt the mirror at the path of a pair, as `truecopy adopt` does: a person says that it is the right one."""

import os
from contextlib import ExitStack, suppress
from typing import NamedTuple

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER
from job.core.mirror_identity import MirrorVerdict, judge_adoption, needs_new_id
from job.core.outcome import Refusal, reason_text
from job.engine.preflight import identity, presence
from job.engine.preflight.mirror_facts import MirrorFindings, gather
from job.engine.preflight.open_pair import (
    MIRROR,
    SOURCE,
    check_roots,
    check_writable,
    forget_index,
    open_or_create,
    open_side,
    refuse_state_errors,
)
from job.errors import Refused
from job.fs.dircursor import closing_fd
from job.fs.own_files import open_own_folder
from job.fs.trusted_path import open_trusted_folder
from job.locking import lock
from job.store.memory import Memory
from job.store.pair_records import DamagedIdentityError, PairIdentity, find_state_folder, write_identity


class Adopted(NamedTuple):
    """An adopted mirror."""

    mirror_id: str
    verdict: MirrorVerdict
    """`GO_ON` for one that was a mirror of the pair already, `ADOPT` for an empty one, otherwise `COMPARE`."""


def adopt(pair: Pair, state_dir: str | None, memory: Memory, started: float, *, take_over: bool = False) -> Adopted:
    """Adopt the mirror at the path of a pair; `take_over` accepts that of another pair.

    Its contents stay as they are, and the next cycle compares them. Raises `Refused` and `Busy`.
    """
    with ExitStack() as stack:
        source = open_side(stack, pair.source, SOURCE)
        if presence.is_missing(pair):
            message = f"the mirror {pair.dest} does not exist"
            hint = f"Mount the disk of the mirror. For a mirror on another disk: mkdir {pair.dest}"
            raise Refused(Refusal.MIRROR_MISSING, message, hint=hint)
        mirror = open_side(stack, pair.dest, MIRROR)
        check_roots(pair, state_dir, source, mirror)
        check_writable(pair, mirror)
        with refuse_state_errors(pair, None, in_mirror=state_dir is not None):
            _judge(pair, mirror, memory, state_dir, take_over=take_over)  # before anything is made in it
            mirror_state = stack.enter_context(closing_fd(open_or_create(STATE_FOLDER, mirror)))
            stack.enter_context(closing_fd(lock.acquire(mirror_state, pair.name, started)))
            findings, verdict = _judge(pair, mirror, memory, state_dir, take_over=take_over)
            identity_now = _settle(pair, findings, verdict, state_dir, mirror_state)
        _remember(pair, mirror, memory, identity_now)
        return Adopted(identity_now.mirror_id, verdict)


def _settle(
    pair: Pair, findings: MirrorFindings, verdict: MirrorVerdict, state_dir: str | None, mirror_state: int
) -> PairIdentity:
    """Write the identity of a locked mirror, unless it has the right one; its index is set aside before."""
    found = findings.found
    if verdict is MirrorVerdict.GO_ON and found is not None:
        return found
    mirror_id = found.mirror_id if found is not None and not needs_new_id(findings.facts) else findings.same_id
    adopted = identity.new_identity(pair, mirror_id)
    _forget_index(pair, state_dir, mirror_state, adopted.mirror_id)
    write_identity(mirror_state, adopted)
    return adopted


def _judge(
    pair: Pair, mirror: int, memory: Memory, state_dir: str | None, *, take_over: bool
) -> tuple[MirrorFindings, MirrorVerdict]:
    findings = gather(pair, mirror, memory, state_dir)
    verdict = judge_adoption(findings.facts, take_over=take_over)
    if verdict.refuses:
        raise identity.refusal(pair, findings, verdict)
    return findings, verdict


def _forget_index(pair: Pair, state_dir: str | None, mirror_state: int, mirror_id: str) -> None:
    if state_dir is None:
        forget_index(mirror_state)
        return
    with suppress(FileNotFoundError, DamagedIdentityError), closing_fd(open_trusted_folder(state_dir)) as folder:
        name = os.fsencode(find_state_folder(state_dir, pair, mirror_id).name)
        with closing_fd(open_own_folder(name, folder)) as state:
            forget_index(state)


def _remember(pair: Pair, mirror: int, memory: Memory, found: PairIdentity) -> None:
    if memory.base is None:
        return
    entry = identity.memory_of(pair, mirror, found, memory.mirror(found.mirror_id))
    try:
        memory.remember(pair, entry)
    except OSError as error:
        message = f"that {pair.dest} is a mirror of {pair.name} cannot be remembered: {reason_text(error)}"
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=f"Make {memory.base} writable for this user.") from None
