"""Open a pair for `restore`, `versions` and `explain`: the mirror and the state are only read, and the lock is held."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from job.app.pair_setup import index_to_read, open_state
from job.app.preview_setup import mismatched_mounts
from job.config.settings import Config, Pair
from job.core.entry import STATE_FOLDER, printable
from job.core.file_systems import Capabilities, NameRules
from job.core.outcome import Failure, Refusal, reason_text
from job.engine.preflight.open_pair import open_mirror, open_source
from job.engine.preflight.overlap import check_target
from job.engine.restore.choice import Request
from job.engine.restore.file import FileRestorer
from job.engine.restore.journal import keeping_times
from job.engine.restore.kept import Content, KeptTree
from job.engine.restore.tree import Totals, TreeRestorer
from job.errors import Busy, Refused, Stopped
from job.events.text import format_bytes
from job.fs import probe
from job.fs.dircursor import closing_fd
from job.fs.free_space import free_bytes
from job.fs.mounts import file_systems, is_read_only
from job.fs.own_files import MirrorSync, open_own_folder
from job.fs.trusted_path import UntrustedPath, make_folders
from job.locking import lock
from job.store.index import Index
from job.store.pair_records import DamagedIdentityError, ResolvedPath, read_identity
from job.system.sandbox import Sandbox

_TRY_EVERY_SECONDS = 0.5


class StopRequest(NamedTuple):
    """How a restore is stopped, and how long it waits for a cycle."""

    requested: Callable[[], bool]
    wait: Callable[[float], bool]
    """Waits so many seconds; returns whether to stop."""
    patience: float = 30.0
    """Seconds for which it waits for a cycle that has the lock."""


@contextlib.contextmanager
def open_kept(config: Config, pair: Pair, stop: StopRequest | None = None) -> Iterator[tuple[int, KeptTree]]:
    """Open the mirror of a pair and all that is kept in it, with the lock if `stop` is given.

    Raises `Refused`, with the lock also `Busy` and `Stopped`.
    """
    with contextlib.ExitStack() as tidy:
        mirror = open_mirror(tidy, pair)
        if stop is not None:
            _lock(tidy, pair, mirror, stop)
        index = tidy.enter_context(contextlib.closing(_index_of(tidy, config, pair, mirror)))
        try:
            kept = KeptTree(mirror, index)
        except OSError as error:
            raise _unusable(f"the versions in {pair.dest}", error) from None
        yield mirror, tidy.enter_context(contextlib.closing(kept))


def _index_of(tidy: contextlib.ExitStack, config: Config, pair: Pair, mirror: int) -> Index:
    """Open the index of a mirror for reading; an empty one if there is none, or it is of another disk."""
    try:
        state = tidy.enter_context(closing_fd(open_state(config, pair, mirror)))
    except FileNotFoundError:
        return Index.empty()
    except OSError as error:
        raise _unusable(f"the state of {pair.name}", error) from None
    index = index_to_read(f"/proc/self/fd/{state}")
    index.ignore(mismatched_mounts(index, file_systems(mirror)))
    return index


def _unusable(what: str, error: OSError) -> Refused:
    hint = "Run this command as the user that runs the backups, or as root."
    return Refused(Refusal.STATE_UNUSABLE, f"{what} cannot be read: {reason_text(error)}", hint=hint)


def contents_of(kept: KeptTree, path: bytes) -> list[Content]:
    """Return what is kept of a path, in the order in which it stood; nothing for the root. Raises `Refused`."""
    if not path:
        return []
    above, _, name = path.rpartition(b"/")
    try:
        found, _ = kept.contents(kept.places_of(above), [name])
    except OSError as error:
        raise Refused("unreadable", f"{printable(path)} cannot be read: {reason_text(error)}") from None
    return sorted(found.get(name, []), key=lambda each: (each.kept.end, each.kept.moment or (0, 0)))


@contextlib.contextmanager
def open_restorer(
    config: Config,
    pair: Pair,
    place: str | None,
    request: Request,
    on_chunk: Callable[[int], None],
    stop: StopRequest,
) -> Iterator["Restorer"]:
    """Open the mirror, with its lock, and the folder `place`, which is made; None for the source.

    Raises `Refused`, `Busy` or `Stopped`.
    """
    with contextlib.ExitStack() as tidy:
        mirror, kept = tidy.enter_context(open_kept(config, pair, stop))
        made_of = _other_source(pair, mirror)
        if made_of and place is None:
            message = f"{pair.dest} is the mirror of {made_of}, not of {pair.source}"
            raise Refused(Refusal.MIRROR_OTHER, message, hint="Mount the right disk, or restore with --to DIR.")
        target = _open_target(tidy, config, pair, place)
        able = _probe(target, place or pair.source)
        rules = None if able.keeps_all_names else NameRules(able, "target")
        sync = MirrorSync(target)

        def report(count: int) -> None:
            if stop.requested():
                raise Stopped("stopped while a file was being restored; what has its name already is complete")
            on_chunk(count)

        files = tidy.enter_context(contextlib.closing(FileRestorer(mirror, pair, able, report, sync_each=sync.each)))
        tree = tidy.enter_context(contextlib.closing(TreeRestorer(kept, (target, sync), files, request, rules)))
        yield Restorer(mirror, target, tree, files, made_of)


class Restorer(NamedTuple):
    """An open restore of one pair."""

    mirror: int
    target: int
    tree: TreeRestorer
    files: FileRestorer
    made_of: str
    """The source that the mirror was made of, if it is not that of the pair; else empty."""

    def check_space(self, totals: Totals) -> None:
        """Refuse a restore that the target has no space for. Raises `Refused`."""
        free = free_bytes(self.target)
        if free is not None and 0 < free < totals.size:
            message = f"{format_bytes(totals.size)} are to be restored, and {format_bytes(free)} are free"
            raise Refused(Failure.NO_SPACE, message, hint="Restore less at once, or to another disk with --to DIR.")

    def enter(self, sandbox: Sandbox) -> None:
        """Restrict this thread to reading the mirror and changing the target. Raises `Refused`."""
        sandbox.restrict(self.mirror, self.target, self.target)


def _lock(tidy: contextlib.ExitStack, pair: Pair, mirror: int, stop: StopRequest) -> None:
    """Exclude cycles, which may remove versions; waits for one that runs. Raises `Refused`, `Busy` or `Stopped`."""
    deadline = time.monotonic() + stop.patience
    try:
        state = tidy.enter_context(closing_fd(open_own_folder(STATE_FOLDER, mirror)))
    except FileNotFoundError:
        return  # without versions nothing is removed
    except OSError as error:
        raise _unusable(f"the state in {pair.dest}", error) from None
    while not _is_locked(tidy, pair, mirror, state, is_last=time.monotonic() >= deadline):
        if stop.wait(_TRY_EVERY_SECONDS):
            raise Stopped("stopped while a cycle was at work")


def _is_locked(tidy: contextlib.ExitStack, pair: Pair, mirror: int, state: int, *, is_last: bool) -> bool:
    """Try to take the lock; False if another instance has it, or `Busy` at the last try."""
    try:
        tidy.callback(os.close, lock.acquire(state, pair.name, time.time()))
    except Busy:
        if is_last:
            raise
        return False
    except OSError as error:
        if not is_read_only(mirror):  # otherwise no cycle can change it
            raise _unusable(f"the lock in {pair.dest}", error) from None
    return True


def _other_source(pair: Pair, mirror: int) -> str:
    """Return the source that an open mirror was made of; empty if it is that of the pair, or not known."""
    with contextlib.suppress(OSError, DamagedIdentityError), closing_fd(open_own_folder(STATE_FOLDER, mirror)) as state:
        found = read_identity(state)
        if found is not None and not found.source.matches(ResolvedPath.of(pair.source)):
            return found.source.written
    return ""


def _open_target(tidy: contextlib.ExitStack, config: Config, pair: Pair, place: str | None) -> int:
    if place is None:
        target = open_source(tidy, pair)
    else:
        mirrors: Sequence[str] = [each.dest for each in config.effective_pairs]
        try:
            above = tidy.enter_context(closing_fd(make_folders(place, (), mirrors)))
            target = tidy.enter_context(
                closing_fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above))
            )
        except UntrustedPath as error:
            message = f"the target {place} is not used: {error.strerror}"
            raise Refused(Refusal.UNTRUSTED_LINK, message, hint=error.hint) from None
        except OSError as error:
            message = f"the target {place} cannot be used: {reason_text(error)}"
            raise Refused(_reason_of(error), message, hint="Write another folder after --to.") from None
    check_target(config.effective_pairs, place or pair.source, target)
    return target


def _reason_of(error: OSError) -> Failure:
    return Failure.TYPE_CONFLICT if error.errno == errno.ENOTDIR else Failure.PERMISSION


def _probe(target: int, place: str) -> Capabilities:
    """Probe what the target can hold; its times stay."""
    try:
        with keeping_times(target):
            return probe.probe(target)
    except OSError as error:
        message = f"nothing can be made in {place}: {reason_text(error)}"
        hint = "Run this command as a user who may write there, or restore to another folder with --to DIR."
        raise Refused(Failure.PERMISSION, message, hint=hint) from None
