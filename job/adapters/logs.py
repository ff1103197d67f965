"""Log lines: one JSON line an event, to a stream and to files. A listener on the event stream.

Lines are made here instead of by `logging`: nothing of the process's logging set-up can change a line, and what cannot
be written is told as a fact instead of being printed. Output is ASCII, so every file name survives (design 2.4).

A batch of copies tells a thousand entries in a row. Their lines are collected, and written in one go with the event
that follows them: a system call or two for the batch and output instead of four for each line.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import UnsupportedOperation
from typing import TextIO

from job.core.events import EntryEvent, Event
from job.core.log_line import line_of
from job.files.line_file import LineEnd, LineFile

Failed = Callable[[str, str], None]

MOST_WAITING = 256 << 10
"""Bytes of lines that may wait for more."""

_SEVERITY = {None: 0, "debug": 10, "info": 20, "warning": 30, "error": 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged where."""

    level: str = "info"
    """Least severe level that is logged."""
    log_file: str | None = None
    """Gets every line."""
    error_log_file: str | None = None
    """Gets warnings and errors."""


class Logs:
    """Writes events as JSON lines; call it with each event, and `close` it so that none is left.

    `clock` gives seconds since the epoch. `stream` is None where a terminal shows progress instead. `failed` is called
    with the output's name and the error, once an outage: a log that cannot be written never stops a cycle, its lines
    are lost, and every later write tries again. Safe to call from several threads.
    """

    def __init__(self, *, clock: Callable[[], float], failed: Failed, stream: TextIO | None) -> None:
        self._clock = clock
        self._failed = failed
        self._lock = threading.RLock()
        self._telling = threading.Lock()
        self._outages: deque[tuple[str, str]] = deque()
        self._least = _SEVERITY["info"]
        self._streams = () if stream is None else (_Stream(stream),)
        self._files: dict[tuple[str, str], _File] = {}
        self._sinks: tuple[_Sink, ...] = self._streams
        self._waiting = 0
        self._most_waiting = MOST_WAITING
        self._shown, self._shown_from, self._shown_until = "", 0.0, 0.0

    def configure(self, settings: LogSettings) -> None:
        """Put other settings in force; files that stay the same stay open."""
        wanted = [("log_file", settings.log_file, _SEVERITY["debug"])]
        if settings.error_log_file != settings.log_file:
            wanted.append(("error_log_file", settings.error_log_file, _SEVERITY["warning"]))
        with self._lock:
            self._write()
            self._least = _SEVERITY[settings.level]
            known, self._files = self._files, {}
            for output, path, least in wanted:
                if path is not None:
                    key = output, path
                    self._files[key] = known.pop(key) if key in known else _File(output, path, least)
            for unwanted in known.values():
                unwanted.file.close()
            self._sinks = (*self._streams, *self._files.values())
        self._tell()

    def __call__(self, event: Event) -> None:
        """Log one event, if its level says so."""
        severity = _SEVERITY[event.level]
        with self._lock:
            if severity >= self._least and self._sinks:
                line = line_of(event, self._timestamp())
                self._waiting += len(line)
                for sink in self._sinks:
                    if severity >= sink.least:
                        sink.waiting.append(line)
            if self._waiting >= self._most_waiting or not isinstance(event, EntryEvent):
                self._write()
        if self._outages:
            self._tell()

    def close(self) -> None:
        """Write what waits and close the files; later events open them again, and none waits any more."""
        with self._lock:
            self._most_waiting = 0
            self._write()
        self._tell()
        with self._lock:
            for each in self._files.values():
                each.file.close()

    def _write(self) -> None:
        if self._waiting:
            self._waiting = 0
            self._outages += [(each.output, error) for each in self._sinks if (error := each.write())]

    def _timestamp(self) -> str:
        now = self._clock()
        if not self._shown_from <= now < self._shown_until:
            moment = datetime.fromtimestamp(now, UTC)
            self._shown = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            # Until a microsecond before the next millisecond: the clock's are rounded.
            self._shown_from, self._shown_until = now, now + (998 - moment.microsecond % 1000) / 1e6
        return self._shown

    def _tell(self) -> None:
        # Telling makes a new event, which comes back here: whoever tells already tells that one's outages, too.
        if self._telling.acquire(blocking=False):
            try:
                while self._outages:
                    self._failed(*self._outages.popleft())
            finally:
                self._telling.release()


class _Sink:
    """Somewhere lines go, with those that wait to be written. Remembers whether it is in an outage."""

    def __init__(self, output: str, add: Callable[[str], None], least: int = 0) -> None:
        self.output = output
        self.least = least
        self.waiting: list[str] = []
        self._add = add
        self._broken = False

    def write(self) -> str:
        """Write what waits; give the error if this begins an outage, else an empty text."""
        if not self.waiting:
            return ""
        lines = "".join(self.waiting)
        self.waiting.clear()
        try:
            self._add(lines)
        except (OSError, ValueError) as error:
            begins = not self._broken
            self._broken = True
            return (str(error) or type(error).__name__) if begins else ""
        self._broken = False
        return ""


class _File(_Sink):
    def __init__(self, output: str, path: str, least: int) -> None:
        self.file = LineFile(path)
        super().__init__(output, self.file.add, least)


class _Stream(_Sink):
    def __init__(self, stream: TextIO) -> None:
        super().__init__("stdout", self._add_lines)
        self._stream = stream
        self._end = LineEnd()

    def _add_lines(self, lines: str) -> None:
        # Not by way of the stream's buffer: of a batch that cannot be written it would keep and drop parts of lines.
        self._stream.flush()
        try:
            descriptor = self._stream.fileno()
        except UnsupportedOperation:
            self._stream.write(lines)
        else:
            self._end.add(descriptor, lines)
