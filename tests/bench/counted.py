"""Run the command line of Truecopy and count the Python calls of each function: `counted.py FILE MOUNTS ARGUMENT...`.

The counts do not depend on time or on other processes: the clocks of this process are fixed, an hour ahead, so that no
entry is too young for its times to be trusted; the watchdog does not tick; the mount table is that of the file MOUNTS.
Counted are the calls of the main thread and of the threads that work on pairs, from the start of the cycle on, without
the import system.
"""

import io
import json
import os
import sys
import threading
import time
from collections import Counter
from itertools import repeat
from types import CodeType, FrameType, SimpleNamespace
from typing import Any

AHEAD_NS = 3600 * 10**9
MOUNT_TABLE = "/proc/self/mountinfo"
PACKAGE = f"{os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))}{os.sep}"


class CallCounter:
    """Counts `call` events of the profiler, in one table a thread."""

    def __init__(self) -> None:
        self._tables: list[dict[CodeType, int]] = []
        self._names: dict[CodeType, str] = {}

    def start(self) -> None:
        """Count in this thread from now on, and in every work thread that it starts."""
        threading.setprofile(self._enter_thread)
        self._count_in_this_thread()

    def stop(self) -> None:
        """Stop counting in this thread."""
        sys.setprofile(None)
        threading.setprofile(None)

    def _enter_thread(self, frame: FrameType, event: str, argument: Any) -> None:
        del frame, event, argument
        from job.system.hang_diagnosis import WorkThread  # noqa: PLC0415  # imported by the command when it needs it

        sys.setprofile(None)
        if isinstance(threading.current_thread(), WorkThread):
            self._count_in_this_thread()

    def _count_in_this_thread(self) -> None:
        table: dict[CodeType, int] = {}
        self._tables.append(table)

        def count(frame: FrameType, event: str, argument: Any) -> None:
            del argument
            if event == "call":
                code = frame.f_code
                if code not in table:
                    table[code] = 0
                    self._names[code] = _name_of(frame)
                table[code] += 1

        sys.setprofile(count)

    def counts(self) -> Counter[str]:
        """Return the calls of each function, `file:qualified name`."""
        total: Counter[str] = Counter()
        for table in self._tables:
            for code, number in table.items():
                if not code.co_filename.startswith("<frozen importlib"):
                    total[self._names[code]] += number
        return total


def _name_of(frame: FrameType) -> str:
    code = frame.f_code
    if code.co_filename != "<string>":
        return f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_qualname}"
    # Generated for a dataclass or a named tuple, whose instance or class is the first argument.
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_varnames else None
    made = first if isinstance(first, type) else type(first)
    return f"{made.__module__}:{made.__qualname__}.{code.co_name}"


def fix_surroundings(mounts: str) -> None:
    """Fix the clocks, the watchdog and the mount table of this process."""
    real_ns = time.time_ns
    now_ns = real_ns() + AHEAD_NS
    # Not functions: the calls of the real clocks are no Python calls either.
    vars(time).update(
        time_ns=repeat(now_ns).__next__, time=repeat(now_ns / 1e9).__next__, monotonic=repeat(1.0).__next__
    )
    from job.engine.preflight import open_pair  # noqa: PLC0415  # after the clocks are fixed
    from job.fs import mounts as module  # noqa: PLC0415
    from job.outputs import liveness  # noqa: PLC0415

    with open(mounts, "rb") as file:
        table = file.read()  # the sandbox will not let this file be opened

    def opened(path: str, *more: Any, **options: Any) -> Any:
        return io.BytesIO(table) if path == MOUNT_TABLE else open(path, *more, **options)

    vars(module)["open"] = opened
    # Folders that are made later are younger than this.
    vars(open_pair)["time"] = SimpleNamespace(time_ns=real_ns)
    vars(liveness)["_TICK_SECONDS"] = 3600


def main(counts: str, mounts: str, *arguments: str) -> int:
    """Run a command line, write the counts from the start of its cycle on as JSON, and return the exit code."""
    fix_surroundings(mounts)
    from job.app.application import Application  # noqa: PLC0415  # after the clocks are fixed
    from job.cli.main import main as command_line  # noqa: PLC0415

    counter, cycle = CallCounter(), Application.cycle

    def counted_cycle(application: Application, *arguments: Any) -> Any:
        counter.start()
        return cycle(application, *arguments)

    Application.cycle = counted_cycle  # type: ignore[assignment, method-assign]
    code = command_line(arguments)
    counter.stop()
    with open(counts, "w", encoding="utf-8") as file:
        json.dump(counter.counts(), file)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
