"""The preflight: open and lock a pair, or refuse it before an entry of the mirror is changed (invariants 5 and 6)."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER, FileId
from job.core.mirror_identity import MirrorVerdict
from job.core.outcome import Refusal, reason_text
from job.engine.preflight import identity, overlap, ownership, presence
from job.engine.preflight.identity import Admitted
from job.engine.preflight.presence import check_complete
from job.engine.preflight.root_check import Claim, ClaimedMirror
from job.errors import Refused
from job.fs.dircursor import closing_fd, single
from job.fs.dircursor import identity as file_id
from job.fs.large_dir import name_exists
from job.fs.mounts import FileSystem, file_systems, is_read_only, mount_of
from job.fs.own_files import REMOVE_IT, describe_entry, is_shared, open_own_folder
from job.fs.rights import may_write_folder
from job.fs.trusted_path import UntrustedPath, make_folders, open_trusted_folder
from job.locking import lock
from job.store import index_schema
from job.store.memory import Memory
from job.store.pair_records import DamagedIdentityError, ResolvedPath, find_state_folder

if TYPE_CHECKING:
    from job.locking.lease import Lease

_OTHERS = 0o077
_README = b"README.txt"


class Roots(NamedTuple):
    """An open, locked pair: descriptors of both roots and the state folder."""

    source: int
    mirror: int
    state: int
    mirror_state: FileId | None = None
    """The `.truecopy` of the mirror; None if it was not read."""
    opened_ns: int = 0
    """End of the preflight, by the system's clock in nanoseconds since the epoch."""
    lease: "Lease | None" = None
    """Set where other machines may reach the mirror."""
    claim: Claim | None = None
    """The claim on the mirror; to be called before the first write to a sleeping one. Workers have none."""
    systems: Sequence[FileSystem] = ()
    """The file systems of the mirror, the root's first; found before the sandbox hides them."""
    source_type: str = ""
    """The type of the source's file system; empty if unknown."""
    admitted: Admitted | None = None
    """Why the pair may use the mirror. Workers have none."""
    not_recorded: str = ""
    """Why the mirror cannot be remembered; reported once in a process."""
    state_reset: str = ""
    """Why the pair starts with a new state folder although its name had one."""


_NOTHING_KNOWN = Memory()


@contextmanager
def open_roots(pair: Pair, state_dir: str | None, memory: Memory = _NOTHING_KNOWN) -> Iterator[tuple[int, int]]:
    """Open source and mirror, check their positions and judge the mirror, or raise `Refused`. Nothing is written.

    An empty folder stands in for a mirror that the next cycle creates.
    """
    with ExitStack() as stack:
        source = open_side(stack, pair.source, SOURCE)
        check_complete(pair, source)
        if presence.is_missing(pair):
            _check_creatable(pair, state_dir, memory)
            mirror = presence.open_placeholder(stack)
            check_roots(pair, state_dir, source, mirror)
        else:
            mirror = open_side(stack, pair.dest, MIRROR)
            check_roots(pair, state_dir, source, mirror)
            with refuse_state_errors(pair, None, in_mirror=state_dir is not None):
                identity.admit(pair, mirror, memory, state_dir)
        yield source, mirror


def check_roots(pair: Pair, state_dir: str | None, source: int, mirror: int) -> None:
    """Refuse roots or a state folder that lie in one another, and a `.truecopy` that is not ours. Raises `Refused`."""
    overlap.check_roots(pair, source, mirror)
    if state_dir is not None:
        with refuse_state_errors(pair, state_dir):
            overlap.check_state(pair, state_dir, (source, mirror))
    if pair.mirror_check == "awake" or state_dir is None:
        ownership.check_mirror(pair, mirror)


def _check_creatable(pair: Pair, state_dir: str | None, memory: Memory) -> None:
    presence.check_above(pair)
    identity.admit(pair, None, memory, state_dir)


