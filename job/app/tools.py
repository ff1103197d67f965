"""The tools of one process, main or worker: the adapters that the tasks work with."""

import contextlib
import gc
import time
from collections.abc import Iterator
from functools import partial

from job.adapters.copier import Copier
from job.adapters.index import Index
from job.adapters.leftovers import Leftovers
from job.adapters.linkbook import LinkBook
from job.adapters.pace import Pace
from job.adapters.scanner import MirrorWatch, Scanner
from job.core.capabilities import Capabilities
from job.core.config.effective import Pair
from job.core.left_out import KnownMounts
from job.core.outcome import Refusal
from job.core.rules import Rules
from job.core.spelling import Spelling
from job.errors import IndexUnusable, Refused
from job.files import known_mounts
from job.files.durable import syncfs, syncfs_means_something
from job.files.index_file import IndexTorn
from job.files.metadata import Keeper
from job.tasks.anchor import check_place
from job.tasks.bench import Assignment, Bench, Tacho
from job.tasks.gate import Roots


def collect_rarely() -> None:
    """Look for garbage cycles now and then only: what a batch holds is many objects and no cycles (4 % of a copy)."""
    if not gc.get_freeze_count():  # once in a process: what is garbage at that moment is kept for ever
        gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class MirrorSync:
    """Syncs the file system of one mirror, by a descriptor that was open before the first write."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.each = not syncfs_means_something(root)

    def all(self) -> None:
        """Sync everything; raises `OSError` if any of it was not written since the root was opened."""
        syncfs(self._root)


@contextlib.contextmanager
def set_up(
    work: Assignment, roots: Roots, memory: Index, tacho: Tacho, mirror: Capabilities, slot: int = 0
) -> Iterator[Bench]:
    """Make what one process needs, for a `mirror` that can do so much; `slot` is the worker's number, or 0."""
    pair = work.pair
    with contextlib.ExitStack() as tidy:
        mounts = known_mounts.load(roots.state)
        source = source_scanner(pair, roots.source, mirror, mounts)
        tidy.callback(source.close)
        watch = MirrorWatch(roots.mirror)
        tidy.callback(watch.close)
        leftovers = Leftovers(roots.state, slot)
        tidy.callback(leftovers.close)
        keeper = Keeper(security=pair.keep_security, setuid=pair.keep_setuid, grain_ns=mirror.mtime_grain_ns)
        sync = MirrorSync(roots.mirror)
        pace = Pace(pair.rate_limit, stop=work.stop, progress=tacho.bytes_copied, clock=time.monotonic, wait=time.sleep)
        yield Bench(
            source_root=roots.source,
            mirror_root=roots.mirror,
            source=source,
            watch=watch,
            memory=memory,
            leftovers=leftovers,
            copyist=Copier(
                pair.checksum, keeper, pace, sync_each=sync.each, reflink=pair.reflink, sparse=mirror.sparse
            ),
            keeper=keeper,
            sync=sync,
            linkbook=LinkBook,
            mirror=mirror,
            known_mounts=mounts,
            remember_mounts=partial(known_mounts.save, state=roots.state),
            check_place=partial(check_place, pair, roots.source, roots.mirror, roots.lease),
        )


def source_scanner(pair: Pair, root: int, mirror: Capabilities, mounts: KnownMounts) -> Scanner:
    """Give what lists the open root of a source, for a mirror that can do so much."""
    return Scanner(
        root,
        Rules(pair.exclude),
        policy=pair.outlook + mirror.outlook,
        cross_mounts=pair.cross_mounts,
        mounts=mounts.taken,
        spelling=None if mirror.exact else Spelling(mirror),
    )


def index_to_read(folder: str) -> Index:
    """Open an index for looking only; one that knows nothing where there is none, or a torn one."""
    try:
        return Index.open_read_only(folder) or Index.empty()
    except IndexTorn:
        return Index.empty()  # as the next cycle would do
    except IndexUnusable as error:
        raise Refused(Refusal.STATE_UNUSABLE, error.message, hint=error.hint) from None
