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
from job.core.outcome import Refusal, reason_text
from job.engine.preflight import overlap, ownership, presence
from job.engine.preflight.presence import check_complete
from job.engine.preflight.root_check import Claim, ClaimedMirror
from job.errors import Refused
from job.fs.dircursor import closing_fd, identity, single
from job.fs.large_dir import name_exists
from job.fs.mounts import FileSystem, file_systems, is_read_only, mount_of
from job.fs.own_files import REMOVE_IT, describe_entry, is_shared, open_own_folder
from job.fs.rights import may_write_folder
from job.fs.trusted_path import UntrustedPath, make_folders, open_trusted_folder
from job.locking import lock
from job.store.pair_records import DamagedIdentityError, PairRecords, find_state_folder

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
    mirror_created: bool = False
    """Whether the mirror did not exist and was created."""
    not_recorded: str = ""
    """Why the mirror's existence cannot be recorded; reported once in a process."""
    state_reset: str = ""
    """Why the pair starts with a new state folder although its name had one."""
    state_lost: str = ""
    """A description of the mirror's former `.truecopy`, if it is gone."""


_NOTHING_KNOWN = PairRecords()


@contextmanager
def open_roots(pair: Pair, state_dir: str | None, records: PairRecords = _NOTHING_KNOWN) -> Iterator[tuple[int, int]]:
    """Open source and mirror and check their positions, or raise `Refused`. Nothing is written.

    An empty folder stands in for a mirror that the next cycle creates.
    """
    with ExitStack() as stack:
        source = _open(stack, pair.source, _SOURCE)
        check_complete(pair, source)
        if presence.is_missing(pair):
            presence.check_creatable(pair, state_dir, records)
            mirror = presence.open_placeholder(stack)
        else:
            mirror = _open(stack, pair.dest, _MIRROR)
        _check_roots(pair, state_dir, source, mirror)
        yield source, mirror


def _check_roots(pair: Pair, state_dir: str | None, source: int, mirror: int) -> None:
    overlap.check_roots(pair, source, mirror)
    if state_dir is not None:
        with _refuse_state_errors(pair, state_dir):
            overlap.check_state(pair, state_dir, (source, mirror))
    if pair.mirror_check == "awake" or state_dir is None:
        ownership.check_mirror(pair, mirror)


@contextmanager
def open_pair(
    pair: Pair,
    state_dir: str | None,
    started: float,
    stop: Callable[[], bool] = lambda: False,
    records: PairRecords = _NOTHING_KNOWN,
) -> Iterator[Roots]:
    """Open and lock a pair, or raise `Refused` or `Busy` with writes to the state folder and `.truecopy` only.

    A new mirror is created. Raises `Stopped` if the run is to end while an abandoned lease is watched.
    """
    with ExitStack() as stack:
        source = _open(stack, pair.source, _SOURCE)
        check_complete(pair, source)
        mirror, made = _open_or_create_mirror(stack, pair, state_dir, source, records)
        _check_roots(pair, state_dir, source, mirror)
        check_writable(pair, mirror)
        lost = "" if made or pair.mirror_check == "asleep" else ownership.missing_state(pair, mirror, records)
        with _refuse_state_errors(pair, state_dir):
            state, state_reset = _open_state(stack, pair, state_dir, mirror, records)
            held = stack.enter_context(closing_fd(lock.acquire(state, pair.name, started)))
        claim = _claim(stack, pair, state_dir, (mirror, state, held), started)
        lease = None
        # A lease would wake a sleeping mirror.
        if pair.mirror_check == "awake" and is_shared(mirror):
            with _refuse_state_errors(pair, None, in_mirror=True):
                from job.locking.lease import acquire  # noqa: PLC0415  # few mirrors need one, and each start would pay for it

                lease = stack.enter_context(closing(acquire(claim().mirror_state, pair.name, started, stop)))
        not_recorded = records.try_record_mirror(pair.name, pair.source, pair.dest)
        systems = file_systems(mirror)
        own = None if claim.held is None else FileId._make(identity(claim.held.mirror_state))
        mount, opened_ns = mount_of(source), time.time_ns()
        known = own, opened_ns, lease, claim, systems, mount.type if mount else ""
        yield Roots(source, mirror, state, *known, made, not_recorded, state_reset, lost)


def _open_or_create_mirror(
    stack: ExitStack, pair: Pair, state_dir: str | None, source: int, records: PairRecords
) -> tuple[int, bool]:
    if not presence.is_missing(pair):
        return _open(stack, pair.dest, _MIRROR), False
    presence.check_creatable(pair, state_dir, records)
    return stack.enter_context(closing_fd(presence.create_mirror(pair, state_dir, source))), True


def _claim(stack: ExitStack, pair: Pair, state_dir: str | None, opened: tuple[int, int, int], started: float) -> Claim:
    """Claim a mirror, check that it belongs to the pair, and record it; a known one that may sleep is claimed later."""
    mirror, state, held = opened
    if state_dir is None:
        with _refuse_state_errors(pair, None):
            ownership.identify_mirror(pair, state)
        claim = Claim(mirror, lambda: ClaimedMirror(state, held))
        claim()
        return claim
    with _refuse_state_errors(pair, state_dir):
        recorded = ownership.check_state(pair, state)

    def acquire() -> ClaimedMirror:
        before = os.fstat(mirror)
        with _refuse_state_errors(pair, None, in_mirror=True):
            mirror_state = stack.enter_context(closing_fd(_open_or_create(STATE_FOLDER, mirror)))
            ours = stack.enter_context(closing_fd(lock.acquire(mirror_state, pair.name, started)))
            found = ownership.identify_mirror(pair, mirror_state)
        if os.fstat(mirror).st_mtime_ns != before.st_mtime_ns:
            with suppress(OSError):  # `.truecopy` was created in it
                os.utime(mirror, ns=(before.st_atime_ns, before.st_mtime_ns))
        with _refuse_state_errors(pair, state_dir):
            ownership.record_identity(state, recorded, mirror, found)
        return ClaimedMirror(mirror_state, ours)

    claim = Claim(mirror, acquire)
    if pair.mirror_check == "awake" or recorded is None or recorded.mirror_root != identity(mirror):
        claim()
    return claim


class _Side(NamedTuple):
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
        raise Refused(side.unreadable, message, hint=side.hint) from None


def open_mirror(stack: ExitStack, pair: Pair) -> int:
    """Open the mirror of a pair to read what it holds; its source may be gone. Raises `Refused`."""
    mirror = _open(stack, pair.dest, _MIRROR)
    ownership.check_mirror(pair, mirror)
    return mirror


def open_source(stack: ExitStack, pair: Pair) -> int:
    """Open the source of a pair to restore into it. Raises `Refused`."""
    return _open(stack, pair.source, _SOURCE._replace(hint="Check that its disk is mounted, or write --to DIR."))


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
def _refuse_state_errors(pair: Pair, state_dir: str | None, *, in_mirror: bool = False) -> Iterator[None]:
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
    stack: ExitStack, pair: Pair, state_dir: str | None, mirror: int, records: PairRecords
) -> tuple[int, str]:
    """Open the state folder; also say why it is new although the pair's name had one."""
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
        if place.used_by is not None and not name_exists(parent, name):
            other = f"{place.used_by.source.written} -> {place.used_by.mirror.written}"
            state_reset = f"the state folder {pair.name} is of {other}, so this pair's is {place.name}"
    state = stack.enter_context(closing_fd(_open_or_create(name, parent)))
    if not name_exists(state, _README):
        ownership.write_readme(state, pair)
    return state, state_reset


def _open_or_create(name: bytes, parent: int) -> int:
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
