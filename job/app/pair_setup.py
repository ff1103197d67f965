"""Open a pair: the stores and scanners that a cycle, or one process of it, needs, its state folder and its history."""

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from job.config.settings import Config, Pair
from job.core.entry import STATE_FOLDER, join, printable
from job.core.exclude import ExcludeRules
from job.core.file_systems import (
    NO_MOUNTS,
    Capabilities,
    FileSystemId,
    FileSystemMatch,
    KnownMounts,
    MirrorCapabilities,
    NameRules,
    match_file_system,
)
from job.core.outcome import Refusal
from job.engine.context import PairContext, PairRun, Progress, ProgressSink
from job.engine.preflight.mirror_facts import id_of
from job.engine.preflight.open_pair import Roots
from job.engine.preflight.root_check import recheck_roots
from job.errors import IndexUnusable, Refused
from job.events.base import Listener
from job.events.pair import IndexRebuilt, MirrorProbed
from job.fs import probe
from job.fs.dircursor import DirCursor, closing_fd, open_root
from job.fs.large_dir import names_in
from job.fs.mounts import FileSystem, is_read_only
from job.fs.own_files import open_own_folder
from job.fs.scanners import MirrorLimits, MirrorScanner, SourceScanner
from job.fs.trusted_path import open_trusted_parent
from job.store import index_schema
from job.store.history import Failed, History, OtherMirrors
from job.store.history_schema import last_attempt
from job.store.index import Index
from job.store.index_schema import IndexTorn, set_aside
from job.store.memory import Memory
from job.store.pair_records import DamagedIdentityError, ResolvedPath, find_state_folder
from job.store.temp_journal import TempJournal, load_known_mounts, save_known_mounts

if TYPE_CHECKING:
    from job.core.versions import Moment
    from job.engine.volumes import Tools
    from job.system.processes import WorkerPool

    CreatePool = Callable[[PairRun, Roots, MirrorCapabilities], WorkerPool]


@contextlib.contextmanager
def open_context(
    run: PairRun, roots: Roots, progress: Progress, create_pool: "CreatePool | None" = None
) -> Iterator[PairContext]:
    """Open all that a cycle needs for one pair; closed at the end of the block. Raises `Refused` and `OSError`.

    Without `create_pool` all work stays in this process.
    """
    with contextlib.ExitStack() as tidy:
        # Capabilities are saved after the index was created: if they are known, an index must exist.
        known = probe.load_capabilities(roots.mirror, roots.state)
        folder, opened = f"/proc/self/fd/{roots.state}", tidy.enter_context(contextlib.ExitStack())
        index = opened.enter_context(_open_index(run, folder, expected=known is not None))
        root = known or _probe_capabilities(run, roots, roots.mirror)
        systems = in_scope(roots.systems, run.pair, roots.source, root)
        gone = _drop_other_file_systems(index, systems, run, roots.mirror)
        if index.torn:
            opened.close()  # sets the damaged index aside
            index = opened.enter_context(_open_index(run, folder, expected=False))
            gone = _drop_other_file_systems(index, systems, run, roots.mirror)
        others = tuple((each.point, _capabilities_at(run, roots, each)) for each in systems[1:])
        able = MirrorCapabilities(root, others, gone)
        context = tidy.enter_context(set_up(run, roots, index, progress, able))
        if create_pool is not None:
            context.create_worker_pool = lambda: create_pool(run._replace(moment=context.moment), roots, able)
        yield context


def in_scope(systems: Sequence[FileSystem], pair: Pair, source: int, root: Capabilities) -> list[FileSystem]:
    """Leave out file systems mounted in the mirror where the source has no folder: nothing is copied to them."""
    if len(systems) <= 1:
        return list(systems)
    with contextlib.closing(source_scanner(pair, source, MirrorCapabilities(root), NO_MOUNTS)) as scanner:
        return [systems[0], *(each for each in systems[1:] if _source_has_folder(each.point, scanner, root))]


def _source_has_folder(point: bytes, source: SourceScanner, root: Capabilities) -> bool:
    *above, name = point.split(b"/")
    if name == STATE_FOLDER or STATE_FOLDER in above:
        return False
    if not root.keeps_all_names:
        return True  # the name may differ in the source
    path = b""
    for each in (*above, name):
        try:
            found = source.part(path, [each]).folders
        except OSError:
            return False
        if not found:
            return False
        path = join(path, each)
    return True


def _capabilities_at(run: PairRun, roots: Roots, system: FileSystem) -> Capabilities:
    """Return the capabilities of a file system mounted below the mirror's root."""
    with contextlib.closing(DirCursor(roots.mirror)) as cursor:
        folder = cursor.goto(system.point)
        if is_read_only(folder):
            return Capabilities(file_system=system.type)  # cannot be probed and is not written to
        return probe.load_capabilities(folder, roots.state, system.point) or _probe_capabilities(
            run, roots, folder, system.point
        )


