"""The file systems of a mirror, and the tools that write to them within the rate limit."""

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from job.config.settings import Pair
from job.core.decide import Policy
from job.core.entry import printable
from job.core.file_systems import ByMount, Capabilities, NameRules
from job.errors import Stopped
from job.fs.copier import Copier
from job.fs.metadata import MetadataWriter
from job.fs.own_files import MirrorSync
from job.fs.small_copies import PlainCopier


class MountedFileSystem(NamedTuple):
    """A file system that is mounted below the mirror's root, and its tools."""

    point: bytes
    """Path of the mount point below the root."""
    root: int
    """Open descriptor of the mounted root folder."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    check: Callable[[], None]
    """Raises `OSError` if the mount point leads elsewhere now."""


class Tools(NamedTuple):
    """The tools for the file system of the mirror's root, and the other file systems in the mirror."""

    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    mounted: Sequence[MountedFileSystem] = ()


class Volume(NamedTuple):
    """One file system of the mirror, with its properties and tools."""

    number: int
    """0 for that of the mirror's root, else its place in `mounted`, from 1."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    policy: Policy
    options_key: str
    """Options that determine how an entry is mirrored; a record of another key is compared again."""
    name_rules: NameRules | None
    """None if it holds every name as it is."""
    supports_everything: bool
    """Whether it holds all metadata of files and symlinks."""
    plain: PlainCopier | None
    """Copies plain files; None where every file needs more than that."""
    stages: bool
    """Whether a staged folder keeps the times of its files when it gets its place, which servers do not promise."""
    clock_ns: Callable[[], int] | None
    """The clock, where the ctime of an entry does not tell since when it is there."""

    def since(self) -> int:
        """Return `Record.since_ns` of an entry that was just made."""
        return 0 if self.clock_ns is None else self.clock_ns()


def volumes_of(tools: Tools, mirror: Capabilities, pair: Pair, now_ns: Callable[[], int]) -> ByMount[Volume]:
    """Return the file systems of a mirror by folder path; `mirror` are the capabilities of its root's."""
    special = bool(pair.reflink or pair.rate_limit or pair.verify_copies == "readback")

    def volume(number: int, mirror: Capabilities, of: Tools | MountedFileSystem) -> Volume:
        fits = mirror.keeps_plain_files and not (special or of.sync.each)
        plain = of.copier.plain(now_ns) if fits else None
        return Volume(
            number=number,
            mirror=mirror,
            copier=of.copier,
            metadata_writer=of.metadata_writer,
            sync=of.sync,
            policy=policy_of(pair, mirror),
            options_key=pair.options_key + mirror.options_key,
            name_rules=None if mirror.keeps_all_names else NameRules(mirror),
            supports_everything=mirror.keeps_attributes and mirror.symlink_metadata,
            plain=plain,
            stages=plain is not None and of.sync.is_local,
            clock_ns=None if mirror.mtime_grain_ns == 1 and of.sync.is_local else now_ns,
        )

    others = {each.point: volume(number, each.mirror, each) for number, each in enumerate(tools.mounted, 1)}
    root = volume(0, mirror, tools)
    return ByMount(root, others, root.name_rules)


def policy_of(pair: Pair, mirror: Capabilities) -> Policy:
    """Return the part of a decision that is the same for all entries of a file system."""
    return Policy(
        pair.checksum,
        pair.compare == "checksum",
        pair.specials == "recreate",
        fifos=mirror.fifos,
        devices=mirror.devices,
        symlinks=mirror.symlinks,
        hard_links=mirror.hard_links,
        user=os.geteuid() if mirror.owners else None,
    )


_LONGEST_WAIT_SECONDS = 0.5


class RateLimiter:
    """Called for every copied chunk: keeps the rate limit, reports progress, and notices a stop."""

    def __init__(
        self,
        rate_limit: int | None,
        *,
        stop: Callable[[], bool],
        progress: Callable[[int], None],
        clock: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        """`rate_limit` is in bytes a second; `clock` is monotonic, in seconds; `wait` sleeps."""
        self._rate = rate_limit
        self._stop = stop
        self._progress = progress
        self._clock = clock
        self._wait = wait
        self._free_at = clock()

    def __call__(self, count: int) -> None:
        """Account for `count` bytes. Raises `Stopped` when the run is to end: the current file is dropped."""
        if self._stop():
            raise Stopped("stopped while a file was being copied")
        self._progress(count)
        if self._rate is None or count == 0:
            return
        # Unused time is not saved up: after a pause the limit still holds for every second.
        self._free_at = max(self._free_at, self._clock()) + count / self._rate
        while (left := self._free_at - self._clock()) > 0:
            if self._stop():
                raise Stopped("stopped while a file was being copied")
            self._wait(min(left, _LONGEST_WAIT_SECONDS))


_REPORT_BYTES = 1 << 20
"""Small files that are copied without a rate limit are reported to progress once they add up to this."""


def tools_for(
    pair: Pair,
    able: Capabilities,
    mirror: int,
    mounted: Sequence[tuple[bytes, int, Capabilities]],
    rate_limiter: RateLimiter,
) -> Tools:
    """Return the tools for an open mirror with these capabilities, and for the open file systems in it."""

    def of(able: Capabilities, root: int) -> tuple[Copier, MetadataWriter, MirrorSync]:
        metadata_writer, sync = metadata_writer_for(pair, able), MirrorSync(root)
        copier = Copier(
            pair.checksum, metadata_writer, rate_limiter, sync_each=sync.each, reflink=pair.reflink, sparse=able.sparse
        )
        copier.report_bytes = 0 if pair.rate_limit else _REPORT_BYTES
        return copier, metadata_writer, sync

    others = [
        MountedFileSystem(point, root, system, *of(system, root), partial(_check_mounted, point, root, mirror))
        for point, root, system in mounted
    ]
    return Tools(*of(able, mirror), others)


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
