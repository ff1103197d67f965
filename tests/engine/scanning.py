"""A look at a pair, alone or with helpers, without the rest of a cycle."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from job.app import pair_setup, worker_main
from job.core.file_systems import MirrorCapabilities
from job.engine.context import PairContext, PairRun, Progress
from job.engine.dispatch import parallel_scan
from job.engine.dispatch.worker_supervisor import WorkerSupervisor
from job.engine.preflight.open_pair import Roots, open_pair
from job.engine.scan import ScanDepth, ScanResult
from job.events.base import Event
from job.events.pair import WorkersAwaited
from job.system.processes import WorkerPool
from tests.engine.workshop import Workshop

Prepare = Callable[[WorkerPool], object]


@contextmanager
def at_work(
    shop: Workshop, told: list[Event], workers: int, prepare: Prepare, workers_from: int = 0
) -> Iterator[tuple[PairContext, WorkerSupervisor | None]]:
    """Open the pair as a cycle does."""
    run = PairRun("cycle", shop.pair, told.append, bool, shop.now_ns, workers=workers, workers_from=workers_from)

    def create_pool(run: PairRun, roots: Roots, able: MirrorCapabilities) -> WorkerPool:
        pool = worker_main.create_pool(run, roots, able)
        prepare(pool)
        return pool

    with (
        open_pair(shop.pair, None, 0.0) as roots,
        pair_setup.open_context(run, roots, Progress(run), create_pool) as context,
    ):
        assert context.create_worker_pool is not None
        with closing(WorkerSupervisor(context.create_worker_pool, run)) as supervisor:
            supervisor.start(workers - 1)
            while supervisor.starting:
                supervisor.poll()
            yield context, supervisor if workers > 1 else None


def scanned(
    shop: Workshop,
    workers: int,
    *,
    depth: ScanDepth = ScanDepth.AUDIT,
    prepare: Prepare = bool,
    workers_from: int = 0,
    expected: int = 0,
) -> tuple[ScanResult, list[Event]]:
    told: list[Event] = []
    with at_work(shop, told, workers, prepare, workers_from) as (context, supervisor):
        found = parallel_scan.scan_tree(context, shop.pair, lambda _: None, depth, supervisor, expected)
    return found, [event for event in told if not isinstance(event, WorkersAwaited)]
