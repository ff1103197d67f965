"""Run whole processes and say what they cost: time and CPU time in one kind of run, memory in another.

Memory is the peak of PSS (proportional set size) over a process and all below it, sampled every few milliseconds.
That disturbs what is sampled, so such runs are never timed. The kernel's own `ru_maxrss` is no use here: it starts
at the size of the process that forked, and it knows the largest process only, not the sum.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.errors import BenchError

SAMPLE_SECONDS = 0.004
SHOWN_BYTES = 2000
KIB = 1024

Command = Sequence[str]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took: wall time, and CPU time of the process and everything it waited for."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where processes run: their working directory, environment, and the file that gets what they print."""

    folder: Path
    environment: Mapping[str, str]
    output: Path


def cost_of(commands: Sequence[Command], around: Surroundings) -> Cost:
    """Run the commands one after the other and nothing beside them. Raises `BenchError` if one fails."""
    cpu_seconds = 0.0
    begin = time.perf_counter()
    for command in commands:
        with _started(command, around) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        cpu_seconds += usage.ru_utime + usage.ru_stime
        _must_succeed(process.returncode, command, around)
    return Cost(time.perf_counter() - begin, cpu_seconds)


def memory_of(commands: Sequence[Command], around: Surroundings) -> int:
    """Run the commands, watched; give the peak of their PSS in bytes, 0 if they were too quick to be seen.

    Raises `BenchError` if one fails.
    """
    peak = 0
    for command in commands:
        with _started(command, around) as process:
            while process.poll() is None:
                peak = max(peak, sum(_pss(pid) for pid in _family(process.pid)))
                time.sleep(SAMPLE_SECONDS)
        _must_succeed(process.returncode, command, around)
    return peak


@contextmanager
def _started(command: Command, around: Surroundings) -> Iterator[subprocess.Popen[bytes]]:
    with around.output.open("ab") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=around.folder,
            env=around.environment,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        # Interrupted: what was started must not go on writing into a scratch folder that is being removed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _must_succeed(returncode: int, command: Command, around: Surroundings) -> None:
    if returncode != 0:
        said = around.output.read_bytes()[-SHOWN_BYTES:].decode(errors="backslashreplace")
        raise BenchError(f"{' '.join(command)} ended with {returncode}; the end of what it printed:\n{said}")


def _family(pid: int) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        yield pid
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    waiting.extend(map(int, file.read().split()))


def _pss(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * KIB
    return 0
