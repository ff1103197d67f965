"""Worker processes: started, given tasks, heard, and let go. What a task is, is for the tasks' own code to know.

A one-shot run forks: a child is ready in a few milliseconds. A process that has threads, as the service has, starts
fresh interpreters instead, since a fork would copy locks that other threads hold at that moment.
"""

import contextlib
import multiprocessing as mp
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

_END = "end"
_STOP = "stop"
_ORPHANED = 70
_PATIENCE_SECONDS = 3.0


class Lost(NamedTuple):
    """A worker that is no more, and how it ended."""

    how: str


class Descriptor:
    """An open file handed to a worker with its orders."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to a fresh interpreter, which has inherited nothing."""
        return _received, (DupFd(self.number),)


def _received(sent: Any) -> Descriptor:
    return Descriptor(sent.detach())


class Post:
    """A worker's end of the line to the main process."""

    def __init__(self, line: "Connection[Any, Any]") -> None:
        self._line = line
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = False
        # Always listening, so that the main process is never kept waiting by a worker that is busy.
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                task = self._line.recv()
            except (EOFError, OSError):
                # Nobody holds the lock for us any more: not one more name may be changed.
                os._exit(_ORPHANED)
            if task == _STOP:
                self._stopped = True
            else:
                self._tasks.put(task)

    def next(self) -> Any:
        """Wait for a task; None when there will be no more."""
        task = self._tasks.get()
        return None if task == _END else task

    @property
    def idle(self) -> bool:
        """Whether no task waits."""
        return self._tasks.empty()

    def stopped(self) -> bool:
        """Tell whether the run is to end."""
        return self._stopped

    def send(self, answer: object) -> None:
        """Answer the main process."""
        self._line.send(answer)


Work = Callable[[Post, Any], None]


class Crew:
    """The workers of one pair. Use it with `contextlib.closing`."""

    def __init__(self, work: Work, orders: Callable[[int], object], most: int) -> None:
        """`work` is what a worker does with its `orders`, made by slot; at most so many live at once."""
        self._work = work
        self._orders = orders
        self.most = most
        self._slots = 0
        self._lines: dict[int, Connection[Any, Any]] = {}
        self._processes: dict[int, BaseProcess] = {}

    @property
    def members(self) -> list[int]:
        """The slots of those who live."""
        return list(self._lines)

    def hire(self, count: int) -> None:
        """Have so many workers, as far as the system allows."""
        context = _context()
        while len(self._lines) < min(count, self.most):
            self._slots += 1
            try:
                self._start(context, self._slots)
            except OSError:  # no process or descriptor to be had: those who are there do the work
                return

    def _start(self, context: BaseContext, slot: int) -> None:
        ours, theirs = context.Pipe()
        # A fork copies our ends of all lines: held by a worker, none of them would ever break when we die.
        copied = [ours, *self._lines.values()] if context.get_start_method() == "fork" else []
        process = context.Process(  # type: ignore[attr-defined]
            target=_begin,
            args=(self._work, theirs, self._orders(slot), copied),
            name=f"truecopy-worker-{slot}",
            daemon=True,
        )
        try:
            process.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._lines[slot], self._processes[slot] = ours, process

    def give(self, slot: int, task: object) -> None:
        """Give a worker a task; what becomes of one that is lost is heard."""
        with contextlib.suppress(OSError):
            self._lines[slot].send(task)

    def hear(self, seconds: float) -> list[tuple[int, object]]:
        """Wait, at most so long, for answers; a worker that ended unasked answers `Lost`."""
        slots = {line: slot for slot, line in self._lines.items()}
        heard: list[tuple[int, object]] = []
        for line in multiprocessing.connection.wait(list(slots), seconds):
            slot = slots[line]  # type: ignore[index]
            try:
                heard.append((slot, self._lines[slot].recv()))
            except (EOFError, OSError):
                heard.append((slot, self._lost(slot)))
        return heard

    def _lost(self, slot: int) -> Lost:
        self._lines.pop(slot).close()
        process = self._processes.pop(slot)
        process.join(_PATIENCE_SECONDS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            return Lost("it closed its line and was killed")
        if code < 0:
            with contextlib.suppress(ValueError):
                return Lost(f"it was killed by {signal.Signals(-code).name}")
        return Lost(f"it ended with exit code {code}")

    def stop(self) -> None:
        """Ask all to end what they do soon; they answer as ever."""
        for slot in self._lines:
            self.give(slot, _STOP)

    def close(self) -> None:
        """Let all go. One that does not go by itself is killed: it has nothing that is not told already."""
        for slot in self._lines:
            self.give(slot, _END)
        for slot, process in self._processes.items():
            process.join(_PATIENCE_SECONDS)
            if process.exitcode is None:
                process.kill()
                process.join()
            self._lines[slot].close()
            process.close()
        self._lines.clear()
        self._processes.clear()


def _context() -> BaseContext:
    return mp.get_context("fork" if threading.active_count() == 1 else "spawn")


def _begin(work: Work, line: "Connection[Any, Any]", orders: object, copied: "list[Connection[Any, Any]]") -> None:
    for each in copied:
        each.close()
    # The main process hears the signals, and says so over the line; a terminal and systemd send them to everybody.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    work(Post(line), orders)
