"""The HTTP port: `/metrics`, `/healthz`, `/readyz` and an index of them. It changes nothing (invariant 14).

No part of a request enters a response: not its path, query or headers, and not in waitress's error pages. A connection
has one request, and is closed after ten seconds in any state. The number of connections is limited, for each address to
a quarter of it; a new one replaces the oldest one, of its address if that is at its limit, else of the address with the
most. The loop pauses after each connection, which limits the rate of a flood.
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
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

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

_MOST_PLACES = 128
_PART_PER_CLIENT = 4

_REST_SECONDS = 0.005

_ANSWERING_THREADS = 2

_LIMITS = {
    "max_request_header_size": 8192,
    "max_request_body_size": 1024,
    # Never reached: new connections close older ones. Others are the listening socket, a pipe and a new connection.
    "connection_limit": _MOST_PLACES + 4,
    "log_socket_errors": False,
    "ident": None,
}

_STOP_SECONDS = 2.0


class Web:
    """Serves the port from its own threads, from `start` to `close`.

    `healthy` and `ready` return a state and a sentence; `render` returns content type and text of the metrics for an
    Accept header. All three are called from other threads. `failed` is called with "http" and the error if one of them
    raises, once until it works again. A connection lives for `seconds` at most; Prometheus needs milliseconds.
    """

    def __init__(self, *, render: Render, healthy: Probe, ready: Probe, failed: Failed, seconds: float = 10.0) -> None:
        self._failed = failed
        self._seconds = seconds
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
        """Listen and serve; return address and port. Raises `JobError` if they cannot be opened."""
        # Invalid requests must not fill the log; our own errors are reported through `failed`.
        logger = logging.getLogger("waitress")
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]
        listening = _listen(address, port)
        self._connections = {}
        dispatcher = ThreadedTaskDispatcher()
        try:
            self._server = create_server(
                self._serve, self._connections, _dispatcher=dispatcher, sockets=[listening], **_LIMITS
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
        """Stop serving, and close the port."""
        if self._server is None or self._thread is None:
            return
        # Close descriptors only when no thread can write to one: its number might belong to a copied file by then.
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
                overdue = time.monotonic() - self._seconds
                for channel in [each for each in channels.values() if each.opened < overdue]:
                    channel.handle_close()
            except Exception as error:  # noqa: BLE001 - the port goes on, and errors are reported
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
        except Exception as error:  # noqa: BLE001 - reported, but not shown to the client
            self._report(environ["PATH_INFO"], error)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._broken.discard(environ["PATH_INFO"])
        return answer

    def _report(self, part: str, error: Exception) -> None:
        if part not in self._broken:
            self._broken.add(part)
            self._failed("http", f"{type(error).__name__}: {reason_text(error)}")


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """The only request of its connection: later data is dropped, and the response closes the connection.

    Without the drop, waitress parses each of some hundred requests sent at once, which takes three times the CPU.
    """

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        if not self.completed:
            return taken
        self.headers["CONNECTION"] = "close"
        if self.error is not None:
            self.error.body = ""  # it quotes the request
        return len(data)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection, which closes older ones above the limit."""

    parser_class = _Request

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002
        super().__init__(server, sock, addr, adj, map=map)
        self.client = _client(addr[0])
        self.opened = time.monotonic()
        for other in _giving_way(list(server.active_channels.values()), self.client, min(_MOST_PLACES, client_limit())):
            other.handle_close()

    def handle_close(self) -> None:
        # If the answering threads hang, for example on a disk, closed requests must not pile up behind them.
        dispatcher = self.server.task_dispatcher
        with dispatcher.lock, suppress(ValueError):
            dispatcher.queue.remove(self)
        super().handle_close()


def _client(address: str) -> str:
    """Return the client of an address: the address itself, or the /64 of an IPv6 address."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address) or ip.ipv4_mapped:
        return str(getattr(ip, "ipv4_mapped", ip))
    return str(ipaddress.ip_network((int(ip), 64), strict=False))


def _giving_way(channels: list[_Channel], newest: str, places: int) -> list[_Channel]:
    """Choose connections, given in order of opening, to close for the last one; `newest` is its client."""
    counts = Counter(channel.client for channel in channels)
    if counts[newest] > max(1, places // _PART_PER_CLIENT):
        busiest = newest
    elif len(channels) > places:
        busiest = max(counts, key=counts.__getitem__)
    else:
        return []
    return [next(channel for channel in channels if channel.client == busiest)]


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
    # The text of the system: `create_server` adds the address as a Python tuple.
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
