"""The gate: every doubt about a pair is settled before anything is written (design 3.1; invariants 5 and 6)."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER, FileId
from job.core.outcome import Refusal, reason_text
from job.engine.preflight import overlap, ownership, presence
from job.engine.preflight.presence import check_complete
from job.engine.preflight.roots import Claim, ClaimedMirror
from job.errors import Refused
from job.fs.dircursor import identity, single
from job.fs.large_dir import has_name
from job.fs.mounts import FileSystem, file_systems
from job.fs.small_files import REMOVE_IT, described, open_ours, others_may_reach
from job.fs.trusted_path import UntrustedPath, make_folders, open_trusted_folder
from job.locking import lock
from job.store.pair_records import DamagedIdentityError, PairRecords, find_state_folder

if TYPE_CHECKING:
    from job.locking.lease import Lease

_OTHERS = 0o077
_README = b"README.txt"


@dataclass(frozen=True, slots=True)
class Roots:
    """An open pair: both roots and the state folder, locked."""

    source: int
    mirror: int
    state: int
    home: FileId | None = None
    """The `.truecopy` of the mirror; None where it was not looked at."""
    opened_ns: int = 0
    """When the gate was passed, by the system's clock."""
    lease: "Lease | None" = None
    """Where other machines may reach the mirror."""
    claim: Claim | None = None
    """On the mirror; to be called before the first write to one that may sleep. Workers have none of their own."""
    systems: Sequence[FileSystem] = ()
    """The file systems of the mirror, the root's first; looked up before the wall is put up around the work."""
    made: bool = False
    """Whether the mirror did not exist and was made."""
    not_recorded: str = ""
    """Why it cannot be recorded that the mirror exists; said once in a process."""
    state_reset: str = ""
    """Why the pair begins with a new state although its name had one."""
    lost: str = ""
    """What is known of a `.truecopy` that the mirror had, and has no more."""


_NOTHING_KNOWN = PairRecords()


@contextmanager
def open_roots(pair: Pair, state_dir: str | None, records: PairRecords = _NOTHING_KNOWN) -> Iterator[tuple[int, int]]:
    """Open source and mirror and see that nothing lies in anything else, or raise `Refused`. Nothing is written.

    An empty folder stands for a mirror that the next cycle makes.
    """
    with ExitStack() as stack:
        source = _open(stack, pair.source, _SOURCE)
        check_complete(pair, source)
        if presence.is_missing(pair):
            presence.check(pair, state_dir, records)
            mirror = presence.stand_in(stack)
        else:
            mirror = _open(stack, pair.dest, _MIRROR)
        _check_roots(pair, state_dir, source, mirror)
        yield source, mirror


def _check_roots(pair: Pair, state_dir: str | None, source: int, mirror: int) -> None:
    overlap.check_roots(pair, source, mirror)
    if state_dir is not None:
        with _state_must_do(pair, state_dir):
            overlap.check_state(pair, state_dir, (source, mirror))
    if pair.mirror_check == "awake" or state_dir is None:
        ownership.check_mirror(pair, mirror)


@contextmanager
def enter(
    pair: Pair,
    state_dir: str | None,
    started: float,
    stop: Callable[[], bool] = lambda: False,
    records: PairRecords = _NOTHING_KNOWN,
) -> Iterator[Roots]:
    """Open and lock a pair, or raise `Refused` or `Busy` with nothing written but our own state folder.

    A mirror that is used for the first time is made. Raises `Stopped` if it is to end while a lease is watched that
    was left.
    """
    with ExitStack() as stack:
        source = _open(stack, pair.source, _SOURCE)
        check_complete(pair, source)
        mirror, made = _open_or_make(stack, pair, state_dir, source, records)
        _check_roots(pair, state_dir, source, mirror)
        check_writable(pair, mirror)
        lost = "" if made or pair.mirror_check == "asleep" else ownership.lost_home(pair, mirror, records)
        with _state_must_do(pair, state_dir):
            state, state_reset = _open_state(stack, pair, state_dir, mirror, records)
            held = lock.hold(state, pair.name, started)
            stack.callback(os.close, held)
        claim = _claim(stack, pair, state_dir, (mirror, state, held), started)
        lease = None
        # A mirror that may sleep is not written to just to say that we are here.
        if pair.mirror_check == "awake" and others_may_reach(mirror):
            with _state_must_do(pair, None, always_there=True):
                from job.locking.lease import take  # noqa: PLC0415  # few mirrors need one, and each start would pay for it

                lease = stack.enter_context(closing(take(claim().home, pair.name, started, stop)))
        not_recorded = records.try_record_mirror(pair.name, pair.source, pair.dest)
        systems = file_systems(mirror)
        own = None if claim.held is None else FileId._make(identity(claim.held.home))
        opened_ns = time.time_ns()
        yield Roots(source, mirror, state, own, opened_ns, lease, claim, systems, made, not_recorded, state_reset, lost)