def _drop_other_file_systems(
    index: Index, systems: Sequence[FileSystem], run: PairRun, mirror: int
) -> tuple[bytes, ...]:
    """Drop the index records of file systems other than those mounted in the mirror now.

    Returns the mount points that are empty folders now: copying into them would fill another disk. Raises `OSError`,
    except when the index proves to be damaged.
    """
    known, found = index.file_systems, {each.point: each.identity for each in systems}
    verdicts = {point: match_file_system(known.get(point), identity) for point, identity in found.items()}
    gone = unmounted(index, systems, mirror)
    ended = [point for point in known if point not in found]
    forgotten = [point for point, verdict in verdicts.items() if verdict is FileSystemMatch.OTHER]
    forgotten += [point for point in ended if point not in gone]
    fresh: dict[bytes, FileSystemId | None] = {
        point: found[point] for point, verdict in verdicts.items() if verdict is not FileSystemMatch.SAME
    }
    fresh |= {point: None for point in ended if point not in gone}
    if not fresh:
        return gone
    surprising = [point for point in forgotten if index.summary(point) is not None]
    try:
        index.set_file_systems(fresh, forgotten)
    except OSError:
        if not index.torn:
            raise
        return gone
    for point in surprising:
        where = f" at {printable(point)}" if point else ""
        reason = f"another file system is mounted{where} than the one that it was made for"
        if not known:
            reason = "it does not say which file system it was made for"
        run.emit(IndexRebuilt(**run.about, reason=reason))
    if FileSystemMatch.MOVED in verdicts.values():
        index.set_audited(0.0)
    return gone


def unmounted(index: Index, systems: Sequence[FileSystem], mirror: int) -> tuple[bytes, ...]:
    """Return the mount points in the index that are not mounted now and are empty folders."""
    here = {each.point for each in systems}
    return tuple(point for point in index.file_systems if point not in here and _is_empty_folder(point, mirror))


def _is_empty_folder(point: bytes, mirror: int) -> bool:
    try:
        with contextlib.closing(DirCursor(mirror)) as cursor:
            return not any(names_in(cursor.goto(point)))
    except OSError:
        return False


def _probe_capabilities(run: PairRun, roots: Roots, folder: int, point: bytes = b"") -> Capabilities:
    """Probe and save the capabilities of the file system of an open folder, mounted at `point` in the mirror."""
    able = None
    if roots.claim is not None:
        roots.claim()
    try:
        able = probe.probe(folder)
        probe.save_capabilities(able, folder, roots.state, point)
    except OSError:
        # Possibly a full disk, which copies report themselves; the next cycle probes again.
        return able or Capabilities()
    system = f"{able.file_system} mounted at {printable(point)}" if point else able.file_system
    run.emit(MirrorProbed(**run.about, file_system=system, lacks=tuple(able.lacks)))
    return able


@contextlib.contextmanager
def _open_index(run: PairRun, folder: str, *, expected: bool) -> Iterator[Index]:
    if expected and not index_schema.holds_anything(folder):
        reason = f"{index_schema.FILE_NAME} is gone or empty"
        run.emit(IndexRebuilt(**run.about, reason=reason))
    try:
        index = Index.open(folder)
    except IndexTorn as error:
        # Only time is lost: every content is compared again (invariant 13).
        _set_aside(run, folder, error.message)
        index = Index.open(folder)
    except IndexUnusable as error:
        raise Refused(Refusal.STATE_UNUSABLE, error.message, hint=error.hint) from None
    with contextlib.closing(index):
        yield index
    if index.torn:
        _set_aside(run, folder, index.torn)


def _set_aside(run: PairRun, folder: str, why: str) -> None:
    aside = set_aside(folder)
    reason = f"{why}; that file is now {aside}" if aside else why
    run.emit(IndexRebuilt(**run.about, reason=reason))


def open_state(config: Config, pair: Pair, mirror: int) -> int:
    """Open the existing state folder of a pair, which may lie in its open mirror. Raises `OSError`."""
    if config.state_dir is None:
        return open_own_folder(STATE_FOLDER, mirror)
    above, name = open_trusted_parent(state_folder(config, pair, id_of(mirror)))
    with closing_fd(above):
        return open_own_folder(name, above)


def state_folder(config: Config, pair: Pair, mirror_id: str | None) -> str:
    """Return the path of the state folder of a mirror of a pair; without an id, of any mirror at its path."""
    if config.state_dir is None:
        return os.path.join(pair.dest, STATE_FOLDER.decode("ascii"))
    try:
        name = find_state_folder(config.state_dir, pair, mirror_id).name
    except (OSError, DamagedIdentityError):
        name = pair.name  # preflight refuses it
    return os.path.join(config.state_dir, name)