@contextmanager
def open_pair(
    pair: Pair,
    state_dir: str | None,
    started: float,
    stop: Callable[[], bool] = lambda: False,
    memory: Memory = _NOTHING_KNOWN,
) -> Iterator[Roots]:
    """Open and lock a pair, or raise `Refused` or `Busy` with writes to the state folder and `.truecopy` only.

    A new mirror is created. Raises `Stopped` if the run is to end while an abandoned lease is watched, and
    `MirrorSwapped` if another mirror is there than a moment ago.
    """
    with ExitStack() as stack:
        source = open_side(stack, pair.source, SOURCE)
        check_complete(pair, source)
        mirror, made = _open_or_create_mirror(stack, pair, state_dir, source, memory)
        check_roots(pair, state_dir, source, mirror)
        check_writable(pair, mirror)
        admitted = _admit(pair, state_dir, mirror, memory, made=made)
        with refuse_state_errors(pair, state_dir):
            state, state_reset = _open_state(stack, pair, state_dir, mirror, admitted.mirror_id, memory)
            held = stack.enter_context(closing_fd(lock.acquire(state, pair.name, started)))
            if admitted.verdict is MirrorVerdict.COMPARE:
                forget_index(state)  # before the mirror gets an identity: a kill in between must not make it believed
        claim = _claim(stack, pair, state_dir, (mirror, state, held), admitted, started)
        lease = None
        # A lease would wake a sleeping mirror.
        if pair.mirror_check == "awake" and is_shared(mirror):
            with refuse_state_errors(pair, None, in_mirror=True):
                from job.locking.lease import acquire  # noqa: PLC0415  # few mirrors need one, and each start would pay for it

                lease = stack.enter_context(closing(acquire(claim().mirror_state, pair.name, started, stop)))
        not_recorded = _remember(pair, mirror, claim, admitted, memory)
        systems = file_systems(mirror)
        own = None if claim.held is None else FileId._make(file_id(claim.held.mirror_state))
        mount, opened_ns = mount_of(source), time.time_ns()
        known = own, opened_ns, lease, claim, systems, mount.type if mount else ""
        yield Roots(source, mirror, state, *known, admitted, not_recorded, state_reset)


def _open_or_create_mirror(
    stack: ExitStack, pair: Pair, state_dir: str | None, source: int, memory: Memory
) -> tuple[int, bool]:
    if not presence.is_missing(pair):
        return open_side(stack, pair.dest, MIRROR), False
    _check_creatable(pair, state_dir, memory)
    return stack.enter_context(closing_fd(presence.create_mirror(pair, state_dir, source))), True


def _admit(pair: Pair, state_dir: str | None, mirror: int, memory: Memory, *, made: bool) -> Admitted:
    if pair.mirror_check == "asleep" and state_dir is not None and not made:
        sleeping = identity.of_sleeping(pair, mirror, memory)
        if sleeping is not None:
            return sleeping
    with refuse_state_errors(pair, None, in_mirror=state_dir is not None):
        return identity.admit(pair, mirror, memory, state_dir, made=made)


def _claim(
    stack: ExitStack,
    pair: Pair,
    state_dir: str | None,
    opened: tuple[int, int, int],
    admitted: Admitted,
    started: float,
) -> Claim:
    """Claim a mirror, and record its identity; a known one that may sleep is claimed later."""
    mirror, state, held = opened
    if state_dir is not None:
        with refuse_state_errors(pair, state_dir):
            ownership.check_state(pair, state, admitted.mirror_id)

    def settled(mirror_state: int, ours: int) -> ClaimedMirror:
        found = identity.settle(pair, mirror_state, admitted)
        stack.callback(found.close)
        return ClaimedMirror(mirror_state, ours, found)

    def acquire() -> ClaimedMirror:
        if state_dir is None:
            with refuse_state_errors(pair, None):
                return settled(state, held)
        before = os.fstat(mirror)
        with refuse_state_errors(pair, None, in_mirror=True):
            mirror_state = stack.enter_context(closing_fd(open_or_create(STATE_FOLDER, mirror)))
            ours = stack.enter_context(closing_fd(lock.acquire(mirror_state, pair.name, started)))
            claimed = settled(mirror_state, ours)
        if os.fstat(mirror).st_mtime_ns != before.st_mtime_ns:
            with suppress(OSError):  # `.truecopy` was created in it
                os.utime(mirror, ns=(before.st_atime_ns, before.st_mtime_ns))
        with refuse_state_errors(pair, state_dir):
            ownership.record_state(pair, state, claimed.identity.identity)
        return claimed

    claim = Claim(mirror, admitted.mirror_id, acquire)
    if not admitted.asleep:
        claim()
    return claim


