"""The HTTP port: `/metrics`, `/healthz`, `/readyz` and an index of them. It changes nothing (invariant 14).

Nothing of a request gets into an answer: not its path, query or headers, and not into waitress's own error pages
either. What clients can take from the work is bounded, whoever they are:

- A connection is one request and one answer, and it is closed after `_SECONDS`, whatever state it is in.
- All clients together have a number of places, and each address has a quarter of them. A new connection always gets
  one, and the oldest connection gives way: of the same address where that has its quarter, or of the address with the
  most. So a client that only holds places keeps nobody out.
- The loop rests after each turn, and a turn accepts one connection: a flood of requests is served at that pace.
"""

import errno
import ipaddress
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask, ThreadedTaskDispatcher  # type: ignore[import-untyped]

from job.core.outcome import reason_text
from job.errors import JobError
from job.events.text import clean
from job.system.resources import client_limit

Failed = Callable[[str, str], None]
Probe = Callable[[], tuple[bool, str]]
Render = Callable[[str], tuple[str, bytes]]
Answer = tuple[HTTPStatus, str, bytes]

_TEXT = "text/plain; charset=utf-8"
_INDEX = b"Truecopy\n\n/metrics  for Prometheus\n/healthz  is the loop alive\n/readyz   is it configured and started\n"
_SAFE_HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]

_SECONDS = 10.0
"""From the acceptance of a connection to its end, at most. A Prometheus asks and reads within milliseconds."""

_MOST_PLACES = 128
_PART_PER_CLIENT = 4

_MOST_PIECES = 32
"""A request of a real client comes in one or two pieces. Each piece of one that drips costs a turn of the loop."""

_REST_SECONDS = 0.005

_ANSWERING_THREADS = 2

_LIMITS = {
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
        logger.handlers = [logging.NullHandler()]
        listening = _listen(address, port)
        self._connections = {}
        # One more connection than there are places is open for a moment, beside the listening socket and a pipe.
        limits = _LIMITS | {"connection_limit": _places() + 4}
        dispatcher = ThreadedTaskDispatcher()
        try:
            self._server = create_server(
                self._serve, self._connections, _dispatcher=dispatcher, sockets=[listening], **limits
            )
            self._server.channel_class = _Channel
            dispatcher.set_thread_count(_ANSWERING_THREADS)
            self._stopping.clear()
            thread = threading.Thread(target=self._run, name="http", daemon=True)
            thread.start()
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread
            dispatcher.shutdown(timeout=_STOP_SECONDS)
            wasyncore.close_all(self._connections, ignore_all=True)
            listening.close()
            self._server = None
            raise _cannot_open(address, port, error) from error
        self._thread = thread
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
        channels = self._server.active_channels
        while not self._stopping.wait(_REST_SECONDS):
            try:
                # poll, because select cannot watch descriptors above 1023.
                wasyncore.loop(timeout=1.0, use_poll=True, map=self._connections, count=1)
                _close_overdue(list(channels.values()), time.monotonic())
            except Exception as error:  # noqa: BLE001 - the port goes on, and its thread never ends without a word
                self._report("the loop", error)

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
            self._report(environ["PATH_INFO"], error)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._broken.discard(environ["PATH_INFO"])
        return answer

    def _report(self, part: str, error: Exception) -> None:
        if part not in self._broken:
            self._broken.add(part)
            self._failed("http", f"{type(error).__name__}: {reason_text(error)}")


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


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """The only request of its connection: what follows it is not even read as one, and the answer says so."""

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        if not self.completed:
            return taken
        self.headers["CONNECTION"] = "close"
        return len(data)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. As it opens, others give way to it; it is closed when its request comes in too many pieces."""

    parser_class = _Request
    error_task_class = _QuietError
    _pieces = 0

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002
        super().__init__(server, sock, addr, adj, map=map)
        self.client = _client(addr[0])
        self.opened = time.monotonic()
        for other in _giving_way(list(server.active_channels.values()), self.client, _places()):
            other.handle_close()

    def handle_close(self) -> None:
        # Where the answering threads hang, for example in a disk, requests of the past must not pile up behind them.
        dispatcher = self.server.task_dispatcher
        with dispatcher.lock, suppress(ValueError):
            dispatcher.queue.remove(self)
        super().handle_close()

    def received(self, data: bytes) -> Any:
        taken = super().received(data)
        self._pieces += 1
        if self._pieces > _MOST_PIECES:
            self.will_close = True
        return taken


def _places() -> int:
    return min(_MOST_PLACES, client_limit())


def _client(address: str) -> str:
    """Name who an address belongs to: of IPv6, a client has a whole /64."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address) or ip.ipv4_mapped:
        return str(getattr(ip, "ipv4_mapped", ip))
    return str(ipaddress.ip_network((int(ip), 64), strict=False))


def _giving_way(channels: list[_Channel], newest: str, places: int) -> list[_Channel]:
    """Choose who is closed for the last of these, which are in the order they were opened; `newest` is its client."""
    counts = Counter(channel.client for channel in channels)
    if counts[newest] > max(1, places // _PART_PER_CLIENT):
        busiest = newest
    elif len(channels) > places:
        busiest = max(counts, key=counts.__getitem__)
    else:
        return []
    return [next(channel for channel in channels if channel.client == busiest)]


def _close_overdue(channels: list[_Channel], now: float) -> None:
    for channel in channels:
        if now - channel.opened > _SECONDS:
            channel.handle_close()


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
    except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, such as one with an empty part
        raise _cannot_open(address, port, error) from error


def _cannot_open(address: str, port: int, error: Exception) -> JobError:
    number = error.errno or 0 if isinstance(error, OSError) else 0
    # In the system's own words: `create_server` adds the address to them, as Python shows a tuple.
    why = os.strerror(number) if number > 0 and not isinstance(error, socket.gaierror) else reason_text(error)
    if isinstance(error, UnicodeError):
        why = "this is not the name of a host"
    return JobError(
        f"The metrics port cannot be opened at {address} port {port}: {why}", hint=_what_to_do(number, port, error)
    )


def _what_to_do(number: int, port: int, error: Exception) -> str:
    if number == errno.EADDRINUSE:
        return (
            f"To see which program listens there, run as root: ss -ltnp sport = :{port}. Then end that program, or set "
            "metrics.port (TRUECOPY_METRICS_PORT) to a free port, or metrics.enabled to false."
        )
    if number in {errno.EMFILE, errno.ENFILE} or isinstance(error, RuntimeError):
        return "Raise the limit of open files and of threads for the service."
    key = "port" if number == errno.EACCES else "address"
    name = f"metrics.{key} (TRUECOPY_METRICS_{key.upper()})"
    return f"Set {name} to one that this machine lets the service use, or metrics.enabled to false."
