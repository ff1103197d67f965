"""Events to log, and log lines read again."""

import json
from pathlib import Path
from typing import Any, TextIO

from job.config.settings import Config, LogLevel
from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Failure
from job.events.base import Event
from job.events.pair import BatchCommitted, FileCopied, FileFailed
from job.outputs.log import Logs
from tests.config.configs import to_settings

NOON = 1_790_000_000.125


class Told:
    """Remembers which outputs were told as failed."""

    def __init__(self) -> None:
        self.outages: list[tuple[str, str]] = []

    def __call__(self, output: str, error: str) -> None:
        self.outages.append((output, error))


def log_settings(*, level: LogLevel = "info", log_file: str | None = None, error_log_file: str | None = None) -> Config:
    config = to_settings(run_enabled="N")
    return config._replace(log_level=level, log_file=log_file, error_log_file=error_log_file)


def make_logs(stream: TextIO | None = None, told: Told | None = None) -> Logs:
    return Logs(clock=lambda: NOON, failed=told or Told(), stream=stream)


def tell(logs: Logs, *events: Event) -> None:
    """Tell events as a batch does: they are written when it is committed."""
    for event in events:
        logs(event)
    logs(BatchCommitted(cycle_id="c1", pair="music", tally=Tally()))


def copied(path: bytes = b"music/a.flac") -> FileCopied:
    return FileCopied(
        cycle_id="c1",
        pair="music",
        path=path,
        kind=Kind.FILE,
        bytes=1234,
        checksum="sha256:00ff",
        permissions="644",
        reason="new",
        duration_seconds=0.25,
    )


def failed(path: bytes = b"a", error: str = "denied") -> FileFailed:
    return FileFailed(cycle_id="c1", pair="music", path=path, kind=Kind.FILE, reason=Failure.PERMISSION, error=error)


def lines(text: str) -> list[dict[str, Any]]:
    assert text.isascii()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def read(path: Path) -> list[dict[str, Any]]:
    return lines(path.read_text("ascii"))
