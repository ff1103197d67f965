"""A limit on the memory of a command and all its processes, kept by the kernel: it kills what needs more."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_FIRST = Path("/sys/fs/cgroup/memory")
_FILES = {"limit": ("memory.limit_in_bytes", "memory.max"), "peak": ("memory.max_usage_in_bytes", "memory.peak")}
_PATIENCE = 20.0


class Group:
    """A control group for memory."""

    def __init__(self, folder: Path, version: int) -> None:
        self._folder = folder
        self._version = version

    def _file(self, name: str) -> Path:
        return self._folder / _FILES[name][self._version - 1]

    def limit(self, count: int) -> None:
        """Allow so many bytes, the page cache among them, and no swap."""
        self._file("limit").write_text(f"{count}\n")
        for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
            with suppress(OSError):  # where swap is not counted there is none to be used
                (self._folder / name).write_text(f"{count if self._version == 1 else 0}\n")

    def enter(self) -> Callable[[], None]:
        """Give what a new process has to call to be in it."""
        path = str(self._folder / "cgroup.procs")

        def join() -> None:
            descriptor = os.open(path, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)

        return join

    @property
    def kills(self) -> int:
        """How many processes the kernel killed in it."""
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        words = [line.split() for line in (self._folder / name).read_text().splitlines()]
        return next((int(word[1]) for word in words if word[0] == "oom_kill"), 0)

    def close(self) -> None:
        """Let what is left in it die, and remove it."""
        deadline = time.monotonic() + _PATIENCE
        while self._folder.exists():
            for pid in (self._folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            with suppress(OSError):
                self._folder.rmdir()
            assert time.monotonic() < deadline, self._folder
            time.sleep(0.01)


@contextmanager
def memory_group() -> Iterator[Group]:
    """Give a group of our own; skips, with the reason, where the system gives none."""
    name = f"truecopy-test-{uuid.uuid4().hex[:8]}"
    found = _made(_FIRST / name, 1) or _made(Path("/sys/fs/cgroup") / name, 2)
    if found is None:
        pytest.skip("no control group for memory can be made here")
    try:
        yield found
    finally:
        found.close()


def _made(folder: Path, version: int) -> Group | None:
    try:
        folder.mkdir()
    except OSError:
        return None
    group = Group(folder, version)
    if (folder / _FILES["limit"][version - 1]).exists():
        return group
    folder.rmdir()
    return None
