"""The gate: every doubt about a pair is settled before anything is written (design 3.1; invariants 5 and 6)."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from job.core.config.effective import Pair
from job.core.entry import NO_CONTENT, STATE_FOLDER, FileId
from job.core.outcome import Refusal, reason_text
from job.core.wording import counted
from job.errors import Refused
from job.files import lock
from job.files.crowd import has_name
from job.files.durable import others_may_reach
from job.files.file_systems import FileSystem, file_systems
from job.files.identity_file import DamagedIdentityError
from job.files.listing import Glance
from job.files.pair_records import PairRecords, make_folders
from job.files.private import described, open_ours
from job.files.state_place import state_place
from job.files.trail import identity, open_folder, single
from job.files.trusted_path import UntrustedPath, open_trusted_folder
from job.tasks import first_use, overlap, ownership

if TYPE_CHECKING:
    from job.files.lease import Lease

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
    entered_ns: int = 0
    """When the gate was passed, by the system's clock."""
    lease: "Lease | None" = None
    """Where other machines may reach the mirror."""
    systems: Sequence[FileSystem] = ()
    """The file systems of the mirror, the root's first; looked up before the wall is put up around the work."""
    made: bool = False
    """Whether the mirror did not exist and was made."""
    not_remembered: str = ""
    """Why it cannot be recorded that the mirror exists; said once in a process."""
    begun_anew: str = ""
    """Why the pair begins with a new state although its name had one."""
    lost: str = ""
    """What is known of a `.truecopy` that the mirror had, and has no more."""


_NOTHING_KNOWN = PairRecords()


@contextmanager
def open_roots(pair: Pair, state_dir: str | None, records: PairRecords = _NOTHING_KNOWN) -> Iterator[tuple[int, int]]:
    """Open source and mirror and see that nothing lies in anything else, or raise `Refused`. Nothing is written.

    An empty folder stands for a mirror that the next cycle makes.
    """
    with ExitStack() as doors:
        source = _open(doors, pair.source, _SOURCE)
        check_complete(pair, source)
        if first_use.is_missing(pair):
            first_use.check(pair, state_dir, records)
            mirror = first_use.stand_in(doors)
        else:
            mirror = _open(doors, pair.dest, _MIRROR)
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
    with ExitStack() as doors:
        source = _open(doors, pair.source, _SOURCE)
        check_complete(pair, source)
        mirror, made = _open_or_make(doors, pair, state_dir, source, records)
        _check_roots(pair, state_dir, source, mirror)
        check_writable(pair, mirror)
        lost = "" if made or pair.mirror_check == "asleep" else ownership.lost_home(pair, mirror, records)
        with _state_must_do(pair, state_dir):
            state, begun_anew = _open_state(doors, pair, state_dir, mirror, records)
            doors.callback(os.close, lock.hold(mirror, state, pair.name, started))
        home = _settle(doors, pair, state_dir, (mirror, state))
        lease = None
        # A mirror that may sleep is not written to just to say that we are here.
        if home is not None and pair.mirror_check == "awake" and others_may_reach(mirror):
            with _state_must_do(pair, None):
                from job.files.lease import take  # noqa: PLC0415  # few mirrors need one, and each start would pay for it

                if state_dir is not None:
                    doors.callback(os.close, lock.hold(home, home, pair.name, started))
                lease = doors.enter_context(closing(take(home, pair.name, started, stop)))
        not_remembered = records.why_not_remembered(pair.name, pair.source, pair.dest)
        systems = file_systems(mirror)
        own = None if home is None else FileId._make(identity(home))
        yield Roots(source, mirror, state, own, time.time_ns(), lease, systems, made, not_remembered, begun_anew, lost)


def _open_or_make(
    doors: ExitStack, pair: Pair, state_dir: str | None, source: int, records: PairRecords
) -> tuple[int, bool]:
    if not first_use.is_missing(pair):
        return _open(doors, pair.dest, _MIRROR), False
    first_use.check(pair, state_dir, records)
    mirror = first_use.make(pair, state_dir, source)
    doors.callback(os.close, mirror)
    return mirror, True


def _settle(doors: ExitStack, pair: Pair, state_dir: str | None, opened: tuple[int, int]) -> int | None:
    """See that a locked mirror is this pair's, and record it; give its open `.truecopy`, unless it may sleep on."""
    mirror, state = opened
    if state_dir is None:
        with _state_must_do(pair, None):
            ownership.settle_mirror(pair, state)
        return state
    with _state_must_do(pair, state_dir):
        recorded = ownership.check_state(pair, state)
    if pair.mirror_check == "asleep" and recorded is not None and recorded.mirror_root == identity(mirror):
        return None  # it was seen to be this pair's, and may sleep on
    before = os.fstat(mirror)
    with _state_must_do(pair, None):
        home = _make_and_open(STATE_FOLDER, mirror)
        doors.callback(os.close, home)
        found = ownership.settle_mirror(pair, home)
    if os.fstat(mirror).st_mtime_ns != before.st_mtime_ns:
        ownership.keep_times(mirror, before)
    with _state_must_do(pair, state_dir):
        ownership.settle_state(state, recorded, mirror, found)
    return home


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


