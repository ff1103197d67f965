"""Write one log line per event, to a stream and to files. A listener on the event stream.

A line is JSON, rendered by the formatter of python-json-logger, or text. Loggers and handlers of `logging` are not
used: the process's logging set-up cannot change a line, and a failed write becomes an event. JSON is ASCII, so every
file name survives. Lines of entries are collected, and written together with the next event of another kind.
"""

import json
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from io import UnsupportedOperation
from json.encoder import encode_basestring_ascii as quoted
from typing import TextIO

from job.config.settings import Config
from job.events.base import EntryEvent, Event
from job.events.pair import FileCopied, FilesCopied
from job.events.text import LIMITS, LONGEST_LINE, LONGEST_VALUE, Fields, fields_of, sentence
from job.outputs.log_file import LineEnd, LineFile, is_one_file

Failed = Callable[[str, str], None]
Render = Callable[[Event, str], list[str]]
"""Returns the lines of an event, with their line ends; the time is in RFC 3339."""

MOST_WAITING = 256 << 10
"""Characters of lines that are collected before they are written."""

_REPLACED = "\ufffd"
"""In a text for bytes that are not UTF-8."""
_PLAIN = bytes(range(0x20, 0x7F)).translate(None, b'"\\')
"""Characters that JSON shows as they are."""
_SHORT = {f"{us / 1e6:.6f}": repr(us / 1e6) for us in range(100)}
"""Seconds that JSON shows with an exponent."""
_LONG_SECONDS = 1e6
_SEVERITY = {None: 0, "debug": 10, "info": 20, "warning": 30, "error": 40}


class Logs:
    """Writes events as lines; call it with each event, and `close` it to write the last ones. Thread-safe.

    `clock` returns seconds since the epoch. `stream` is None where a terminal shows progress instead; a `quiet` one
    gets warnings and errors only. `failed` is called once per outage, with the output's name and the error: a log that
    cannot be written never stops a cycle, its lines are lost, and every later write tries again.
    """

    def __init__(
        self, *, clock: Callable[[], float], failed: Failed, stream: TextIO | None, quiet: bool = False
    ) -> None:
        self._clock = clock
        self._failed = failed
        self._lock = threading.RLock()
        self._reporting = threading.Lock()
        self._outages: deque[tuple[str, str]] = deque()
        self._least_level = _SEVERITY["info"]
        self._streams = () if stream is None else (_Stream(stream, _SEVERITY["warning" if quiet else "debug"]),)
        self._files: dict[tuple[object, ...], _FileSink] = {}
        self._sinks: tuple[_Sink, ...] = self._streams
        self._waiting = 0
        self._most_waiting = MOST_WAITING
        self._shown, self._shown_from, self._shown_until = "", 0.0, 0.0

    def configure(self, config: Config) -> None:
        """Apply new settings; files with the same settings stay open."""
        log_file, error_log_file = config.log_file, config.error_log_file
        wanted = [("log_file", log_file, _SEVERITY["debug"])]
        if log_file is None or error_log_file is None or not is_one_file(log_file, error_log_file):
            wanted.append(("error_log_file", error_log_file, _SEVERITY["warning"]))
        with self._lock:
            self._write()
            self._least_level = _SEVERITY[config.log_level]
            roots = tuple(root for pair in config.effective_pairs for root in (pair.source, pair.dest))
            known, self._files = self._files, {}
            for output, path, least in wanted:
                if path is not None:
                    key = output, path, config.log_format, config.log_rotate, roots
                    self._files[key] = known.pop(key) if key in known else _FileSink(output, path, least, config, roots)
            for unwanted in known.values():
                unwanted.file.close()
            for stream in self._streams:
                chosen = config.log_format or ("text" if stream.is_terminal else "json")
                stream.render = text_lines if chosen == "text" else json_lines
            self._sinks = (*self._streams, *self._files.values())
        self._report_outages()

    def __call__(self, event: Event, moment: float | None = None) -> None:
        """Log one event, if its level is logged, with the time `moment`, or now."""
        copies = isinstance(event, FilesCopied)
        severity = _SEVERITY[FileCopied.level if copies else event.level]
        with self._lock:
            if severity >= self._least_level and self._sinks:
                self._collect(event, severity, self._timestamp(self._clock() if moment is None else moment))
            if self._waiting >= self._most_waiting or not (copies or isinstance(event, EntryEvent)):
                self._write()
        if self._outages:
            self._report_outages()

    def close(self) -> None:
        """Write collected lines and close the files; later events open them again, and are written at once."""
        with self._lock:
            self._most_waiting = 0
            self._write()
        self._report_outages()
        with self._lock:
            for each in self._files.values():
                each.file.close()

    def _collect(self, event: Event, severity: int, timestamp: str) -> None:
        made: dict[Render, list[str]] = {}
        for sink in self._sinks:
            if severity >= sink.least:
                lines = made.get(sink.render) or made.setdefault(sink.render, sink.render(event, timestamp))
                sink.waiting += lines
        self._waiting += max((sum(map(len, lines)) for lines in made.values()), default=0)

    def _write(self) -> None:
        if self._waiting:
            self._waiting = 0
            self._outages += [(each.output, error) for each in self._sinks if (error := each.write())]

    def _timestamp(self, now: float) -> str:
        if not self._shown_from <= now < self._shown_until:
            moment = datetime.fromtimestamp(now, UTC)
            self._shown = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            # Until a microsecond before the next millisecond: the clock is rounded.
            self._shown_from, self._shown_until = now, now + (998 - moment.microsecond % 1000) / 1e6
        return self._shown

    def _report_outages(self) -> None:
        # Reporting emits an event, which comes back here: the outer call reports its outages, too.
        if self._reporting.acquire(blocking=False):
            try:
                while self._outages:
                    self._failed(*self._outages.popleft())
            finally:
                self._reporting.release()


