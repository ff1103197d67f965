"""Runs of the command line that do not pay for the start of an interpreter, which is most of what a small run costs.

A server has imported the job and forks itself for each run. The child has the arguments, environment and standard
streams of its caller, and ends as an interpreter does. Runs that depend on the start are real starts: those under a
tracer or a limit, those with other variables for the interpreter, and those that a test starts itself.
"""

import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from job import cli
from job.cli.main import main
from tests import workers

ROOT = Path(__file__).resolve().parents[1]
_READ_AT_THE_START = ("PYTHON", "LD_", "LC_", "LANG", "FAKETIME")
_LARGEST_REQUEST = 1 << 17


def can_run(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Tell whether a run by the server is like this one."""
    return command[:2] == [sys.executable, "-m"] and command[2] in {"job", "tests.workers"} and _start(environ) == _OURS


def run(command: Sequence[str], environ: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[bytes]:
    """Run a command that `can_run` allows. Raises `subprocess.TimeoutExpired` once it was killed for its time."""
    caller, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out, err = os.pipe(), os.pipe()
    request = json.dumps([command[2:], dict(environ)]).encode()
    with caller:
        try:
            socket.send_fds(_server(os.getpid())[0], [request], [out[1], err[1], server.fileno()])
        finally:
            server.close()
            os.close(out[1])
            os.close(err[1])
        pid = int(caller.recv(32))
        outputs = {out[0]: b"", err[0]: b""}
        if not _read(outputs, time.monotonic() + timeout):
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout, *outputs.values())
        return subprocess.CompletedProcess(command, int(caller.recv(32)), *outputs.values())


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
    for module in pkgutil.iter_modules(cli.__path__, "job.cli."):
        importlib.import_module(module.name)
    # Workers that are fresh interpreters import the main module: the one that a real start has.
    sys.modules["__main__"] = importlib.import_module("job.__main__")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _LARGEST_REQUEST, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            # Waits for the child, as the caller cannot.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            *streams, reply = descriptors
            if (pid := os.fork()) == 0:
                return _become(json.loads(request), streams)
            os.closerange(0, reply)
            os.write(reply, b"%d" % pid)
            os.write(reply, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os._exit(0)
        for each in descriptors:
            os.close(each)


def _become(request: tuple[list[str], dict[str, str]], streams: Sequence[int]) -> list[str]:
    (module, *arguments), environ = request
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    if module == workers.__name__:
        workers.cut_finely()
    sys.argv[:] = [str(ROOT / "job" / "__main__.py"), *arguments]
    return arguments


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(main())
