"""A source and a mirror on disk, and whole cycles over them with benches that can be listened to or broken."""

import fcntl
import os
import signal
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from job.app import worker_main
from job.app.pair_setup import open_context
from job.app.preview_setup import open_preview
from job.config.settings import Config, Pair
from job.core.counts import Tally
from job.core.file_systems import MirrorCapabilities
from job.core.outcome import Drift, Failure, Result
from job.core.record import FolderDone, FolderSummary, RowsDone
from job.core.versions import VersionsDone
from job.engine.context import PairContext, PairRun, Progress
from job.engine.cycle import CycleContext, OpenContext, run_cycle
from job.engine.dry_run import Planned, preview
from job.engine.preflight.open_pair import Roots, open_roots
from job.engine.volumes import Tools
from job.events.base import Event
from job.events.pair import BatchCommitted, FileCopied, FileFailed, FilesCopied, PairFinished
from job.events.service import CycleStarted
from job.fs.own_files import MirrorSync
from job.fs.version_tree import VersionTree
from job.store.index import Index
from job.store.memory import Memory
from job.store.version_table import VersionsGone
from job.system.processes import WorkerPipe, WorkerPool
from tests import workers
from tests.config.configs import to_settings

Kind = TypeVar("Kind", bound=Event)
HOUR_NS = 3600 * 10**9
NOBODY = 65534


@dataclass
class Told:
    """What a cycle ended with, and what it told on the way."""

    result: Result = Result.SUCCESS
    events: list[Event] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Note an event, and of the copies of a batch each one."""
        self.events += map(event.event_of, event.copies) if isinstance(event, FilesCopied) else [event]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def tally(self) -> Tally:
        """Give the sum over all pairs."""
        return sum((event.tally for event in self.of(PairFinished)), Tally())

    @property
    def committed(self) -> Tally:
        """Give the sum over all batches, which is what the counters count."""
        return sum((event.tally for event in self.of(BatchCommitted)), Tally())

    @property
    def copied(self) -> dict[bytes, str]:
        """Give what was copied, and why."""
        return {event.path: event.reason for event in self.of(FileCopied)}

    @property
    def failed(self) -> dict[bytes, Failure]:
        return {event.path: event.reason for event in self.of(FileFailed)}

    @property
    def drift(self) -> Mapping[Drift, int]:
        return self.tally.drift_by


@dataclass
class Workshop:
    """One pair, by default long after its files were last touched, so that nothing is too young to be believed."""

    base: Path
    options: dict[str, Any] = field(default_factory=dict)
    ahead_ns: int = HOUR_NS
    disk_behind_ns: int = 0
    """How much the clock of the mirror's disk is behind that of the job."""
    verbose: bool = False
    memory: Memory = field(default_factory=lambda: Memory(os.environ["XDG_STATE_HOME"] + "/workshop"))
    """What is remembered of pairs outside their mirrors."""
    prepare: Callable[[WorkerPool], object] = bool
    """What a crew is put through before anybody is in it."""

    def __post_init__(self) -> None:
        for folder in (self.source, self.mirror):
            folder.mkdir()

    @property
    def source(self) -> Path:
        return self.base / "source"

    @property
    def mirror(self) -> Path:
        return self.base / "mirror"

    @property
    def state(self) -> Path:
        return self.mirror / ".truecopy"

    @property
    def config(self) -> Config:
        pair = {"name": "music", "source": str(self.source), "dest": str(self.mirror)}
        return to_settings(**{"pairs": [pair], "audit_interval": 0, **workers.FORCED, **self.options})

    @property
    def pair(self) -> Pair:
        return self.config.effective_pairs[0]

    def now_ns(self) -> int:
        return time.time_ns() + self.ahead_ns

    def cycle(self, open_context: OpenContext | None = None, stop: Callable[[], bool] = bool) -> Told:
        """Run a cycle of all pairs; `stop` is asked as in a real one.

        A bench of the test's own is one process's: what is broken or listened to in it, no worker would have.
        """
        told = Told()
        work = CycleContext(
            "cycle",
            told.hear,
            stop,
            self.now_ns,
            open_context or self._open_context,
            verbose=self.verbose,
            memory=self.memory,
        )
        told.result = run_cycle(self.config._replace(workers=1) if open_context else self.config, work)
        return told

    def killed_cycle(self, steps: int) -> Told:
        """Run a cycle in a process that is killed the n-th time it asks whether to stop or has something to tell.

        Returns when none of its workers holds the mirror any more; a cycle of fewer steps ends by itself.
        """
        process = os.fork()
        if process == 0:
            left = iter(range(steps))

            def tell(_: Event) -> None:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            def stop() -> bool:
                tell(CycleStarted(cycle_id="", pairs=()))
                return False

            try:
                work = CycleContext("killed", tell, stop, self.now_ns, self._open_context, memory=self.memory)
                run_cycle(self.config, work)
            finally:
                os._exit(0)
        os.waitpid(process, 0)
        for path in (self.mirror / ".truecopy/lock", *self.base.glob("state/*/lock")):
            if path.exists():  # it was killed before it had made one
                with path.open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
        return Told()

    @contextmanager
    def _open_context(self, run: PairRun, roots: Roots, progress: Progress) -> Iterator[PairContext]:
        """Lay out the real bench, with workers whose clocks go with ours."""

        def create_pool(run: PairRun, roots: Roots, able: MirrorCapabilities) -> WorkerPool:
            pool = worker_main.create_pool(run, roots, able)
            pool._work = partial(serve_ahead, self.ahead_ns)
            self.prepare(pool)
            return pool

        with open_context(run, roots, progress, create_pool) as context:
            context.read_disk_clock = self._read_disk_clock
            yield context

    def _read_disk_clock(self, tree: VersionTree) -> float | None:
        """Read the disk's clock, which goes with ours, or stays behind by as much as the test says."""
        read = tree.clock()
        return None if read is None else read + (self.ahead_ns - self.disk_behind_ns) / 1e9

    def plan(self) -> list[Planned]:
        """Run dry."""
        with (
            open_roots(self.pair, self.config.state_dir) as (source, mirror),
            open_preview(self.config, self.pair, source, mirror) as view,
        ):
            return list(preview(view, self.now_ns() / 1e9, lambda _: None))

    def write(self, name: str, content: str = "content") -> Path:
        """Make a file in the source, with the folders above it."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    @property
    def temps(self) -> list[Path]:
        return list(self.mirror.rglob(".truecopy-tmp-*"))

    @property
    def retired(self) -> dict[str, Path]:
        """Give what left the mirror's tree, by the path it had there."""
        versions = self.state / "versions"
        return {str(path.relative_to(each)): path for each in versions.glob("*") for path in each.rglob("*")}

    def names(self) -> set[str]:
        """Name everything in the mirror that is not ours."""
        found = (path.relative_to(self.mirror) for path in self.mirror.rglob("*"))
        return {str(path) for path in found if path.parts[0] != ".truecopy"}


