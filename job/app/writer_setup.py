"""Composition of the tools that write to a mirror, for one process."""

import errno
import os
import time
from collections.abc import Sequence
from functools import partial

from job.config.settings import Pair
from job.core.capabilities import Capabilities
from job.core.entry import printable
from job.engine.context import PairRun, ProgressSink
from job.engine.progress import RateLimiter
from job.engine.volumes import MountedFileSystem, Tools
from job.fs.copier import Copier
from job.fs.metadata import MetadataWriter
from job.fs.own_files import MirrorSync

_REPORT_BYTES = 1 << 20
"""Small files that are copied without a rate limit are reported to progress once they add up to this."""


def tools_for(
    run: PairRun,
    able: Capabilities,
    mirror: int,
    mounted: Sequence[tuple[bytes, int, Capabilities]],
    progress: ProgressSink,
) -> Tools:
    """Return the tools for an open mirror with these capabilities, and for the open file systems in it."""
    rate_limiter = RateLimiter(
        run.pair.rate_limit, stop=run.stop, progress=progress.bytes_copied, clock=time.monotonic, wait=time.sleep
    )

    def of(able: Capabilities, root: int) -> tuple[Copier, MetadataWriter, MirrorSync]:
        return _tools_of(run.pair, able, root, rate_limiter)

    others = [
        MountedFileSystem(point, root, system, *of(system, root), partial(_check_mounted, point, root, mirror))
        for point, root, system in mounted
    ]
    return Tools(*of(able, mirror), others)


def _tools_of(
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


def _check_mounted(point: bytes, root: int, mirror: int) -> None:
    try:
        there = os.stat(point, dir_fd=mirror, follow_symlinks=False)
    except OSError as error:
        raise OSError(
            errno.ESTALE, f"the file system in the mirror at {printable(point)} went away in mid-run"
        ) from error
    if not os.path.samestat(there, os.fstat(root)):
        raise OSError(errno.ESTALE, f"another file system is mounted in the mirror at {printable(point)} now")