def _open_or_make(
    stack: ExitStack, pair: Pair, state_dir: str | None, source: int, records: PairRecords
) -> tuple[int, bool]:
    if not presence.is_missing(pair):
        return _open(stack, pair.dest, _MIRROR), False
    presence.check(pair, state_dir, records)
    mirror = presence.make(pair, state_dir, source)
    stack.callback(os.close, mirror)
    return mirror, True


def _claim(stack: ExitStack, pair: Pair, state_dir: str | None, opened: tuple[int, int, int], started: float) -> Claim:
    """Claim a mirror, see that it is this pair's, and record it; one that may sleep is claimed later if it was seen."""
    mirror, state, held = opened
    if state_dir is None:
        with _state_must_do(pair, None):
            ownership.settle_mirror(pair, state)
        claim = Claim(mirror, lambda: ClaimedMirror(state, held))
        claim()
        return claim
    with _state_must_do(pair, state_dir):
        recorded = ownership.check_state(pair, state)

    def take() -> ClaimedMirror:
        before = os.fstat(mirror)
        with _state_must_do(pair, None, always_there=True):
            home = _make_and_open(STATE_FOLDER, mirror)
            stack.callback(os.close, home)
            ours = lock.hold(home, pair.name, started)
            stack.callback(os.close, ours)
            found = ownership.settle_mirror(pair, home)
        if os.fstat(mirror).st_mtime_ns != before.st_mtime_ns:
            ownership.keep_times(mirror, before)
        with _state_must_do(pair, state_dir):
            ownership.settle_state(state, recorded, mirror, found)
        return ClaimedMirror(home, ours)

    claim = Claim(mirror, take)
    if pair.mirror_check == "awake" or recorded is None or recorded.mirror_root != identity(mirror):
        claim()
    return claim


@dataclass(frozen=True, slots=True)
class _Side:
    noun: str
    missing: Refusal
    not_a_folder: Refusal
    unreadable: Refusal
    hint: str


_SOURCE = _Side(
    "source",
    Refusal.SOURCE_MISSING,
    Refusal.SOURCE_NOT_A_FOLDER,
    Refusal.SOURCE_UNREADABLE,
    "Check that its disk is mounted and the path is right; the mirror was left alone.",
)
_MIRROR = _Side(
    "mirror",
    Refusal.MIRROR_MISSING,
    Refusal.MIRROR_NOT_A_FOLDER,
    Refusal.MIRROR_NOT_WRITABLE,
    "Check that its disk is mounted and the path is right.",
)


def _open(stack: ExitStack, path: str, side: _Side) -> int:
    try:
        descriptor = open_trusted_folder(path)
    except UntrustedPath as error:
        message = f"the {side.noun} {path} is not used: {error.strerror}"
        raise Refused(Refusal.UNTRUSTED_LINK, message, hint=error.hint) from None
    except FileNotFoundError:
        raise Refused(side.missing, f"the {side.noun} {path} does not exist", hint=side.hint) from None
    except NotADirectoryError:
        raise Refused(side.not_a_folder, f"the {side.noun} {path} is not a folder", hint=side.hint) from None
    except OSError as error:
        message = f"the {side.noun} {path} cannot be opened: {reason_text(error)}"
        raise Refused(side.unreadable, message, hint=side.hint) from None
    stack.callback(os.close, descriptor)
    return descriptor


def is_read_only(mirror: int) -> bool:
    """Tell whether an open mirror is on a file system that nobody can write to."""
    return bool(os.fstatvfs(mirror).f_flag & os.ST_RDONLY)


