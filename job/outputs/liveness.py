"""Signs of life: the heartbeat for the health check (`health.py`), and a watchdog for cycles that hang.

The heartbeat is a listener: each event is a sign of life. The watchdog is a thread: a system call that hangs in the
kernel runs no signal handler and cannot be cancelled, so the main process can neither report it nor end. The thread
only waits and compares; another thread reports, since an output may hang on the same disk. The main process watches its
workers itself (`engine/dispatch/pool.py`).
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self

from job.errors import Exit
from job.events.service import (
    CycleCrashed,
    CycleFinished,
    CycleResumed,
    CycleStalled,
    CycleStarted,
    EntryEvent,
    Event,
    NextCycleDue,
    PairFinished,
    RunDisabled,
    ServiceStarted,
    ServiceStopped,
    SignalReceived,
    WorkersAwaited,
)
from job.fs.private_folders import PrivateFolder, open_private
from job.fs.small_files import replace_file
from job.health import HealthFile, boot_id
from job.system.hang import ForkSafeThread, blocked_path, our_frames, work_thread

BEAT_EVERY_SECONDS = 10.0
"""Signs of life are written this seldom, since each is a write to a disk; a turn of events is written at once."""


class Heartbeat:
    """Keeps one small record up to date: when the last sign of life was, what is due and what is going on.

    It is in memory, and also in a file, for those who may not look into this process. The file is not synced: after a
    power cut there is no service to speak of.
    """

    def __init__(
        self,
        health_file: HealthFile,
        place: PrivateFolder | None = None,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Take where it is, the folder for the file, if there is one, and the clocks, both in seconds."""
        self._health_file = health_file
        self._place = place
        self._wall = wall
        self._monotonic = monotonic
        self._next_due: float | None = None
        self._cycle_started: float | None = None
        self._stalled: float | None = None
        self._tried_at = -BEAT_EVERY_SECONDS
        self._failure: int | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event.

        Raises `OSError` when it cannot be written, once for every kind of failure until a write succeeds again: a sign
        of life comes every few seconds, and the log need not repeat one fault that often.
        """
        if isinstance(event, ServiceStopped):
            self._health_file.memory.close()
            with suppress(OSError), self._folder() as folder:
                if folder is not None:
                    os.unlink(self._health_file.file, dir_fd=folder)
        elif isinstance(event, WorkersAwaited):
            return
        elif self._changes_state(event) or self._monotonic() - self._tried_at >= BEAT_EVERY_SECONDS:
            self._beat()

    def _changes_state(self, event: Event) -> bool:
        match event:
            case CycleStarted():
                self._cycle_started, self._stalled = self._wall(), None
            case CycleFinished() | CycleCrashed():
                self._cycle_started = self._stalled = None
            case CycleStalled(process="main"):
                self._stalled = self._wall() - event.stalled_seconds
            case CycleResumed():
                self._stalled = None
            case NextCycleDue():
                self._next_due = event.due_timestamp_seconds
            case _:
                return False
        return True

    def _beat(self) -> None:
        self._tried_at = self._monotonic()
        try:
            self._write()
        except OSError as error:
            if error.errno != self._failure:
                self._failure = error.errno
                raise
        else:
            self._failure = None

    def _write(self) -> None:
        content = {
            "pid": os.getpid(),
            "boot_id": boot_id(),
            "beat_timestamp_seconds": self._wall(),
            "next_due_timestamp_seconds": self._next_due,
            "cycle_started_timestamp_seconds": self._cycle_started,
            "stalled_timestamp_seconds": self._stalled,
        }
        text = json.dumps(content).encode() + b"\n"
        self._health_file.memory.publish(text)
        with self._folder() as folder:
            if folder is not None:
                replace_file(folder, os.fsencode(self._health_file.file), text)

    @contextmanager
    def _folder(self) -> Iterator[int | None]:
        if self._place is None:
            yield None
            return
        folder = open_private(self._place, make=True, tighten=True)
        try:
            yield folder
        finally:
            os.close(folder)


_TICK_SECONDS = 0.4
_STOP_SECONDS = 4.0
"""A stop that was asked for is to be over after five, and all that can move has ended after these."""
_STILL_SECONDS = 2.0
"""How long nothing moved, for a stop to be hopeless."""
_EMIT_SECONDS = 2.0
_LAST_WORD_SECONDS = 0.4
_MAIN = "main"


class Asked(Protocol):
    """The signals: `StopSignal` of `system/signals.py`."""

    signals: frozenset[signal.Signals]

    def pending_exit(self) -> Exit:
        """Give the exit code of the stop that was asked for, noticed by the main thread or not; `OK` if none was."""

    def notices(self, *, busy: bool) -> list[tuple[str, str]]:
        """Name the signals that came and do not stop the run, each with its effect, and forget them."""


class Watchdog:
    """Watches the main thread, at its start and in cycles, while the `with` block lasts. To be joined to the events.

    `limit` gives the seconds after which a cycle counts as stalled, 0 for never. Then `CycleStalled` is told, and with
    `give_up` the process leaves; else it is told when anything moves again. A stop that finds nothing moving ends the
    process in any case. `leave` is given the exit code and does not come back.
    """

    def __init__(
        self,
        asked: Asked,
        emit: Callable[[Event], None],
        limit: Callable[[], float],
        *,
        give_up: bool,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._asked = asked
        self._emit = emit
        self._limit = limit
        self._give_up = give_up
        self._leave = leave
        self._main = threading.get_ident()
        self._over = threading.Event()
        self._thread = ForkSafeThread(target=self._run, name="watch", daemon=True)
        self._last: Event | None = None
        self._seen: Event | None = None
        self._busy = True
        self._cycle_id = ""
        self._pairs: Sequence[str] = ()
        self._silent = self._asked_for = 0.0
        self._reported = 0.0

    def __enter__(self) -> Self:
        """Start watching, where a thread is to be had."""
        try:
            self._thread.start()
        except RuntimeError:
            self._over.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Watch no more."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join(_EMIT_SECONDS)

    def __call__(self, event: Event) -> None:
        """Take every event of the main thread for a sign of life."""
        if threading.get_ident() != self._main:
            return
        self._last = event
        if isinstance(event, EntryEvent):
            return
        match event:
            case CycleStarted():
                self._busy, self._cycle_id, self._pairs = True, event.cycle_id, event.pairs
            case PairFinished():
                self._pairs = self._pairs[1:]
            case CycleFinished() | CycleCrashed() | ServiceStarted() | RunDisabled():
                self._busy = False
            case _:
                pass

    def _run(self) -> None:
        # A signal that only this thread could take would otherwise not be seen as one that waits for the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._asked.signals)
        before = time.monotonic()
        while not self._over.wait(_TICK_SECONDS):
            now = time.monotonic()
            # No more than that: this process itself may have been stopped, as by `docker pause`.
            self._check_progress(min(now - before, 2 * _TICK_SECONDS))
            before = now

    def _check_progress(self, passed: float) -> None:
        moved = self._last is not self._seen
        self._seen = self._last
        self._silent = 0.0 if moved else self._silent + passed
        code = self._asked.pending_exit()
        self._asked_for = self._asked_for + passed if code else 0.0
        if moved and self._reported:
            stalled_seconds, self._reported = self._reported, 0.0
            self._emit_within(
                CycleResumed(cycle_id=self._cycle_id, pair=self._pair, stalled_seconds=stalled_seconds), _EMIT_SECONDS
            )
        if not self._busy:
            return
        for name, effect in self._asked.notices(busy=True):
            self._emit_within(SignalReceived(signal=name, effect=effect), _EMIT_SECONDS)
        if self._asked_for >= _STOP_SECONDS and self._silent >= _STILL_SECONDS:
            self._emit_within(self._stalled(), _LAST_WORD_SECONDS)
            self._leave(code)
        limit = self._limit()
        if limit and self._silent >= limit:
            if not self._reported:
                self._emit_within(self._stalled(), _EMIT_SECONDS)
            self._reported = self._silent
            if self._give_up:
                self._leave(Exit.FAILED)

    @property
    def _pair(self) -> str:
        return self._pairs[0] if self._pairs else ""

    def _stalled(self) -> CycleStalled:
        busy = work_thread()
        where = blocked_path(os.getpid(), busy.native_id or os.getpid())
        return CycleStalled(
            cycle_id=self._cycle_id,
            pair=self._pair,
            process=_MAIN,
            stalled_seconds=self._silent,
            where=where,
            doing=our_frames(busy.ident or self._main),
        )

    def _emit_within(self, event: Event, seconds: float) -> None:
        try:
            emitter = threading.Thread(target=self._emit, args=(event,), daemon=True)
            emitter.start()
        except RuntimeError:
            return
        emitter.join(seconds)
