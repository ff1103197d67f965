"""Composition of one process, main or worker: scanners and stores of a pair."""

import contextlib
import gc
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from job.config.settings import Pair
from job.core.capabilities import Capabilities, NameRules
from job.core.exclude import ExcludeRules
from job.core.mounts import KnownMounts, MirrorCapabilities
from job.core.outcome import Refusal
from job.engine.context import PairContext, PairRun, ProgressSink
from job.engine.preflight.open_pair import Roots
from job.engine.preflight.root_check import recheck_roots
from job.errors import IndexUnusable, Refused
from job.fs.dircursor import DirCursor, open_root
from job.fs.scanners import MirrorLimits, MirrorScanner, SourceScanner
from job.store.index import Index
from job.store.index_schema import IndexTorn
from job.store.temp_journal import TempJournal, load_known_mounts, save_known_mounts

if TYPE_CHECKING:
    from job.engine.volumes import Tools


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
        mounted = []
        for point, mirror in able.others:
            mounted.append((point, _opened(point, roots.mirror), mirror))
            tidy.callback(os.close, mounted[-1][1])

        def make_tools() -> "Tools":
            from job.app.writer_setup import tools_for  # noqa: PLC0415  # a run without changes copies nothing

            return tools_for(run, able.root, roots.mirror, mounted, progress)

        yield PairContext(
            source_root=roots.source,
            mirror_root=roots.mirror,
            source=source,
            mirror_scanner=mirror_scanner,
            index=index,
            temp_journal=temp_journal,
            mirror=able.root,
            abilities=able,
            make_tools=make_tools,
            known_mounts=mounts,
            save_mounts=partial(save_known_mounts, state=roots.state),
            mirror_state=roots.mirror_state,
            opened_ns=roots.opened_ns,
            recheck_roots=partial(recheck_roots, pair, roots.source, roots.mirror, roots.lease, roots.claim),
        )


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
