"""Composition of one process, main or worker: scanners, copiers and stores of a pair."""

import contextlib
import errno
import gc
import os
import time
from collections.abc import Iterator
from functools import partial

from job.config.settings import Pair
from job.core.capabilities import Capabilities, NameRules
from job.core.entry import printable
from job.core.exclude import ExcludeRules
from job.core.mounts import KnownMounts, MirrorCapabilities
from job.core.outcome import Refusal
from job.engine.context import MountedFileSystem, PairContext, PairRun, ProgressSink
from job.engine.preflight.open_pair import Roots
from job.engine.preflight.root_check import recheck_roots
from job.engine.progress import RateLimiter
from job.errors import IndexUnusable, Refused
from job.fs.copier import Copier
from job.fs.dircursor import DirCursor, open_root
from job.fs.metadata import MetadataWriter
from job.fs.own_files import MirrorSync
from job.fs.scanners import MirrorLimits, MirrorScanner, SourceScanner
from job.store.index import Index
from job.store.index_schema import IndexTorn
from job.store.temp_journal import TempJournal, load_known_mounts, save_known_mounts

_REPORT_BYTES = 1 << 20
"""Small files that are copied without a rate limit are reported to progress once they add up to this."""


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
        source = source_scanner(pair, roots.source, able, mounts)
        tidy.callback(source.close)
        mirror_scanner = MirrorScanner(roots.mirror)
        tidy.callback(mirror_scanner.close)
        temp_journal = TempJournal(roots.state, slot)
        tidy.callback(temp_journal.close)
        rate_limiter = RateLimiter(
            pair.rate_limit, stop=run.stop, progress=progress.bytes_copied, clock=time.monotonic, wait=time.sleep
        )

        def mounted(point: bytes, mirror: Capabilities, root: int) -> MountedFileSystem:
            tidy.callback(os.close, root)
            check = partial(_check_mounted, point, root, roots.mirror)
            return MountedFileSystem(point, root, mirror, *_tools_for(pair, mirror, root, rate_limiter), check)

        others = [mounted(point, mirror, _opened(point, roots.mirror)) for point, mirror in able.others]
        copier, metadata_writer, sync = _tools_for(pair, able.root, roots.mirror, rate_limiter)
        yield PairContext(
            source_root=roots.source,
            mirror_root=roots.mirror,
            source=source,
            mirror_scanner=mirror_scanner,
            index=index,
            temp_journal=temp_journal,
            copier=copier,
            metadata_writer=metadata_writer,
            sync=sync,
            mirror=able.root,
            mounted=others,
            abilities=able,
            known_mounts=mounts,
            save_mounts=partial(save_known_mounts, state=roots.state),
            mirror_state=roots.mirror_state,
            opened_ns=roots.opened_ns,
            recheck_roots=partial(recheck_roots, pair, roots.source, roots.mirror, roots.lease, roots.claim),
        )


def _tools_for(
    pair: Pair, mirror: Capabilities, root: int, rate_limiter: RateLimiter
) -> tuple[Copier, MetadataWriter, MirrorSync]:
    """Return the writers for one file system of a mirror; `root` is an open folder on it."""
    metadata_writer = metadata_writer_for(pair, mirror)
    sync = MirrorSync(root)
    copier = Copier(
        pair.checksum,
        metadata_writer,
        rate_limiter,
        sync_each=sync.each,
        reflink=pair.reflink,
        sparse=mirror.sparse,
    )
    copier.report_bytes = 0 if pair.rate_limit else _REPORT_BYTES
    return copier, metadata_writer, sync


def metadata_writer_for(pair: Pair, mirror: Capabilities) -> MetadataWriter:
    """Return the metadata writer for a file system with these capabilities."""
    return MetadataWriter(
        security=pair.keep_security,
        setuid=pair.keep_setuid,
        grain_ns=mirror.mtime_grain_ns,
        symlinks=mirror.symlink_metadata,
        owners=mirror.owners,
        modes=mirror.modes,
    )


def _opened(point: bytes, mirror: int) -> int:
    """Open the root of a mounted file system anew, since writeback errors are reported once for each opening."""
    with contextlib.closing(DirCursor(mirror)) as cursor:
        return open_root(f"/proc/self/fd/{cursor.goto(point)}")


def _check_mounted(point: bytes, root: int, mirror: int) -> None:
    try:
        there = os.stat(point, dir_fd=mirror, follow_symlinks=False)
    except OSError as error:
        raise OSError(
            errno.ESTALE, f"the file system in the mirror at {printable(point)} went away in mid-run"
        ) from error
    if not os.path.samestat(there, os.fstat(root)):
        raise OSError(errno.ESTALE, f"another file system is mounted in the mirror at {printable(point)} now")


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