def forget_index(state: int) -> None:
    """Set the index of an open state folder aside: nothing in the mirror is believed. Raises `OSError`."""
    index_schema.set_aside(f"/proc/self/fd/{state}")


def _remember(pair: Pair, mirror: int, claim: Claim, admitted: Admitted, memory: Memory) -> str:
    """Remember a claimed mirror; return why that is not possible, once in a process."""
    if claim.held is None:
        return ""
    held, known = claim.held.identity, admitted.known
    wanted, error = identity.memory_of(pair, mirror, held.identity, known), ""
    if wanted != known or not admitted.is_last:
        error = memory.try_remember(pair, wanted)
        for each in admitted.replaced:
            memory.forget(each)
        known = memory.mirror(claim.mirror_id)
    held.next_mark = identity.next_mark(held.identity, known)
    return error


class _Side(NamedTuple):
    noun: str
    missing: Refusal
    not_a_folder: Refusal
    unreadable: Refusal
    hint: str


SOURCE = _Side(
    "source",
    Refusal.SOURCE_MISSING,
    Refusal.SOURCE_NOT_A_FOLDER,
    Refusal.SOURCE_UNREADABLE,
    "Check that its disk is mounted and the path is right; the mirror was left alone.",
)
MIRROR = _Side(
    "mirror",
    Refusal.MIRROR_MISSING,
    Refusal.MIRROR_NOT_A_FOLDER,
    Refusal.MIRROR_NOT_WRITABLE,
    "Check that its disk is mounted and the path is right.",
)


_SERVER_GONE = {errno.ESTALE, errno.ENOTCONN}


def open_side(stack: ExitStack, path: str, side: _Side) -> int:
    """Open the source or mirror of a pair until the end of the `stack`. Raises `Refused`."""
    try:
        return stack.enter_context(closing_fd(open_trusted_folder(path)))
    except UntrustedPath as error:
        message = f"the {side.noun} {path} is not used: {error.strerror}"
        raise Refused(Refusal.UNTRUSTED_LINK, message, hint=error.hint) from None
    except FileNotFoundError:
        raise Refused(side.missing, f"the {side.noun} {path} does not exist", hint=side.hint) from None
    except NotADirectoryError:
        raise Refused(side.not_a_folder, f"the {side.noun} {path} is not a folder", hint=side.hint) from None
    except OSError as error:
        message = f"the {side.noun} {path} cannot be opened: {reason_text(error)}"
        if side is MIRROR and error.errno in _SERVER_GONE:
            raise Refused(side.missing, message, hint=side.hint) from None
        raise Refused(side.unreadable, message, hint=side.hint) from None


def open_mirror(stack: ExitStack, pair: Pair) -> int:
    """Open the mirror of a pair to read what it holds; its source may be gone. Raises `Refused`."""
    mirror = open_side(stack, pair.dest, MIRROR)
    ownership.check_mirror(pair, mirror)
    return mirror


def open_source(stack: ExitStack, pair: Pair) -> int:
    """Open the source of a pair to restore into it. Raises `Refused`."""
    return open_side(stack, pair.source, SOURCE._replace(hint="Check that its disk is mounted, or write --to DIR."))


def check_writable(pair: Pair, mirror: int) -> None:
    """Refuse a mirror that cannot be written. Raises `Refused`."""
    if is_read_only(mirror):
        message = f"the mirror {pair.dest} is on a read-only file system"
        hint = "Mount it writable; if it turned read-only by itself, look at the kernel's log for disk errors."
        raise Refused(Refusal.MIRROR_READ_ONLY, message, hint=hint)
    # Its owner can always make it writable; the mode of a read-only source is also that of the mirror's root.
    if not may_write_folder(mirror):
        give = f"Give it to that user (chown {os.geteuid()} {pair.dest}), or run Truecopy as its owner."
        message = f"the mirror {pair.dest} is not writable for user {os.geteuid()}"
        hint = f"{_NOT_MOUNTED} {give}" if _looks_unmounted(mirror) else give
        raise Refused(Refusal.MIRROR_NOT_WRITABLE, message, hint=hint)


