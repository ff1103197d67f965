"""Worker processes: start them, submit tasks, poll their answers, stop and kill them.

A one-shot run forks: a child is ready in a few milliseconds. A process with threads, such as the service, spawns fresh
interpreters, because a fork would copy locks that other threads hold. Sends and receives have timeouts, because the
process at the other end of a pipe may be stopped.
"""

import contextlib
import multiprocessing as mp
import multiprocessing.connection
import os
import queue
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

from job.system.hang_diagnosis import blocked_path, kernel_function, may_fork
from job.system.resources import worker_limit
from job.system.signals import HANDLED


def set_timeouts(connection: "Connection[Any, Any]", *, sending: float, receiving: float) -> None:
    """Set timeouts, after which a transfer that makes no progress raises `OSError`."""
    with contextlib.suppress(OSError), _as_socket(connection) as end:
        for way, seconds in ((socket.SO_SNDTIMEO, sending), (socket.SO_RCVTIMEO, receiving)):
            end.setsockopt(socket.SOL_SOCKET, way, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


def shut_down(connection: "Connection[Any, Any]") -> None:
    """Shut down a connection: both ends read EOF."""
    with contextlib.suppress(OSError), _as_socket(connection) as end:
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _as_socket(connection: "Connection[Any, Any]") -> Iterator[socket.socket]:
    end = socket.socket(fileno=connection.fileno())
    try:
        yield end
    finally:
        end.detach()


_END = "end"
_STOP = "stop"
_EXIT_ORPHANED = 70
_EXIT_NO_THREAD = 71
_LAST_WORD_SECONDS = 0.1


class Timeouts(NamedTuple):
    """How long a pool waits for its workers, in seconds."""

    exit: float = 3.0
    """For one worker to exit."""
    stop: float = 4.0
    """For all workers to exit after `stop`; the service has five seconds."""
    killed: float = 0.5
    """For killed workers to exit."""
    message: float = 20.0
    """For progress in a message; after that, the process at the other end counts as stopped."""


_TIMEOUTS = Timeouts()


class LostWorker(NamedTuple):
    """A worker that ended unexpectedly."""

    how: str


class KilledWorker(NamedTuple):
    """A worker that was killed because it hung."""

    process: int
    where: str
    """The path that it waited for; empty if unknown."""
    doing: str
    """The kernel function that it waited in."""
    dead: bool
    """False if the kill has no effect yet: it holds the lock of the mirror until its system call returns."""


class Descriptor:
    """An open file passed to a worker with its orders."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        """Pass a duplicate to a spawned interpreter, which inherits no descriptors."""
        return _open_descriptor, (DupFd(self.number),)


def _open_descriptor(sent: Any) -> Descriptor:
    return Descriptor(sent.detach())


class WorkerPipe:
    """A worker's end of the pipe to the main process."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = False
        # A thread always receives, so that a busy worker never blocks the main process.
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                task = self._connection.recv()
                if task == _STOP:
                    self._stopped = True
                else:
                    self._tasks.put(task)
        finally:
            # The main process and its lock are gone, so change nothing more; or no memory is left to receive tasks.
            os._exit(_EXIT_ORPHANED)

    def next(self) -> Any:
        """Wait for a task; None at the end."""
        task = self._tasks.get()
        return None if task == _END else task

    @property
    def idle(self) -> bool:
        """Whether the task queue is empty."""
        return self._tasks.empty()

    def stopped(self) -> bool:
        """Return whether the run is stopping."""
        return self._stopped

    def send(self, answer: object) -> None:
        """Send an answer to the main process."""
        self._connection.send(answer)


Work = Callable[[WorkerPipe, Any], None]


class WorkerPool:
    """The workers of one pair. Use it with `contextlib.closing`."""

    def __init__(self, work: Work, orders: Callable[[int], object], most: int, timeouts: Timeouts = _TIMEOUTS) -> None:
        """Have each worker call `work` with the `orders` of its slot; at most `most` workers live at once."""
        self._work = work
        self._orders = orders
        self._timeouts = timeouts
        self.most = min(most, worker_limit())
        self._last_slot = 0
        self._connections: dict[int, Connection[Any, Any]] = {}
        self._processes: dict[int, BaseProcess] = {}
        self._stop_deadline: float | None = None

    @property
    def slots(self) -> list[int]:
        """The slots of live workers."""
        return list(self._connections)

    def start(self, count: int) -> None:
        """Start workers up to `count`, as far as the system allows."""
        context = mp.get_context("fork" if may_fork() else "spawn")
        while len(self._connections) < min(count, self.most):
            self._last_slot += 1
            try:
                self._start_worker(context, self._last_slot)
            except OSError:
                # Out of processes or descriptors: continue with the existing workers. Each try leaks descriptors.
                self.most = len(self._connections)

    def _start_worker(self, context: BaseContext, slot: int) -> None:
        ours, worker_end = context.Pipe()
        set_timeouts(ours, sending=self._timeouts.message, receiving=self._timeouts.message)
        # A fork copies the main process's pipe ends; a worker that kept them would prevent EOF when this process dies.
        copied = [ours, *self._connections.values()] if context.get_start_method() == "fork" else []
        process = context.Process(  # type: ignore[attr-defined]
            target=_run_worker,
            args=(self._work, worker_end, self._orders(slot), copied),
            name=f"truecopy-worker-{slot}",
            daemon=True,
        )
        try:
            with _signals_blocked():
                process.start()
        except OSError:
            ours.close()
            raise
        finally:
            worker_end.close()
        self._connections[slot], self._processes[slot] = ours, process

    def submit(self, slot: int, task: object) -> None:
        """Send a task to a worker; a lost worker is reported by `poll`."""
        try:
            self._connections[slot].send(task)
        except OSError:
            shut_down(self._connections[slot])  # after a partial message nothing else can be sent

    def poll(self, seconds: float) -> list[tuple[int, object]]:
        """Wait up to `seconds` for answers; the answer of a worker that ended is a `LostWorker`."""
        slots = {connection: slot for slot, connection in self._connections.items()}
        answers: list[tuple[int, object]] = []
        for connection in multiprocessing.connection.wait(list(slots), seconds):
            slot = slots[connection]  # type: ignore[index]
            try:
                answers.append((slot, self._connections[slot].recv()))
            except (EOFError, OSError):
                answers.append((slot, self._reap(slot)))
        return answers

    def _reap(self, slot: int) -> LostWorker:
        self._connections.pop(slot).close()
        process = self._processes.pop(slot)
        process.join(self._timeouts.exit)
        code = process.exitcode
        if code is None:
            process.kill()
            _is_dead(process, self._timeouts.killed)
            return LostWorker("it did not answer any more and was killed")
        if code < 0:
            with contextlib.suppress(ValueError):
                return LostWorker(f"it was killed by {signal.Signals(-code).name}")
        return LostWorker(f"it ended with exit code {code}")

    def kill(self, slot: int) -> KilledWorker:
        """Kill a hanging worker, and remove it from the pool."""
        process = self._processes.pop(slot)
        self._connections.pop(slot).close()
        pid = process.pid or 0
        where, doing = blocked_path(pid, pid), kernel_function(pid)
        process.kill()
        return KilledWorker(pid, where, doing, _is_dead(process, self._timeouts.killed))

    def _submit_all(self, word: str) -> None:
        for slot, connection in self._connections.items():
            set_timeouts(connection, sending=_LAST_WORD_SECONDS, receiving=self._timeouts.message)
            self.submit(slot, word)

    def stop(self) -> None:
        """Ask all workers to stop soon; they still send their answers."""
        self._stop_deadline = time.monotonic() + self._timeouts.stop
        self._submit_all(_STOP)

    def close(self) -> None:
        """End all workers, and kill those that do not exit; all answers were received."""
        self._submit_all(_STOP)  # further answers are not received
        self._submit_all(_END)
        now = time.monotonic()
        deadline = max(now + self._timeouts.killed, self._stop_deadline or now + self._timeouts.exit)
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
        deadline = time.monotonic() + self._timeouts.killed
        for slot, process in self._processes.items():
            if _is_dead(process, deadline - time.monotonic()):
                process.close()
            self._connections[slot].close()
        self._connections.clear()
        self._processes.clear()


def _is_dead(process: BaseProcess, seconds: float) -> bool:
    """Wait up to `seconds` for a killed worker to exit; False if it hangs in a call to a dead disk."""
    if process.exitcode is None:
        process.join(max(0.0, seconds))
    if process.exitcode is not None:
        return True
    # Otherwise the interpreter would wait for it forever at exit.
    vars(mp.process)["_children"].discard(process)
    return False


def _run_worker(
    work: Work, connection: "Connection[Any, Any]", orders: object, copied: "list[Connection[Any, Any]]"
) -> None:
    for each in copied:
        each.close()
    # A terminal and systemd signal all processes; the main process handles signals and informs workers by pipe.
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    try:
        pipe = WorkerPipe(connection)
    except RuntimeError:  # no thread available
        os._exit(_EXIT_NO_THREAD)
    work(pipe, orders)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals: one would kill a new process before it can ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
