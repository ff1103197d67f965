"""Where a fault happens: a source, a mirror, a folder that is neither, and a tool that is run on them."""

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests import forkserver
from tests.faults import processes
from tests.faults.matrix.finding import Outcome
from tests.faults.matrix.tools import Order, Tool
from tests.faults.rig import environment, started

PATIENCE = 60.0
"""Seconds until a tool is said to hang."""
MIB = 1 << 20
_ATTEMPTS = 30


@dataclass
class Run:
    """A run of a tool that was started."""

    order: Order
    tool: Tool
    process: subprocess.Popen[bytes] | forkserver.Process
    mirror: Path

    def outcome(self, patience: float = PATIENCE) -> Outcome:
        """Wait for its end. One that does not come is a hang."""
        try:
            code: int | None = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
            self.end()
        output, errors = (self._stream(name).read_text(errors="replace") for name in ("stdout", "stderr"))
        # Where it happened has nothing to do with what happened.
        said = (line.replace(f"{self.mirror.parent}/", "") for line in self.tool.complaints(self.order, output, errors))
        return Outcome(code, tuple(said))

    def _stream(self, name: str) -> Path:
        return self.order.papers / name

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def is_met(self) -> bool:
        """Wait until it writes a large file in the mirror; tell whether it was met before it ended."""
        while self.process.poll() is None:
            if any(self._written(pid) for pid in self._family()):
                return True
            time.sleep(0.0005)
        return False

    def _family(self) -> Iterator[int]:
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += processes.children(pid)

    def _written(self, pid: int) -> bool:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{number}"
                if os.readlink(path).startswith(f"{self.mirror}/") and os.stat(path).st_blocks * 512 >= MIB:
                    return True
        return False


@dataclass
class Scene:
    """Folders below a base of their own, and a tool."""

    base: Path
    tool: Tool
    source: Path = field(init=False)
    mirror: Path = field(init=False)
    outside: Path = field(init=False)
    _runs: int = 0

    def __post_init__(self) -> None:
        self.source, self.mirror, self.outside = (self.base / name for name in ("source", "mirror", "outside"))
        for folder in (self.source, self.mirror, self.outside):
            folder.mkdir(parents=True)

    @contextmanager
    def started(self, *, prefix: Sequence[str] = (), slow: bool = False, loud: bool = False) -> Iterator[Run]:
        """Start the tool, in a process group of its own that is gone at the end."""
        self._runs += 1
        papers = self.base / f"papers-{self._runs}"
        (papers / "tmp").mkdir(parents=True)
        order = Order(source=self.source, mirror=self.mirror, papers=papers, slow=slow, loud=loud)
        with (papers / "stdout").open("wb") as stdout, (papers / "stderr").open("wb") as stderr:
            command, environ = [*prefix, *self.tool.command(order)], environment() | self._environ(papers)
            run = Run(order, self.tool, started(command, environ, (stdout, stderr), group=True), self.mirror)
            try:
                yield run
            finally:
                run.end()

    def _environ(self, papers: Path) -> dict[str, str]:
        return {"TMPDIR": str(papers / "tmp"), "XDG_STATE_HOME": str(self._memory)}

    @property
    def _memory(self) -> Path:
        """What a tool remembers of a mirror outside of it."""
        return self.base / "memory"

    def run(self, *, prefix: Sequence[str] = (), patience: float = PATIENCE, slow: bool = False) -> Outcome:
        """Run the tool to its end."""
        with self.started(prefix=prefix, slow=slow) as run:
            return run.outcome(patience)

    def first_run(self) -> None:
        """Run the tool where nothing stands in its way, so that there is a copy to lose."""
        outcome = self.run()
        assert outcome.code == 0, (self.tool.name, outcome)

    @contextmanager
    def met(self, prepare: Callable[[], None] = lambda: None) -> Iterator[Run]:
        """Start the tool and meet it while it writes a large file. One that cannot be slowed may take some attempts."""
        for _ in range(_ATTEMPTS):
            prepare()
            with self.started(slow=self.tool.slows) as run:
                if run.is_met():
                    yield run
                    return
        raise AssertionError(self.tool.name, "was never met at work")

    @property
    def large(self) -> int:
        """Bytes of a file that takes this tool long enough to be met."""
        return (16 if self.tool.slows else 200) * MIB

    def fill(self, text: str, *, count: int = 20, hours_ago: int = 0) -> None:
        """Write healthy files, or write them anew.

        What is written anew should have been old: a tool that looks at seconds and sizes is to see the edit.
        """
        for number in range(count):
            file = self.source / f"healthy-{number:02}"
            file.write_text(f"{text} {number}\n" * 50)
            back_dated(file, hours_ago)

    def fill_old(self) -> None:
        """Write healthy files that are to be written anew later."""
        self.fill("old", hours_ago=1)

    @property
    def left(self) -> int:
        """Count the healthy files that are not in the mirror as they are in the source."""
        names = [path.name for path in self.source.glob("healthy-*")]
        return sum(content(self.mirror / name) != content(self.source / name) for name in names)

    def emptied_mirror(self) -> None:
        """Remove everything from the mirror, and what is remembered of it: the next run is a first one."""
        shutil.rmtree(self.mirror)
        self.mirror.mkdir()
        shutil.rmtree(self._memory, ignore_errors=True)

    def held(self, folder: Path) -> dict[str, bytes | None]:
        """Give what every name below a folder holds; None for what is no regular file."""
        return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*"))}


def back_dated(path: Path, hours: int) -> None:
    """Have a file been modified so many hours ago."""
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


def content(path: Path) -> bytes | None:
    """Read a regular file, and never through a link; None if there is none or it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def either(path: Path, old: bytes, new: bytes) -> tuple[str, ...]:
    """Name a file that holds neither its old content nor its new one."""
    return () if content(path) in (old, new) else (f"{path.name} is neither old nor new",)
