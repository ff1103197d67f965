"""A source, a mirror and a config in a folder of their own, and the real command line run on them as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from prometheus_client.parser import text_string_to_metric_families

from tests import forkserver, workers
from tests.faults.trees import Tree, temps_below, tree_of

ROOT = Path(__file__).resolve().parents[2]
UNPRIVILEGED: tuple[str, ...] = forkserver.UNPRIVILEGED if os.geteuid() == 0 else ()
"""Makes root a user like any other: it keeps its number, and with it what it owns, and loses every privilege."""

PATIENCE = 60.0
"""Seconds until something that has to happen is given up."""

Line = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @cached_property
    def lines(self) -> list[Line]:
        """The log lines; anything on standard output that is none makes the test fail."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def of(self, event: str) -> list[Line]:
        """Give the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    def the(self, event: str) -> Line:
        """Give the one line of an event."""
        (line,) = self.of(event)
        return line

    @property
    def copied(self) -> set[str]:
        return {line["path"] for line in self.of("file_copied")}

    @property
    def failed(self) -> dict[str, str]:
        """Failed paths with their reasons."""
        return {line["path"]: line["reason"] for line in self.of("file_failed")}

    @property
    def drift(self) -> dict[str, str]:
        return {line["path"]: line["kind"] for line in self.of("drift_found")}

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Copied, updated, skipped and failed, by the summary of the cycle."""
        line = self.the("cycle_finished")
        return line["copied"], line["updated"], line["skipped"], line["failed"]


def temps_in(folder: Path) -> list[Path]:
    """Give the copies that are being made in a mirror folder, or in one that is staged beside it."""
    found = [*folder.glob(".truecopy-tmp-*"), *folder.parent.glob(".truecopy-tmp-*/*")]
    return [temp for temp in found if temp.is_file()]


@dataclass
class Rig:
    """A pair of folders and what it takes to back one up to the other."""

    base: Path
    options: dict[str, Any] = field(default_factory=dict)
    finely: bool = False
    """Whether even the smallest job is cut into pieces for several workers."""
    sandboxed: bool = True
    """Whether the kernel may wall the work in, which is then done by a thread of its own."""
    program: str = ""
    """Module that is run as `truecopy` instead."""

    def __post_init__(self) -> None:
        self.source, self.mirror = self.base / "source", self.base / "mirror"
        for folder in (self.source, self.mirror):
            folder.mkdir(parents=True, exist_ok=True)
        self.config, self.textfile = self.base / "config.json", self.base / "truecopy.prom"
        self.log, self.error_log = self.base / "backup.log", self.base / "error.log"
        self.configure(**self.options)

    @property
    def state(self) -> Path:
        return self.mirror / ".truecopy"

    def configure(self, **options: Any) -> None:
        """Write the six keys, the textfile, and `options`, which win; the metrics port stays shut unless asked for."""
        given: dict[str, Any] = {
            "run_enabled": "Y",
            "source_dirs": [str(self.source)],
            "dest_dirs": [str(self.mirror)],
            "log_file": str(self.log),
            "error_log_file": str(self.error_log),
            "sleep_time": 1,
            "idle_log_interval": 0,
            "metrics": {"enabled": False, "textfile": str(self.textfile)},
        }
        if "pairs" in options:
            del given["source_dirs"], given["dest_dirs"]
        if not self.sandboxed:
            given["landlock"] = "off"
        self.write(given | workers.FORCED | options)

    def write(self, document: Mapping[str, Any]) -> None:
        """Put a whole config document in place at once."""
        fresh = self.config.with_suffix(".fresh")
        fresh.write_text(json.dumps(document))
        fresh.replace(self.config)

    def command(self, *arguments: str, prefix: Sequence[str] = ()) -> list[str]:
        start = [sys.executable, "-m", self.program] if self.program else workers.command(finely=self.finely)
        return [*prefix, *start, "--config", str(self.config), *arguments]

    def run(self, *arguments: str, prefix: Sequence[str] = (), limit: Callable[[], None] | None = None) -> Done:
        """Run a command to its end. `prefix` goes before it, as `strace` does; `limit` is called in the new process."""
        command = self.command(*arguments, prefix=prefix)
        done = ended(command, environment(), prefixed=bool(prefix), limit=limit)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def once(self, *, prefix: Sequence[str] = (), limit: Callable[[], None] | None = None) -> Done:
        """Run one cycle. A traceback is a bug in every test."""
        done = self.run("run", "--once", prefix=prefix, limit=limit)
        assert "Traceback" not in done.stderr, done.stderr
        assert not done.code or done.code > 0 or done.code == -signal.SIGKILL, done
        return done

    @contextmanager
    def started(self, *arguments: str, group: bool = False) -> Iterator["Running"]:
        """Start a command that is gone at the end, whatever happens; in a process group of its own, if need be."""
        output = self.base / f"stdout-{time.monotonic_ns()}"
        with (
            output.open("wb") as stdout,
            output.with_suffix(".errors").open("wb") as stderr,
            started(self.command(*arguments), environment(), (stdout, stderr), group=group) as process,
        ):
            try:
                yield Running(process, output)
            finally:
                process.kill()

    def metric(self, name: str, **labels: str) -> float:
        """Read one value from the textfile."""
        for family in text_string_to_metric_families(self.textfile.read_text()):
            for sample in family.samples:
                if sample.name == f"truecopy_{name}" and labels.items() <= sample.labels.items():
                    return sample.value
        raise AssertionError(name, labels)

    @property
    def wanted(self) -> Tree:
        return tree_of(self.source)

    @property
    def mirrored(self) -> Tree:
        return tree_of(self.mirror)

    @property
    def temps(self) -> list[bytes]:
        return temps_below(self.mirror)

    def names(self, done: Done, path: str, reason: str) -> None:
        """Insist that a failure is told everywhere: in log, error log, metric and exit code."""
        assert done.failed.get(path) == reason, done.failed
        assert done.code == 3
        told = [json.loads(line) for line in self.error_log.read_text().splitlines()]
        assert (path, reason) in [(line.get("path"), line.get("reason")) for line in told]
        assert self.metric("files_failed_total", reason=reason) >= 1
        assert self.metric("cycles_total", result="partial") >= 1


