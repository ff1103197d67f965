"""Signs of life: the heartbeat for the health check (`health.py`), and a watchdog for cycles that hang.

The heartbeat is a listener: each event is a sign of life. The watchdog is a thread, since a main thread that hangs in a
system call can neither report it nor end. Another thread reports, since an output may hang on the same disk. The main
process watches its workers itself (`engine/dispatch/worker_supervisor.py`).
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Self

from job.errors import Exit
from job.events.base import EntryEvent, Event
from job.events.pair import CycleResumed, CycleStalled, PairFinished, WorkersAwaited
from job.events.service import (
    CycleCrashed,
    CycleFinished,
    CycleStarted,
    NextCycleDue,
    RunDisabled,
    ServiceStarted,
    ServiceStopped,
    SignalReceived,
)
from job.fs.dircursor import closing_fd
from job.fs.mounts import boot_id
from job.fs.own_files import replace_file
from job.fs.private_folders import PrivateFolder, open_private
from job.health import HealthFile
from job.system.hang_diagnosis import ForkSafeThread, blocked_path, our_frames, work_thread
from job.system.signals import StopSignal

BEAT_EVERY_SECONDS = 10.0
"""Interval of heartbeats, each a write to disk; a change of state is written at once."""


class Heartbeat:
    """Maintains the health record: time of the last event, next due time, and state of the cycle.

    It is in shared memory, and in a file for users without access to this process. The file is not synced: after a
    power cut no service runs.
    """

    def __init__(
        self,
        health_file: HealthFile,
        place: PrivateFolder | None = None,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Take the health file, its folder if one is usable, and the clocks, both in seconds."""
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
        """Record an event.

        Raises `OSError` if a write fails, once for each errno until one succeeds, so that no log is filled with it.
        """
        if isinstance(event, ServiceStopped):
            self._health_file.memory.close()
            if self._place is not None:
                with suppress(OSError), _opened(self._place) as folder:
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
        if self._place is not None:
            with _opened(self._place) as folder:
                replace_file(folder, os.fsencode(self._health_file.file), text)


def _opened(place: PrivateFolder) -> AbstractContextManager[int]:
    return closing_fd(open_private(place, make=True, tighten=True))


_TICK_SECONDS = 0.4
_STOP_SECONDS = 4.0
"""A requested stop must end within five seconds; after these, only hung threads remain."""
_STILL_SECONDS = 2.0
"""Time without progress after which a stop cannot end by itself."""
_EMIT_SECONDS = 2.0
_LAST_WORD_SECONDS = 0.4
_MAIN = "main"


class Watchdog:
    """Watches the main thread, at its start and in cycles, within the `with` block. Join it to the events.

    `limit` gives the seconds after which a cycle is stalled, 0 for never. Then `CycleStalled` is emitted, and with
    `give_up` the process exits; otherwise `CycleResumed` follows on progress. A requested stop without progress always
    ends the process. `leave` gets the exit code and does not return.
    """

    def __init__(
        self,
        asked: StopSignal,
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
        """Start watching, if a thread can be started."""
        try:
            self._thread.start()
        except RuntimeError:
            self._over.set()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join(_EMIT_SECONDS)

    def __call__(self, event: Event) -> None:
        """Count every event of the main thread as progress."""
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
        # Blocked here, so that a signal stays pending for the main thread, where it is seen.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._asked.signals)
        before = time.monotonic()
        while not self._over.wait(_TICK_SECONDS):
            now = time.monotonic()
            # Limited, since this process may have been stopped, for example by `docker pause`.
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
