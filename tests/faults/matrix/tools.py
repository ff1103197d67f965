"""The four tools, behind one interface: the command for an order, and where they say what went wrong."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import ROOT
from tests.bench.tools import TOOLS as MEASURED

OURS = "truecopy"
RATE = 8 << 20
"""Bytes a second of a tool that is told to be slow, so that it can be met at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a tool is to do: bring `mirror` up to `source`."""

    source: Path
    mirror: Path
    papers: Path
    """A folder for its config, its logs and what it writes to its standard streams."""
    slow: bool = False
    loud: bool = False
    """It is to log each file, as the tools do that are asked for a log."""

    @property
    def config(self) -> Path:
        return self.papers / "config.json"

    @property
    def log(self) -> Path:
        return self.papers / "tool.log"

    @property
    def error_log(self) -> Path:
        return self.papers / "error.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that copies."""

    name: str
    title: str
    command: Callable[[Order], list[str]]
    complaints: Callable[[Order, str, str], Iterator[str]]
    """Picks from standard output and standard error, and from its logs, what is said of errors and omissions."""
    slows: bool = True
    """Whether it can be told to be slow."""

    @property
    def version(self) -> str:
        return next(tool.version() for tool in MEASURED if tool.name == self.name)

    @property
    def missing(self) -> str | None:
        """Say why it cannot take part; None if it can."""
        return next(tool.absent for tool in MEASURED if tool.name == self.name)


def _configured(order: Order, **options: object) -> str:
    document = {
        "run_enabled": "Y",
        "source_dirs": [str(order.source)],
        "dest_dirs": [str(order.mirror)],
        "log_file": str(order.log),
        "error_log_file": str(order.error_log),
        "sleep_time": 1,
        **options,
    }
    order.config.write_text(json.dumps(document))
    return str(order.config)


def _truecopy(order: Order) -> list[str]:
    config = _configured(order, metrics={"enabled": False}, **({"rate_limit": RATE} if order.slow else {}))
    return [sys.executable, "-m", "job", "--config", config, "run", "--once"]


def _truecopy_says(_: Order, output: str, errors: str) -> Iterator[str]:
    yield from errors.splitlines()
    for text in output.splitlines():
        line = json.loads(text)
        passed_over = {reason: count for reason, count in line.get("skipped_by", {}).items() if reason != "unchanged"}
        if line["level"] not in {"debug", "info"} or line["event"] == "mount_skipped":
            yield str(line["message"])
        elif line["event"] == "cycle_finished" and passed_over:
            yield f"skipped: {passed_over}"


def _rsync(order: Order) -> list[str]:
    slow = [f"--bwlimit={RATE >> 10}"] if order.slow else []
    loud = [f"--log-file={order.log}"] if order.loud else []
    return ["rsync", "-a", *slow, *loud, f"{order.source}/", f"{order.mirror}/"]


def _rsync_says(_: Order, output: str, errors: str) -> Iterator[str]:
    yield from errors.splitlines()
    yield from (line for line in output.splitlines() if line.startswith("skipping"))


def _rclone(order: Order) -> list[str]:
    slow = [f"--bwlimit={RATE >> 20}M"] if order.slow else []
    loud = ["-v", f"--log-file={order.log}"] if order.loud else []
    # Without --config "" it looks for a file and complains.
    return ["rclone", "sync", "--config", "", *slow, *loud, str(order.source), str(order.mirror)]


def _rclone_says(_: Order, __: str, errors: str) -> Iterator[str]:
    yield from (line for line in errors.splitlines() if any(word in line for word in ("ERROR", "NOTICE", "Failed")))


def _original(order: Order) -> list[str]:
    return [sys.executable, str(ROOT / "tests/bench/original.py"), _configured(order)]


def _original_says(order: Order, _: str, errors: str) -> Iterator[str]:
    yield from errors.splitlines()
    if order.error_log.is_file():
        yield from order.error_log.read_text(errors="replace").splitlines()


TOOLS = (
    Tool(name="rsync", title="`rsync -a`", command=_rsync, complaints=_rsync_says),
    Tool(name="rclone", title="`rclone sync`", command=_rclone, complaints=_rclone_says),
    Tool(name="original", title="the original's loop", command=_original, complaints=_original_says, slows=False),
    Tool(name=OURS, title="Truecopy", command=_truecopy, complaints=_truecopy_says),
)
