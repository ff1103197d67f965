"""Runs of the command line that do not pay for the start of an interpreter, which is most of what a small run costs.

A server has imported the job and forks itself for each run. The child has the arguments, environment and standard
streams of its caller, and ends as an interpreter does. A tracer is attached before the child begins, and privileges are
dropped. Runs that depend on the start are real starts: those of another user or with a limit, those with other
variables for the interpreter, and those that a test starts itself.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Self

import job
from job.cli.main import main
from job.config import describe
from tests import workers
from tests.faults import crowded

ROOT = Path(__file__).resolve().parents[1]
_READ_AT_THE_START = ("PYTHON", "LD_", "LC_", "LANG", "FAKETIME")
_LARGEST_REQUEST = 1 << 17
UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
"""Takes every capability from a command of root."""
_DROP_FROM_BOUNDING_SET, _CAPABILITIES_3 = 24, 0x20080522
_PREPARED: dict[str, Callable[[], None]] = {
    "job": lambda: None,
    "tests.workers": workers.cut_finely,
    "tests.faults.crowded": crowded.prepare,
}
"""Programs, and what makes a run of the command line the same."""


class Process:
    """A run of the server, for its caller; used like a `subprocess.Popen`."""

    def __init__(self, command: Sequence[str], reply: socket.socket, tracer: Sequence[str]) -> None:
        self.returncode: int | None = None
        self._command = command
        self._reply = reply
        self.pid = int(reply.recv(32))
        self._tracer = _attached(tracer, self.pid) if tracer else None
        reply.send(b"begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and for that of its tracer."""
        if self.returncode is None:
            self._reply.settimeout(timeout)
            try:
                with suppress(ConnectionResetError):  # killed before it had begun: told once, before the exit code
                    self.returncode = int(self._reply.recv(32))
                if self.returncode is None:
                    self.returncode = int(self._reply.recv(32))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self._command, timeout or 0) from None
            self._reply.close()
            if self._tracer:
                with self._tracer:
                    self._tracer.wait()
        return self.returncode

    def poll(self) -> int | None:
        """Give the exit code if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _attached(tracer: Sequence[str], pid: int) -> "subprocess.Popen[bytes]":
    """Attach a tracer to a process and all that it starts."""
    command = [word for word in tracer if word != "-qq"]
    process = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE)
    assert process.stderr
    said = process.stderr.readline()
    assert said.endswith(b" attached\n"), said
    return process


def can_run(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Tell whether a run by the server is like this one."""
    tracer, program = _parted(command)
    # A user other than root may not be allowed to trace what is no child of the tracer.
    if tracer and ((tracer[0] != "strace" and tuple(tracer) != UNPRIVILEGED) or os.geteuid() != 0):
        return False
    return program[1:2] == ["-m"] and program[2] in _PREPARED and _start(environ) == _OURS