def serve_ahead(ahead_ns: int, post: WorkerPipe, orders: worker_main.Orders) -> None:
    """Be a worker whose wall clock is ahead. The process is the worker's own, so nothing is put back."""
    clocks = SimpleNamespace(time_ns=lambda: time.time_ns() + ahead_ns, monotonic=time.monotonic)
    vars(worker_main)["time"] = clocks
    worker_main.serve(post, orders)


@contextmanager
def nobody() -> Iterator[None]:
    """Be an ordinary user for a while."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def as_nobody(shop: Workshop) -> Told:
    """Run a cycle as an ordinary user."""
    with nobody():
        return shop.cycle()


def seen(path: Path) -> tuple[object, ...]:
    """Tell what has to be equal on both sides: kind, mode, mtime, content."""
    found = path.lstat()
    content: object = None
    if stat.S_ISREG(found.st_mode):
        content = path.read_bytes()
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    return stat.filemode(found.st_mode), found.st_mtime_ns, content


def assert_mirrored(shop: Workshop) -> None:
    """Compare every entry of the source with its mirror."""
    for path in [shop.source, *shop.source.rglob("*")]:
        if not (stat.S_ISFIFO(path.lstat().st_mode)):
            assert seen(shop.mirror / path.relative_to(shop.source)) == seen(path), path


Change = Callable[[PairContext], PairContext]


def changed(change: Change) -> OpenContext:
    """Lay out the real bench with some part of it exchanged."""

    def open_changed(run: PairRun, roots: Roots, progress: Progress) -> AbstractContextManager[PairContext]:
        @contextmanager
        def opened() -> Iterator[PairContext]:
            with open_context(run, roots, progress) as context:
                yield change(context)

        return opened()

    return open_changed


class ListenedSync(MirrorSync):
    """Syncs for real, after `before` was told; what that raises is what the disk says."""

    def __init__(self, real: MirrorSync, before: Callable[[], None]) -> None:
        self.__dict__ = real.__dict__
        self.before = before

    def all(self) -> None:
        self.before()
        super().all()


class ListenedIndex(Index):
    """The real index, counting what is asked of it; `before_commit` may raise."""

    def __init__(self, real: Index, before_commit: Callable[[list[FolderDone]], object] = len) -> None:
        self.__dict__ = real.__dict__
        self.before_commit = before_commit
        self.asked = Counter[str]()

    def summary(self, path: bytes) -> FolderSummary | None:
        self.asked["summary"] += 1
        return super().summary(path)

    def rows(self, path: bytes, part: int = 0) -> str:
        self.asked["rows"] += 1
        return super().rows(path, part)

    def commit(
        self,
        folders: Iterable[FolderDone],
        rows: Iterable[RowsDone],
        gone: Iterable[bytes] = (),
        versions: Sequence[VersionsDone] = (),
        *,
        gone_versions: Sequence[VersionsGone] = (),
        incomplete_at: float = 0,
    ) -> None:
        done = list(folders)
        self.asked["committed"] += len(done)
        self.before_commit(done)
        super().commit(done, rows, gone, versions, gone_versions=gone_versions, incomplete_at=incomplete_at)


def with_tools(context: PairContext, change: Callable[[Tools], Tools]) -> PairContext:
    """Exchange tools of a bench when they are made."""
    return replace(context, make_tools=lambda: change(context.tools))


def with_sync(before: Callable[[], None]) -> OpenContext:
    return changed(
        lambda context: with_tools(context, lambda tools: tools._replace(sync=ListenedSync(tools.sync, before)))
    )


def with_index(before_commit: Callable[[list[FolderDone]], object]) -> OpenContext:
    return changed(lambda context: replace(context, index=ListenedIndex(context.index, before_commit)))