def history_of(config: Config, pair: Pair, memory: Memory, *, failed: Failed, emit: Listener | None = None) -> History:
    """Return the history of a pair: in the state folder of the mirror seen last, or in the memory while it is away."""
    known = None if config.state_dir is None else memory.pair(pair.dest)
    *others, last = (known.ids if known else ()) or (None,)
    beside = [state_folder(config, pair, each) for each in others]
    return History(
        state_folder(config, pair, last),
        failed=failed,
        source=ResolvedPath.of(pair.source),
        fallback=partial(memory.open_history, pair.dest),
        others=OtherMirrors(beside, partial(memory.last_success, pair)),
        emit=emit,
    )


def collect_rarely() -> None:
    """Collect garbage rarely: a batch holds many objects and no reference cycles (saves 4 % of a copy)."""
    if not gc.get_freeze_count():  # once a process: garbage of this moment is never freed
        gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextlib.contextmanager
def set_up(
    run: PairRun, roots: Roots, index: Index, progress: ProgressSink, able: MirrorCapabilities, slot: int = 0
) -> Iterator[PairContext]:
    """Open the context of one process for a mirror with these capabilities; `slot` is the worker's number, or 0."""
    pair = run.pair
    with contextlib.ExitStack() as tidy:
        mounts = load_known_mounts(roots.state)
        source = tidy.enter_context(contextlib.closing(source_scanner(pair, roots.source, able, mounts)))
        mirror_scanner = tidy.enter_context(contextlib.closing(MirrorScanner(roots.mirror)))
        temp_journal = tidy.enter_context(contextlib.closing(TempJournal(roots.state, slot)))
        mounted = []
        for point, mirror in able.others:
            mounted.append((point, tidy.enter_context(closing_fd(_opened(point, roots.mirror))), mirror))

        def make_tools() -> "Tools":
            from job.engine.volumes import RateLimiter, tools_for  # noqa: PLC0415  # a run without changes copies nothing

            report = progress.bytes_copied
            limiter = RateLimiter(
                pair.rate_limit, stop=run.stop, progress=report, clock=time.monotonic, wait=time.sleep
            )
            return tools_for(pair, able.root, roots.mirror, mounted, limiter)

        yield PairContext(
            source_root=roots.source,
            mirror_root=roots.mirror,
            source=source,
            mirror_scanner=mirror_scanner,
            index=index,
            temp_journal=temp_journal,
            mirror=able.root,
            make_tools=make_tools,
            known_mounts=mounts,
            save_mounts=partial(save_known_mounts, state=roots.state),
            mirror_state=roots.mirror_state,
            opened_ns=roots.opened_ns,
            started_ns=run.now_ns(),
            given_moment=run.moment or _moment_of_sleeper(run),
            read_last_cycle=partial(last_attempt, roots.state),
            recheck_roots=partial(recheck_roots, pair, roots.source, roots.mirror, roots.lease, roots.claim),
        )


def _moment_of_sleeper(run: PairRun) -> "Moment | None":
    """Return a moment that another cycle of the same second may have: to look for it would wake the disk."""
    if run.pair.mirror_check == "awake":
        return None
    from job.core.versions import Moment  # noqa: PLC0415  # a run without changes makes no versions

    return Moment(run.now_ns() // 10**9)


def _opened(point: bytes, mirror: int) -> int:
    """Open the root of a mounted file system anew, since writeback errors are reported once for each opening."""
    with contextlib.closing(DirCursor(mirror)) as cursor:
        return open_root(f"/proc/self/fd/{cursor.goto(point)}")


def source_scanner(pair: Pair, root: int, able: MirrorCapabilities, mounts: KnownMounts) -> SourceScanner:
    """Return the scanner of an open source, for a mirror with these capabilities."""

    def fits(mirror: Capabilities) -> MirrorLimits:
        names = None if mirror.keeps_all_names else NameRules(mirror)
        return MirrorLimits(pair.options_bytes + mirror.options_bytes, names)

    return SourceScanner(
        root,
        ExcludeRules(pair.exclude),
        cross_mounts=pair.cross_mounts,
        fits=fits(able.root),
        mounted={point: fits(mirror) for point, mirror in able.others},
        gone=able.gone,
        mounts=mounts.mounted,
        mount_flags=bool(pair.options_key),
    )


def index_to_read(folder: str) -> Index:
    """Open an index read-only; an empty one if it is missing or damaged. Raises `Refused`."""
    try:
        return Index.open_read_only(folder) or Index.empty()
    except IndexTorn:
        return Index.empty()  # as the next cycle does
    except IndexUnusable as error:
        raise Refused(Refusal.STATE_UNUSABLE, error.message, hint=error.hint) from None