def _open(doors: ExitStack, path: str, side: _Side) -> int:
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
    doors.callback(os.close, descriptor)
    return descriptor


def check_writable(pair: Pair, mirror: int) -> None:
    """Refuse a mirror that cannot be written. Raises `Refused`."""
    if os.fstatvfs(mirror).f_flag & os.ST_RDONLY:
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
def _state_must_do(pair: Pair, state_dir: str | None) -> Iterator[None]:
    """Refuse the pair for what goes wrong with its state folder; without a `state_dir`, with that in the mirror."""
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
            hint="Make it writable for this user, or set state_dir to a folder that is.",
        ) from error


def _open_state(
    doors: ExitStack, pair: Pair, state_dir: str | None, mirror: int, records: PairRecords
) -> tuple[int, str]:
    """Open the state folder; also say why it is a new one although the pair's name had one."""
    begun_anew = ""
    if state_dir is None:
        parent, name = mirror, STATE_FOLDER
    else:
        parent = make_folders(state_dir, records.sources or (pair.source,), records.mirrors or (pair.dest,))
        doors.callback(os.close, parent)
        try:
            place = state_place(state_dir, pair)
        except DamagedIdentityError as error:
            raise ownership.unusable_state(pair, error) from None
        name = os.fsencode(place.name)
        if place.taken_by is not None and not has_name(parent, name):
            theirs = f"{place.taken_by.source.written} -> {place.taken_by.mirror.written}"
            begun_anew = f"the state folder {pair.name} is of {theirs}, so this pair's is {place.name}"
    state = _make_and_open(name, parent)
    doors.callback(os.close, state)
    if not has_name(state, _README):
        from job.tasks.readme import explain  # noqa: PLC0415  # once for a mirror, and each start would pay for it

        explain(state, pair)
    return state, begun_anew


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


def check_complete(pair: Pair, source: int) -> None:
    """Refuse a source that lacks what `must_exist` names; no link is followed on the way. Raises `Refused`."""
    for path in pair.must_exist:
        try:
            lacks = not _exists(os.fsencode(path), source)
        except OSError as error:
            raise Refused(
                Refusal.SOURCE_UNREADABLE,
                f"{path} in the source {pair.source}, which must exist, cannot be looked at: {error.strerror}",
                hint="Give this user the right to read it; the mirror was left alone.",
            ) from None
        if lacks:
            raise Refused(
                Refusal.SOURCE_INCOMPLETE,
                f"the source {pair.source} lacks {path}, which must exist",
                hint="Check that its disk is mounted; if that is gone for good, remove it from must_exist.",
            )


def _exists(path: bytes, root: int) -> bool:
    *above, name = [part for part in path.split(b"/") if part not in {b"", b"."}]
    with ExitStack() as doors:
        folder = root
        try:
            for part in above:
                folder = open_folder(part, folder)
                doors.callback(os.close, folder)
            os.stat(single(name), dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link on the way
                return False
            raise
    return True


class Listed(Protocol):
    """What the check of the source needs."""

    def glance(self, path: bytes) -> Glance:
        """Look at one folder; raises `OSError`."""


def check_source(source: Listed, known: int, pair: Pair, mirror: int) -> Glance:
    """Refuse an empty source that was not empty before: a disk that is not mounted looks just like that.

    Gives what its root looks like. It was not empty if `known` files are in the index, or, since an index may be lost,
    if anything is in the mirror. A source that never had an entry is refused, too, unless that is allowed.
    Raises `Refused` (invariant 5).
    """
    try:
        seen = source.glance(b"")
    except OSError as error:
        raise Refused(
            Refusal.SOURCE_UNREADABLE,
            f"the source {pair.source} cannot be listed: {reason_text(error)}",
            hint="Give this user the right to read it; the mirror was left alone.",
        ) from None
    if seen.entries or seen.unreadable or not NO_CONTENT.issuperset(seen.folders):
        return seen
    if known or first_use.holds_content(mirror):
        files = counted(known, "file of it is", "files of it are") if known else "something is"
        raise Refused(
            Refusal.SOURCE_EMPTY,
            f"the source {pair.source} is empty, but {files} in the mirror",
            hint="Check that its disk is mounted; if it is meant to be empty, remove the pair from the config.",
        )
    if not pair.allow_empty:
        raise first_use.never_had_entry(pair)
    return seen


def check_still_there(seen: Glance, entries: int, folders: int, pair: Pair) -> None:
    """Refuse a source of which a look found nothing, if a moment before something was `seen` in it.

    `folders` counts the root, too. Raises `Refused`.
    """
    before = seen.entries + len(seen.folders)
    if before and not entries and folders <= 1:
        raise Refused(
            Refusal.SOURCE_UNREADABLE,
            f"the source {pair.source} was listed with {before} names and a moment later with none",
            hint="Check its disk or server: it answers with an empty folder. The mirror was left alone.",
        )
