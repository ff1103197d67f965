"""The heartbeat: a listener that takes every event for a sign of life and writes it down for `files.pulse.check`."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from job.events.service import (
    CrewAwaited,
    CycleCrashed,
    CycleFinished,
    CycleResumed,
    CycleStalled,
    CycleStarted,
    Event,
    NextCycleDue,
    ServiceStopped,
)
from job.fs.private_folders import Place, open_place
from job.fs.small_files import replace_file
from job.health import Pulse, boot_id

BEAT_EVERY_SECONDS = 10.0
"""Signs of life are written this seldom, since each is a write to a disk; a turn of events is written at once."""


class Heartbeat:
    """Keeps one small record up to date: when the last sign of life was, what is due and what is going on.

    It is in memory, and also in a file, for those who may not look into this process. The file is not synced: after a
    power cut there is no service to speak of.
    """

    def __init__(
        self, pulse: Pulse, place: Place | None = None, *, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        """Take where it is, the folder for the file, if there is one, and the clocks, both in seconds."""
        self._pulse = pulse
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
            self._pulse.memory.close()
            with suppress(OSError), self._folder() as folder:
                if folder is not None:
                    os.unlink(self._pulse.file, dir_fd=folder)
        elif isinstance(event, CrewAwaited):
            return
        elif self._turns(event) or self._monotonic() - self._tried_at >= BEAT_EVERY_SECONDS:
            self._beat()

    def _turns(self, event: Event) -> bool:
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
        self._pulse.memory.publish(text)
        with self._folder() as folder:
            if folder is not None:
                replace_file(folder, os.fsencode(self._pulse.file), text)

    @contextmanager
    def _folder(self) -> Iterator[int | None]:
        if self._place is None:
            yield None
            return
        folder = open_place(self._place, make=True, mend=True)
        try:
            yield folder
        finally:
            os.close(folder)