def _parted(command: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Part a command into what stands before the interpreter and the rest."""
    place = command.index(sys.executable) if sys.executable in command else len(command)
    return command[:place], command[place:]


def start(
    command: Sequence[str], environ: Mapping[str, str], outputs: tuple[int, int], *, group: bool = False
) -> Process:
    """Start a command that `can_run` allows, with these descriptors for its output and errors."""
    tracer, program = _parted(command)
    caller, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server:
        request = json.dumps([program[2:], dict(environ), group, tuple(tracer) == UNPRIVILEGED]).encode()
        socket.send_fds(_server(os.getpid())[0], [request], [*outputs, server.fileno()])
    return Process(command, caller, () if tuple(tracer) == UNPRIVILEGED else tracer)


def run(command: Sequence[str], environ: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[bytes]:
    """Run a command that `can_run` allows. Raises `subprocess.TimeoutExpired` once it was killed for its time."""
    out, err = os.pipe(), os.pipe()
    try:
        process = start(command, environ, (out[1], err[1]))
    finally:
        os.close(out[1])
        os.close(err[1])
    with process:
        outputs = {out[0]: b"", err[0]: b""}
        if not _read(outputs, time.monotonic() + timeout):
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout, *outputs.values())
        return subprocess.CompletedProcess(command, process.wait(), *outputs.values())


def _read(outputs: dict[int, bytes], deadline: float) -> bool:
    """Read these descriptors to their ends; False if that does not happen in time."""
    with selectors.DefaultSelector() as selector:
        for each in outputs:
            selector.register(each, selectors.EVENT_READ)
        try:
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    chunk = os.read(key.fd, 1 << 16)
                    outputs[key.fd] += chunk
                    if not chunk:
                        selector.unregister(key.fd)
            return not selector.get_map()
        finally:
            for each in outputs:
                os.close(each)


def _start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_AT_THE_START)}


_OURS = _start(os.environ)


@cache
def _server(_: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the server of this process; it ends when the other end of its socket is closed."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", __name__, str(its.fileno())]
    with its:
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, pass_fds=(its.fileno(),))
    return ours, server


# The server -----------------------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> list[str]:
    """Return in the child of each request, with the arguments of `truecopy`. Ends with the caller."""
    _load_everything()
    runs: dict[int, tuple[int, int]] = {}
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd in runs:
                selector.unregister(key.fd)
                _tell_end(key.fd, *runs.pop(key.fd))
                continue
            request, descriptors, _, _ = socket.recv_fds(requests, _LARGEST_REQUEST, 3)
            if not request:
                os._exit(0)
            if (pid := os.fork()) == 0:
                selector.close()
                return _become(request, descriptors)
            runs[end := os.pidfd_open(pid)] = pid, _began(pid, request, descriptors)
            selector.register(end, selectors.EVENT_READ)


def _load_everything() -> None:
    """Import what a command loads only when it needs it; otherwise each run would load it again."""
    for module in pkgutil.walk_packages(job.__path__, "job."):
        if module.name != "job.__main__":
            importlib.import_module(module.name)
    for name in ("blake3", "logging.handlers", "pythonjsonlogger.json"):
        importlib.import_module(name)
    describe.all_keys()
    # Nothing is frozen: a run asks how much is, and counts it for that.
    gc.collect()
    # Workers that are fresh interpreters import the main module: the one that a real start has.
    sys.modules["__main__"] = importlib.import_module("job.__main__")


def _began(pid: int, request: bytes, descriptors: Sequence[int]) -> int:
    """Tell the caller of a child that waits for it; give the descriptor by which it is told of the end."""
    *streams, reply = descriptors
    for each in streams:
        os.close(each)
    if json.loads(request)[2]:  # in a process group of its own
        os.setpgid(pid, pid)
    _tell(reply, pid)
    return reply


def _tell(reply: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the caller is gone
        os.write(reply, b"%d" % number)


def _tell_end(end: int, pid: int, reply: int) -> None:
    """Take the exit code of a run, which the caller cannot, as it is not its parent, and tell it."""
    _tell(reply, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.close(end)
    os.close(reply)


def _drop_privileges() -> None:
    """Do what `setpriv` does before it starts a command, and what root's start of one does then."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        assert libc.prctl(_DROP_FROM_BOUNDING_SET, number, 0, 0, 0) == 0, ctypes.get_errno()
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capset(header, none) == 0, ctypes.get_errno()


def _become(request: bytes, descriptors: Sequence[int]) -> list[str]:
    """Be the run of a request, as soon as its caller knows of it, and perhaps traces it; return its arguments."""
    *streams, reply = descriptors
    command: list[str]
    command, environ, _, unprivileged = json.loads(request)
    if not os.read(reply, 8):
        os._exit(1)  # the caller is gone
    if unprivileged:
        _drop_privileges()
    module, *arguments = command
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    _PREPARED[module]()
    sys.argv[:] = [str(ROOT / "job" / "__main__.py"), *arguments]
    return arguments


def _end(code: int) -> None:
    """End as an interpreter does, but without freeing all modules, which is a third of what a run costs."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError, AttributeError):  # closed by the run, or by its reader
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    _end(main())