class _Sink:
    """One output with its collected lines, and whether it is in an outage."""

    def __init__(self, output: str, add: Callable[[str], None], least: int, render: Render) -> None:
        self.output = output
        self.least = least
        self.render = render
        self.waiting: list[str] = []
        self._add = add
        self._broken = False

    def write(self) -> str:
        """Write the collected lines; return the error if this begins an outage, else an empty text."""
        if not self.waiting:
            return ""
        lines = "".join(self.waiting)
        self.waiting.clear()
        try:
            self._add(lines)
        except (OSError, ValueError) as error:
            begins = not self._broken
            self._broken = True
            return _in_words(error) if begins else ""
        self._broken = False
        return ""


class _FileSink(_Sink):
    def __init__(self, output: str, path: str, least: int, config: Config, roots: tuple[str, ...]) -> None:
        # No folder for a log is made in or above a source or mirror.
        self.file = LineFile(path, roots=roots, rotation=config.log_rotate)
        super().__init__(output, self.file.add, least, text_lines if config.log_format == "text" else json_lines)


class _Stream(_Sink):
    def __init__(self, stream: TextIO, least: int) -> None:
        super().__init__("stdout", self._add_lines, least, json_lines)
        self._stream = stream
        self._end = LineEnd(encoding=getattr(stream, "encoding", None) or "utf-8")

    @property
    def is_terminal(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def _add_lines(self, lines: str) -> None:
        # The stream's buffer would keep and drop parts of lines if a write fails.
        self._stream.flush()
        try:
            descriptor = self._stream.fileno()
        except UnsupportedOperation:
            self._stream.write(lines)
        else:
            self._end.add(descriptor, lines)


def _in_words(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
    words = error.strerror or str(error)
    return f"{error.filename}: {words}" if error.filename else words


def json_lines(event: Event, timestamp: str) -> list[str]:
    """Render the lines of an event as JSON."""
    return _copied_lines(event, timestamp) if isinstance(event, FilesCopied) else [json_line(event, timestamp)]


def text_lines(event: Event, timestamp: str) -> list[str]:
    """Render the lines of an event as text."""
    events = map(event.event_of, event.copies) if isinstance(event, FilesCopied) else (event,)
    return [text_line(each, timestamp) for each in events]


def _copied_lines(event: FilesCopied, timestamp: str) -> list[str]:
    """Render what `json_line` renders for each copy, by a template: a mass copy waits for its lines."""
    lines: list[str] = []
    fields = fields_of(event.event_of(event.copies[0]))
    level, name = quoted(FileCopied.level or ""), quoted(FileCopied.name)
    head = f'{{"timestamp": "{timestamp}", "level": {level}, "event": {name}, "message": "Copied '
    about = f'", "cycle_id": {quoted(fields["cycle_id"])}, "pair": {quoted(fields["pair"])}, "path": "'
    paths_are_plain = not b"".join([facts[0] for facts in event.copies]).translate(None, _PLAIN)
    rest_is_plain = (
        not "".join([text for facts in event.copies for text in facts[3:6]]).encode().translate(None, _PLAIN)
    )
    for facts in event.copies:
        path, kind, size, checksum, permissions, reason, seconds = facts
        shown = text = path.decode("utf-8", "replace")
        if not paths_are_plain:
            shown = quoted(text)[1:-1] if text.isprintable() and _REPLACED not in text else ""
        length = len(shown) + len(checksum) + len(permissions) + len(reason)
        if not (shown and rest_is_plain and length <= LONGEST_VALUE and 0 <= seconds <= _LONG_SECONDS):
            lines.append(json_line(event.event_of(facts), timestamp))
            continue
        took = f"{seconds:.6f}"
        took = _SHORT.get(took) or took.rstrip("0")
        lines.append(
            f'{head}{shown}: {reason}{about}{shown}", "kind": {quoted(kind)}, "bytes": {size}, '
            f'"checksum": "{checksum}", "permissions": "{permissions}", "reason": "{reason}", '
            f'"duration_seconds": {took if took[-1] != "." else took + "0"}}}\n'
        )
    return lines


def json_line(event: Event, timestamp: str) -> str:
    """Render an event as a line of JSON."""
    return _fitting(_json_line, event, timestamp)


def text_line(event: Event, timestamp: str) -> str:
    """Render an event as one printable line: time in UTC, level, pair, message."""
    return _fitting(_text_line, event, timestamp)


def _fitting(write: Callable[[Event, str, int], str], event: Event, timestamp: str) -> str:
    """Render a line with its values shortened as little as needed."""
    line = ""
    for longest in LIMITS:
        line = write(event, timestamp, longest)
        if len(line.encode()) <= LONGEST_LINE:
            break
    return line


def _json_line(event: Event, timestamp: str, longest: int) -> str:
    fields = fields_of(event, longest)
    head = {"timestamp": timestamp, "level": event.level, "event": event.name, "message": sentence(event, fields)}
    return _formatter()(_SEVERITY[event.level], head | fields) + "\n"


def _text_line(event: Event, timestamp: str, longest: int) -> str:
    fields = fields_of(event, longest)
    pair = f"{fields['pair']}: " if "pair" in fields else ""
    more = [fields.get("hint", ""), *fields.get("faults", ()), *fields.get("traceback", ())]
    text = " | ".join(part for part in (sentence(event, fields), *more) if part)
    return f"{timestamp[:19]}Z {(event.level or '').upper():<7} {pair}{text}\n"


@cache
def _formatter() -> Callable[[int, Fields], str]:
    from logging import LogRecord  # noqa: PLC0415  # 12 ms with the library, and progress on a terminal may need no line

    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415

    # The standard library's encoder refuses types that `fields_of` does not know, such as bytes (invariant 14).
    strict = partial(json.dumps, allow_nan=False)
    formatter = JsonFormatter((), json_serializer=strict, json_encoder=json.JSONEncoder)

    def format_fields(severity: int, fields: Fields) -> str:
        # As the message, fields keep their order, and cannot clash with attributes of a LogRecord, such as `process`.
        return formatter.format(LogRecord("truecopy", severity, "", 0, fields, None, None))

    return format_fields
