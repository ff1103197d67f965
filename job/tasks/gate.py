"""The gate: every doubt about a pair is settled before anything is written (design 3.1; invariants 5 and 6)."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from job.core.config.effective import Pair
from job.core.entry import NO_CONTENT, STATE_FOLDER
from job.core.outcome import Refusal, reason_text
from job.core.wording import counted
from job.errors import Refused
from job.files import lock
from job.files.atomic import replace_file
from job.files.crowd import names_in
from job.files.durable import others_may_reach
from job.files.file_systems import FileSystem, file_systems
from job.files.listing import Glance
from job.files.private import open_ours
from job.files.trail import open_root, single
from job.tasks import overlap

if TYPE_CHECKING:
    from job.files.lease import Lease

_README = """\
This folder belongs to Truecopy, which keeps {mirror} as a mirror of {source}.

The mirror is plain files: to restore, copy them back with `cp -a` or any file manager. Nothing here is needed for that.
index.sqlite3 remembers what was copied, so that unchanged files need not be read again; if it is lost it is rebuilt.
history.sqlite3 holds counters. lock keeps two instances apart. Nothing here is safe to edit while Truecopy runs.
"""


_OTHERS_MAY_WRITE = 0o022


@dataclass(frozen=True, slots=True)
class Roots:
    """An open pair: both roots and the state folder, locked."""

    source: int
    mirror: int
    state: int
    lease: "Lease | None" = None
    """Where other machines may reach the mirror."""
    systems: Sequence[FileSystem] = ()
    """The file systems of the mirror, the root's first; looked up before the wall is put up around the work."""


@contextmanager
def open_roots(pair: Pair, state_dir: str | None) -> Iterator[tuple[int, int]]:
    """Open source and mirror and see that nothing lies in anything else, or raise `Refused`. Nothing is written."""
    with ExitStack() as doors:
        source = _open(doors, pair.source, _SOURCE)
        mirror = _open(doors, pair.dest, _MIRROR)
        overlap.check_roots(pair, source, mirror)
        if state_dir is not None:
            with _state_must_do(pair, state_dir):
                overlap.check_state(pair, state_dir, (source, mirror))
        yield source, mirror


@contextmanager
def enter(
    pair: Pair, state_dir: str | None, started: float, stop: Callable[[], bool] = lambda: False
) -> Iterator[Roots]:
    """Open and lock a pair, or raise `Refused` or `Busy` with nothing written but our own state folder.

    Raises `Stopped` if it is to end while a lease is watched that was left.
    """
    with ExitStack() as doors:
        source, mirror = doors.enter_context(open_roots(pair, state_dir))
        check_writable(pair, mirror)
        with _state_must_do(pair, state_dir):
            state = _open_state(doors, pair, state_dir, mirror)
            doors.callback(os.close, lock.hold(mirror, state, pair.name, started))
            lease = None
            # A mirror that may sleep is not written to just to say that we are here.
            if pair.mirror_check == "awake" and others_may_reach(mirror):
                from job.files.lease import take  # noqa: PLC0415  # few mirrors need one, and each start would pay for it

                home = _lease_home(doors, pair, (mirror, state), started, inside=state_dir is None)
                lease = doors.enter_context(closing(take(home, pair.name, started, stop)))
        yield Roots(source, mirror, state, lease, file_systems(mirror))


def _lease_home(doors: ExitStack, pair: Pair, roots: tuple[int, int], started: float, *, inside: bool) -> int:
    """Give the state folder that is inside the mirror, for all who reach that, locked."""
    mirror, state = roots
    if inside:
        return state
    home = _make_and_open(STATE_FOLDER, mirror)
    doors.callback(os.close, home)
    doors.callback(os.close, lock.hold(home, home, pair.name, started))
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
    "Check that its disk is mounted; if the path is right and new, make the folder yourself, once.",
)


def _open(doors: ExitStack, path: str, side: _Side) -> int:
    try:
        descriptor = open_root(path)
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
    try:
        yield
    except OSError as error:
        place = f"{state_dir}/{pair.name}" if state_dir else f"{pair.dest}/{STATE_FOLDER.decode()}"
        raise Refused(
            Refusal.STATE_UNUSABLE,
            f"the state folder {place} cannot be used: {reason_text(error)}",
            hint="Make it writable for this user, or set state_dir to a folder that is.",
        ) from error


def _open_state(doors: ExitStack, pair: Pair, state_dir: str | None, mirror: int) -> int:
    if state_dir is None:
        parent, name = mirror, STATE_FOLDER
    else:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        parent, name = open_root(state_dir), os.fsencode(pair.name)
        doors.callback(os.close, parent)
    state = _make_and_open(name, parent)
    doors.callback(os.close, state)
    _explain(state, pair)
    return state


def _make_and_open(name: bytes, parent: int) -> int:
    with suppress(FileExistsError):
        _make(name, parent)
    folder = open_ours(single(name), parent)
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & _OTHERS_MAY_WRITE:
        with suppress(OSError):  # where there are no modes, it has the one that the mount gives to everything
            os.fchmod(folder, mode & ~_OTHERS_MAY_WRITE)
    return folder


def _make(name: bytes, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except PermissionError:
        # A mirror of a read-only source is read-only for its owner, too; its mode is put right at the end of the cycle.
        os.fchmod(parent, stat.S_IMODE(os.fstat(parent).st_mode) | 0o700)
        os.mkdir(name, 0o700, dir_fd=parent)


def _explain(state: int, pair: Pair) -> None:
    """Leave a note for whoever finds the folder; written once, so that a sleeping disk may sleep on."""
    try:
        os.stat(b"README.txt", dir_fd=state, follow_symlinks=False)
    except FileNotFoundError:
        text = _README.format(source=pair.source, mirror=pair.dest)
        replace_file(state, b"README.txt", text.encode("utf-8", "surrogateescape"))


class Listed(Protocol):
    """What the check of the source needs."""

    def glance(self, path: bytes) -> Glance:
        """Look at one folder; raises `OSError`."""


def check_source(source: Listed, known: int, pair: Pair, mirror: int) -> Glance:
    """Refuse an empty source that was not empty before: a disk that is not mounted looks just like that.

    Gives what its root looks like. It was not empty if `known` files are in the index, or, since an index may be lost,
    if anything is in the mirror. Raises `Refused` (invariant 5).
    """
    try:
        seen = source.glance(b"")
    except OSError as error:
        raise Refused(
            Refusal.SOURCE_UNREADABLE,
            f"the source {pair.source} cannot be listed: {reason_text(error)}",
            hint="Give this user the right to read it; the mirror was left alone.",
        ) from None
    is_empty = not seen.entries and NO_CONTENT.issuperset(seen.folders)
    if is_empty and (known or _holds_content(mirror)):
        files = counted(known, "file of it is", "files of it are") if known else "something is"
        raise Refused(
            Refusal.SOURCE_EMPTY,
            f"the source {pair.source} is empty, but {files} in the mirror",
            hint="Check that its disk is mounted; if it is meant to be empty, remove the pair from the config.",
        )
    return seen


def _holds_content(mirror: int) -> bool:
    """Tell whether anything is in an open mirror, but for what file systems and programs make for themselves."""
    return any(name not in NO_CONTENT for names in names_in(mirror) for name in names)


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