@dataclass
class Running:
    """A process at work."""

    process: subprocess.Popen[bytes] | forkserver.Process
    output: Path

    @property
    def lines(self) -> list[Line]:
        """The whole lines told so far."""
        text = self.output.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for(self, event: str, *, count: int = 1, **fields: object) -> Line:
        """Wait until an event with these fields was told so many times; give the latest."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]
            if len(found) >= count:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(event, fields, self.lines)

    @property
    def errors(self) -> str:
        """What was written to standard error so far."""
        return self.output.with_suffix(".errors").read_text()

    def end(self, number: signal.Signals, *, group: bool = False) -> tuple[int, float]:
        """Send a signal, as a terminal does to the whole `group`; give the exit code and the seconds it took."""
        asked = time.monotonic()
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(-self.process.pid if group else self.process.pid, number)
        code = self.process.wait(PATIENCE)
        return code, time.monotonic() - asked


def ended(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    prefixed: bool = False,
    limit: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, by the server if that makes no difference."""
    if not limit and forkserver.can_run(command, environ):
        return forkserver.run(command, environ, PATIENCE * 2)
    # Under a tracer no compiled files may be written: they would be counted among the calls.
    environ = {**environ, "PYTHONDONTWRITEBYTECODE": "1"} if prefixed else environ
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        check=False,
        timeout=PATIENCE * 2,
        preexec_fn=limit,
    )


def started(
    command: Sequence[str], environ: Mapping[str, str], outputs: tuple[BinaryIO, BinaryIO], *, group: bool
) -> subprocess.Popen[bytes] | forkserver.Process:
    """Start a command, perhaps in a process group of its own; by the server if that makes no difference."""
    stdout, stderr = outputs
    if forkserver.can_run(command, environ):
        return forkserver.start(command, environ, (stdout.fileno(), stderr.fileno()), group=group)
    return subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=stdout, stderr=stderr, process_group=0 if group else None
    )


def environment() -> dict[str, str]:
    """Give the environment without this project's variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRUECOPY_")}


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
