"""Log lines: one JSON line an event, to a stream and to files. A listener on the event stream.

The formatter is fed directly instead of through loggers: nothing of the process's logging set-up can change a line,
and what cannot be written is told as a fact instead of being printed by `logging`. Output is ASCII, so every file
name survives (design 2.4).
"""

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from job.core.events import Event
from job.core.wording import fields_of, sentence

Failed = Callable[[str, str], None]

_SEVERITY = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# NONBLOCK so that opening a planted FIFO ends at once instead of waiting for a reader.
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


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
    """Writes events as JSON lines; call it with each event.

    `clock` gives seconds since the epoch. `stream` is None where a terminal shows progress instead. `failed` is called
    with the output's name and the error, once an outage: a log that cannot be written never stops a cycle, and every
    later line tries again. Safe to call from several threads.
    """

    def __init__(self, *, clock: Callable[[], float], failed: Failed, stream: TextIO | None) -> None:
        self._clock = clock
        self._failed = failed
        self._formatter = JsonFormatter([])
        self._lock = threading.RLock()
        self._telling = False
        self._least = logging.INFO
        self._stream = [_Stream(stream)] if stream is not None else []
        self._files: list[_File] = []

    def configure(self, settings: LogSettings) -> None:
        """Put other settings in force; files that stay the same stay open."""
        wanted = [("log_file", settings.log_file, logging.DEBUG)]
        if settings.error_log_file != settings.log_file:
            wanted.append(("error_log_file", settings.error_log_file, logging.WARNING))
        with self._lock:
            self._least = _SEVERITY[settings.level]
            open_files = {(each.output, each.path): each for each in self._files}
            self._files = [
                open_files.pop((output, path)) if (output, path) in open_files else _File(output, path, least)
                for output, path, least in wanted
                if path is not None
            ]
            for each in open_files.values():
                each.close()

    def __call__(self, event: Event) -> None:
        """Log one event, if its level says so."""
        if event.level is None or (severity := _SEVERITY[event.level]) < self._least:
            return
        line = self._line(event, severity)
        with self._lock:
            outages = [
                (sink.output, error)
                for sink in (*self._stream, *self._files)
                if severity >= sink.least and (error := sink.write(line))
            ]
        self._tell(outages)

    def close(self) -> None:
        """Close the files; later events open them again."""
        with self._lock:
            for each in self._files:
                each.close()

    def _line(self, event: Event, severity: int) -> str:
        fields = fields_of(event)
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        head = {
            "timestamp": moment.replace("+00:00", "Z"),
            "level": event.level,
            "event": event.name,
            "message": sentence(event, fields),
        }
        record = logging.makeLogRecord({"msg": head | fields, "levelno": severity})
        return self._formatter.format(record) + "\n"

    def _tell(self, outages: list[tuple[str, str]]) -> None:
        # Telling makes a new event, which comes back here: an output that breaks again meanwhile is not told twice.
        if not outages or self._telling:
            return
        self._telling = True
        try:
            for output, error in outages:
                self._failed(output, error)
        finally:
            self._telling = False


class _Sink:
    """Somewhere lines go. Remembers whether it is in an outage and whether its last line was torn."""

    def __init__(self, output: str, least: int) -> None:
        self.output = output
        self.least = least
        self._broken = False

    def write(self, line: str) -> str:
        """Write a line; give the error if this begins an outage, else an empty text."""
        try:
            self._put(line)
        except (OSError, ValueError) as error:
            begins = not self._broken
            self._broken = True
            return (str(error) or type(error).__name__) if begins else ""
        self._broken = False
        return ""

    def _put(self, line: str) -> None:
        raise NotImplementedError


class _Stream(_Sink):
    def __init__(self, stream: TextIO) -> None:
        super().__init__("stdout", logging.DEBUG)
        self._stream = stream

    def _put(self, line: str) -> None:
        self._stream.write(line)
        self._stream.flush()


class _File(_Sink):
    """A log file, opened when first needed and again after it was rotated away."""

    def __init__(self, output: str, path: str, least: int) -> None:
        super().__init__(output, least)
        self.path = path
        self._descriptor = -1
        self._torn = False

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._descriptor >= 0:
            # Nothing is buffered here; an error of an earlier write that close reports cannot be acted on.
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _put(self, line: str) -> None:
        if self._descriptor < 0 or self._moved():
            self.close()
            self._descriptor = self._open()
            self._torn = False
        # A disk that filled up in the middle of a line leaves a torn one: the next line must not be glued to it.
        data = (b"\n" if self._torn else b"") + line.encode("ascii")
        written = os.write(self._descriptor, data)
        if written < len(data):
            self._torn = True
            message = f"{self.path}: only {written} of {len(data)} bytes of a line could be written"
            raise OSError(message)
        self._torn = False

    def _moved(self) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        return not os.path.samestat(there, os.fstat(self._descriptor))

    def _open(self) -> int:
        if folder := os.path.dirname(self.path):
            os.makedirs(folder, exist_ok=True)
        descriptor = os.open(self.path, _OPEN_FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            message = f"{self.path} is not a regular file"
            raise OSError(message)
        return descriptor
