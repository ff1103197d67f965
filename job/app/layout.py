"""Lay out the bench of a pair: the adapters that the tasks work with."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from job.adapters.copier import Copier
from job.adapters.index import Index
from job.adapters.leftovers import Leftovers
from job.adapters.pace import Pace
from job.adapters.scanner import MirrorWatch, Scanner
from job.core.config.effective import Config, Pair
from job.core.entry import STATE_FOLDER
from job.core.events import IndexRebuilt
from job.core.outcome import Refusal
from job.core.rules import Rules
from job.errors import IndexUnusable, Refused
from job.files.durable import syncfs, syncfs_means_something
from job.files.index_file import IndexTorn, set_aside
from job.files.metadata import Keeper
from job.tasks.bench import Assignment, Bench, Crew, Tacho
from job.tasks.gate import Roots
from job.tasks.meter import Meter
from job.tasks.preview import Preview


class MirrorSync:
    """Syncs the file system of one mirror, by a descriptor that was open before the first write."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.each = not syncfs_means_something(root)

    def all(self) -> None:
        """Sync everything; raises `OSError` if any of it was not written since the root was opened."""
        syncfs(self._root)


@contextlib.contextmanager
def lay_out(work: Assignment, roots: Roots, meter: Meter) -> Iterator[Bench]:
    """Make everything that the work on one pair needs; gone when the pair is done."""

    def recruit() -> Crew:
        from job.app.worker import crew  # noqa: PLC0415  # only a large job pays for multiprocessing

        return crew(work, roots)

    with _open_index(work, f"/proc/self/fd/{roots.state}") as memory, set_up(work, roots, memory, meter) as bench:
        yield replace(bench, recruit=recruit)


@contextlib.contextmanager
def set_up(work: Assignment, roots: Roots, memory: Index, tacho: Tacho, slot: int = 0) -> Iterator[Bench]:
    """Make what one process needs; `slot` is the worker's number, 0 for the main process."""
    pair = work.pair
    with contextlib.ExitStack() as tidy:
        source = Scanner(roots.source, Rules(pair.exclude), policy=pair.checksum.encode("ascii"))
        tidy.callback(source.close)
        watch = MirrorWatch(roots.mirror)
        tidy.callback(watch.close)
        leftovers = Leftovers(roots.state, slot)
        tidy.callback(leftovers.close)
        keeper, sync = Keeper(), MirrorSync(roots.mirror)
        pace = Pace(pair.rate_limit, stop=work.stop, progress=tacho.bytes_copied, clock=time.monotonic, wait=time.sleep)
        yield Bench(
            source_root=roots.source,
            mirror_root=roots.mirror,
            source=source,
            watch=watch,
            memory=memory,
            leftovers=leftovers,
            copyist=Copier(pair.checksum, keeper, pace, sync_each=sync.each),
            keeper=keeper,
            sync=sync,
        )


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
        scanner = Scanner(source, Rules(pair.exclude), policy=pair.checksum.encode("ascii"))
        tidy.callback(scanner.close)
        watch = MirrorWatch(mirror)
        tidy.callback(watch.close)
        yield Preview(pair=pair, source=scanner, watch=watch, mirror_root=mirror, memory=index)


def index_to_read(folder: str) -> Index:
    """Open an index for looking only; one that knows nothing where there is none, or a torn one."""
    try:
        return Index.open_read_only(folder) or Index.empty()
    except IndexTorn:
        return Index.empty()  # as the next cycle would do
    except IndexUnusable as error:
        raise Refused(Refusal.STATE_UNUSABLE, error.message, hint=error.hint) from None


def state_folder(config: Config, pair: Pair) -> str:
    """Name the folder of a pair's state."""
    if config.state_dir is not None:
        return os.path.join(config.state_dir, pair.name)
    return os.path.join(pair.dest, STATE_FOLDER.decode("ascii"))