_NOT_MOUNTED = (
    "Is the disk mounted? An empty folder of root is how a mount point looks without its disk. If it is mounted:"
)


def _looks_unmounted(mirror: int) -> bool:
    """Return whether an open folder is empty and root's; False if it cannot be listed."""
    with suppress(OSError):
        return os.fstat(mirror).st_uid == 0 and not os.listdir(mirror)
    return False


@contextmanager
def refuse_state_errors(pair: Pair, state_dir: str | None, *, in_mirror: bool = False) -> Iterator[None]:
    """Turn errors of the state folder into `Refused`; without a `state_dir` that is the one in the mirror.

    `in_mirror` marks files that a `state_dir` does not move out of the mirror.
    """
    place = f"{state_dir}/{pair.name}" if state_dir else f"{pair.dest}/{STATE_FOLDER.decode()}"
    try:
        yield
    except UntrustedPath as error:
        message = f"the state folder {place} is not used: {error.strerror}"
        raise Refused(Refusal.UNTRUSTED_LINK, message, hint=error.hint) from error
    except OSError as error:
        message = f"the state folder {place} cannot be used: {reason_text(error)}"
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=_next_step(error, place, in_mirror=in_mirror)) from error


def _next_step(error: OSError, place: str, *, in_mirror: bool) -> str:
    if (error.strerror or "").endswith(REMOVE_IT):
        return f"Remove what is named from {place}; Truecopy makes it anew."
    if in_mirror:
        return "Make it writable for this user."
    return "Make it writable for this user, or set state_dir to a folder that is."


def _open_state(
    stack: ExitStack, pair: Pair, state_dir: str | None, mirror: int, mirror_id: str, memory: Memory
) -> tuple[int, str]:
    """Open the state folder of a mirror; also say why it is new although the pair's name had one."""
    state_reset = ""
    if state_dir is None:
        parent, name = mirror, STATE_FOLDER
    else:
        parent = make_folders(state_dir, memory.sources or (pair.source,), memory.mirrors or (pair.dest,))
        stack.callback(os.close, parent)
        try:
            place = find_state_folder(state_dir, pair, mirror_id)
        except DamagedIdentityError as error:
            raise ownership.unusable_state(pair, error) from None
        name, other = os.fsencode(place.name), place.used_by
        if other is not None and not other.source.matches(ResolvedPath.of(pair.source)):
            used = f" -> {other.mirror.written}" if other.mirror else ""
            if not name_exists(parent, name):
                state_reset = (
                    f"the state folder {pair.name} is of {other.source.written}{used}, so this pair's is {place.name}"
                )
    state = stack.enter_context(closing_fd(open_or_create(name, parent)))
    if not name_exists(state, _README):
        ownership.write_readme(state, pair)
    return state, state_reset


def open_or_create(name: bytes, parent: int) -> int:
    """Open a private folder of Truecopy, closed to others; make it if it does not exist. Raises `OSError`."""
    try:
        try:
            folder = open_own_folder(single(name), parent)
        except FileNotFoundError:
            with suppress(FileExistsError):
                _make(name, parent)
            folder = open_own_folder(name, parent)
    except NotADirectoryError:
        raise NotADirectoryError(
            errno.ENOTDIR, f"it is {describe_entry(name, parent)}, not a folder; move it away"
        ) from None
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & _OTHERS:
        with suppress(OSError):  # a file system without modes gives it that of the mount
            os.fchmod(folder, mode & ~_OTHERS)
    return folder


def _make(name: bytes, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except PermissionError:
        # The mirror of a read-only source is read-only for its owner, too; the sync of the root sets its mode again.
        os.fchmod(parent, stat.S_IMODE(os.fstat(parent).st_mode) | 0o700)
        os.mkdir(name, 0o700, dir_fd=parent)