def check_writable(pair: Pair, mirror: int) -> None:
    """Refuse a mirror that cannot be written. Raises `Refused`."""
    if is_read_only(mirror):
        raise Refused(
            Refusal.MIRROR_READ_ONLY,
            f"the mirror {pair.dest} is on a read-only file system",
            hint="Mount it writable; if it turned read-only by itself, look at the kernel's log for disk errors.",
        )
    # Its owner may always make it writable; a read-only source gives its mode to the mirror's root, too.
    ours = os.fstat(mirror).st_uid == os.geteuid()
    if not ours and not os.access(".", os.W_OK | os.X_OK, dir_fd=mirror, effective_ids=True):
        give = f"Give it to that user (chown {os.geteuid()} {pair.dest}), or run Truecopy as its owner."
        raise Refused(
            Refusal.MIRROR_NOT_WRITABLE,
            f"the mirror {pair.dest} is not writable for user {os.geteuid()}",
            hint=f"{_NOT_MOUNTED} {give}" if _looks_unmounted(mirror) else give,
        )


_NOT_MOUNTED = (
    "Is the disk mounted? An empty folder of root is how a mount point looks without its disk. If it is mounted:"
)


def _looks_unmounted(mirror: int) -> bool:
    """Tell whether an open folder is empty and root's; one that cannot be listed is not."""
    with suppress(OSError):
        return os.fstat(mirror).st_uid == 0 and not os.listdir(mirror)
    return False


@contextmanager
def _state_must_do(pair: Pair, state_dir: str | None, *, always_there: bool = False) -> Iterator[None]:
    """Refuse the pair for what goes wrong with its state folder; without a `state_dir`, with that in the mirror.

    What is `always_there`, in the mirror, no `state_dir` puts elsewhere.
    """
    place = f"{state_dir}/{pair.name}" if state_dir else f"{pair.dest}/{STATE_FOLDER.decode()}"
    try:
        yield
    except UntrustedPath as error:
        message = f"the state folder {place} is not used: {error.strerror}"
        raise Refused(Refusal.UNTRUSTED_LINK, message, hint=error.hint) from error
    except OSError as error:
        raise Refused(
            Refusal.STATE_UNUSABLE,
            f"the state folder {place} cannot be used: {reason_text(error)}",
            hint=_next_step(error, place, always_there=always_there),
        ) from error


def _next_step(error: OSError, place: str, *, always_there: bool) -> str:
    if (error.strerror or "").endswith(REMOVE_IT):
        return f"Remove what is named from {place}; Truecopy makes it anew."
    if always_there:
        return "Make it writable for this user."
    return "Make it writable for this user, or set state_dir to a folder that is."


def _open_state(
    stack: ExitStack, pair: Pair, state_dir: str | None, mirror: int, records: PairRecords
) -> tuple[int, str]:
    """Open the state folder; also say why it is a new one although the pair's name had one."""
    state_reset = ""
    if state_dir is None:
        parent, name = mirror, STATE_FOLDER
    else:
        parent = make_folders(state_dir, records.sources or (pair.source,), records.mirrors or (pair.dest,))
        stack.callback(os.close, parent)
        try:
            place = find_state_folder(state_dir, pair)
        except DamagedIdentityError as error:
            raise ownership.unusable_state(pair, error) from None
        name = os.fsencode(place.name)
        if place.used_by is not None and not has_name(parent, name):
            theirs = f"{place.used_by.source.written} -> {place.used_by.mirror.written}"
            state_reset = f"the state folder {pair.name} is of {theirs}, so this pair's is {place.name}"
    state = _make_and_open(name, parent)
    stack.callback(os.close, state)
    if not has_name(state, _README):
        from job.engine.preflight.ownership import explain  # noqa: PLC0415  # once for a mirror, and each start would pay for it

        explain(state, pair)
    return state, state_reset


def _make_and_open(name: bytes, parent: int) -> int:
    try:
        try:
            folder = open_ours(single(name), parent)
        except FileNotFoundError:
            with suppress(FileExistsError):
                _make(name, parent)
            folder = open_ours(name, parent)
    except NotADirectoryError:
        raise NotADirectoryError(
            errno.ENOTDIR, f"it is {described(name, parent)}, not a folder; move it away"
        ) from None
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & _OTHERS:
        with suppress(OSError):  # where there are no modes, it has the one that the mount gives to everything
            os.fchmod(folder, mode & ~_OTHERS)
    return folder


def _make(name: bytes, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except PermissionError:
        # A mirror of a read-only source is read-only for its owner, too; its mode is put right at the end of the cycle.
        os.fchmod(parent, stat.S_IMODE(os.fstat(parent).st_mode) | 0o700)
        os.mkdir(name, 0o700, dir_fd=parent)
