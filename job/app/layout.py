"""Lay out the bench of a pair: the adapters that the tasks work with."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from job.adapters.index import Index
from job.adapters.scanner import MirrorWatch, Scanner
from job.app.tools import index_to_read, set_up
from job.core.config.effective import Config, Pair
from job.core.entry import STATE_FOLDER
from job.core.events import IndexRebuilt
from job.core.outcome import Refusal
from job.core.rules import Rules
from job.errors import IndexUnusable, Refused
from job.files.index_file import IndexTorn, set_aside
from job.tasks.bench import Assignment, Bench, Crew
from job.tasks.gate import Roots
from job.tasks.meter import Meter
from job.tasks.preview import Preview


@contextlib.contextmanager
def lay_out(work: Assignment, roots: Roots, meter: Meter) -> Iterator[Bench]:
    """Make everything that the work on one pair needs; gone when the pair is done."""

    def recruit() -> Crew:
        from job.app.worker import crew  # noqa: PLC0415  # only a large job pays for multiprocessing

        return crew(work, roots)

    with _open_index(work, f"/proc/self/fd/{roots.state}") as memory, set_up(work, roots, memory, meter) as bench:
        yield replace(bench, recruit=recruit)


@contextlib.contextmanager
def _open_index(work: Assignment, folder: str) -> Iterator[Index]:
    try:
        index = Index.open(folder)
    except IndexTorn as error:
        # What is lost is only time: every content is compared again instead of being believed (invariant 13).
        set_aside(folder)
        work.emit(IndexRebuilt(cycle_id=work.cycle_id, pair=work.pair.name, reason=error.message))
        index = Index.open(folder)
    except IndexUnusable as error:
        raise Refused(Refusal.STATE_UNUSABLE, error.message, hint=error.hint) from None
    with contextlib.closing(index):
        yield index
    if index.torn:
        set_aside(folder)
        work.emit(IndexRebuilt(cycle_id=work.cycle_id, pair=work.pair.name, reason=index.torn))


@contextlib.contextmanager
def lay_out_preview(config: Config, pair: Pair, source: int, mirror: int) -> Iterator[Preview]:
    """Make what a dry run needs; nothing is created or changed."""
    with contextlib.ExitStack() as tidy:
        index = tidy.enter_context(contextlib.closing(index_to_read(state_folder(config, pair))))
        scanner = Scanner(source, Rules(pair.exclude), policy=pair.outlook, cross_mounts=pair.cross_mounts)
        tidy.callback(scanner.close)
        watch = MirrorWatch(mirror)
        tidy.callback(watch.close)
        yield Preview(pair=pair, source=scanner, watch=watch, mirror_root=mirror, memory=index)


def state_folder(config: Config, pair: Pair) -> str:
    """Name the folder of a pair's state."""
    if config.state_dir is not None:
        return os.path.join(config.state_dir, pair.name)
    return os.path.join(pair.dest, STATE_FOLDER.decode("ascii"))
