"""The HTTP port: `/metrics`, `/healthz`, `/readyz` and an index of them. It changes nothing (invariant 14).

Waitress reads slow clients in one thread, so they hold a descriptor and never a worker. Nothing of a request gets into
an answer: not its path, query or headers, and not into waitress's own error pages either.
"""

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from job.core.outcome import reason_text
from job.core.wording import clean
from job.errors import JobError

Failed = Callable[[str, str], None]
Probe = Callable[[], tuple[bool, str]]
Render = Callable[[str], tuple[str, bytes]]
Answer = tuple[HTTPStatus, str, bytes]

_TEXT = "text/plain; charset=utf-8"
_INDEX = b"Truecopy\n\n/metrics  for Prometheus\n/healthz  is the loop alive\n/readyz   is it configured and started\n"
_SAFE_HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]

# A request of a real client comes in one or two pieces. One that drips would reset the idle time-out with every byte.
_MOST_PIECES = 32

_LIMITS = {
    "threads": 3,
    "connection_limit": 300,
    "channel_timeout": 10,
    "cleanup_interval": 2,
    "max_request_header_size": 8192,
    "max_request_body_size": 1024,
    "expose_tracebacks": False,
    "log_socket_errors": False,
    "ident": None,
}

_STOP_SECONDS = 2.0


class Web:
    """Serves the port from threads of its own, from `start` to `close`.

    `healthy` and `ready` give whether all is well and a sentence; `render` gives content type and text of the metrics
    for an Accept header. All three are called from other threads. `failed` is called with "http" and the error when
    one of them breaks, once until it works again.
    """

    def __init__(self, *, render: Render, healthy: Probe, ready: Probe, failed: Failed) -> None:
        self._failed = failed
        self._broken: set[str] = set()
        self._pages: dict[str, Callable[[WSGIEnvironment], Answer]] = {
            "/": lambda _: (HTTPStatus.OK, _TEXT, _INDEX),
            "/metrics": lambda environ: (HTTPStatus.OK, *render(environ.get("HTTP_ACCEPT", ""))),
            "/healthz": lambda _: _probed(healthy),
            "/readyz": lambda _: _probed(ready),
        }
        self._server: Any = None
        self._connections: dict[int, Any] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen and serve; give the address and port taken. Raises `JobError` where that cannot be had."""
        # Whoever sends garbage must not be able to fill the log; what breaks on our side is told through `failed`.
        logger = logging.getLogger("waitress")
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        self._connections = {}
        self._server = create_server(self._serve, self._connections, sockets=[_listen(address, port)], **_LIMITS)
        self._server.channel_class = _Channel
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()
        return self._server.effective_host, int(self._server.effective_port)

    def close(self) -> None:
        """Stop serving; give the port back."""
        if self._server is None or self._thread is None:
            return
        # Descriptors are closed when no thread is left that could write to one: its number might by then belong to a
        # file being copied.
        self._server.task_dispatcher.shutdown(timeout=_STOP_SECONDS)
        self._stopping.set()
        self._server.pull_trigger()
        self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive() and not self._server.task_dispatcher.threads:
            wasyncore.close_all(self._connections, ignore_all=True)
        self._server = self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            # poll, because select cannot watch descriptors above 1023.
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._connections, count=1)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, kind, body = self._answer(environ)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *_SAFE_HEADERS]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        page = self._pages.get(environ["PATH_INFO"])
        if page is None:
            return _plain(HTTPStatus.NOT_FOUND)
        try:
            answer = page(environ)
        except Exception as error:  # noqa: BLE001 - whatever breaks here must be told, not shown to the client
            if environ["PATH_INFO"] not in self._broken:
                self._broken.add(environ["PATH_INFO"])
                self._failed("http", f"{type(error).__name__}: {reason_text(error)}")
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._broken.discard(environ["PATH_INFO"])
        return answer


class _QuietError(ErrorTask):  # type: ignore[misc]
    """Answers a request that is no HTTP by its status alone."""

    def execute(self) -> None:
        error = self.request.error
        body = f"{error.code} {error.reason}\n".encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend([("Content-Type", _TEXT), *_SAFE_HEADERS])
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that is closed when its request comes in too many pieces."""

    error_task_class = _QuietError
    _pieces = 0

    def received(self, data: bytes) -> Any:
        taken = super().received(data)
        self._pieces = 0 if self.request is None else self._pieces + 1
        if self._pieces > _MOST_PIECES:
            self.will_close = True
        return taken


def _plain(status: HTTPStatus) -> Answer:
    return status, _TEXT, f"{status.value} {status.phrase}\n".encode()


def _probed(probe: Probe) -> Answer:
    well, words = probe()
    return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{clean(words)}\n".encode()


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and address == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(place[:2], family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        why = reason_text(error)
        key = "port" if error.errno in {errno.EADDRINUSE, errno.EACCES} else "address"
        message = f"The metrics port cannot be opened at {address} port {port}: {why}"
        hint = f"Set metrics.{key} (TRUECOPY_METRICS_{key.upper()}) to one that is free, or metrics.enabled to false."
        raise JobError(message, hint=hint) from error
