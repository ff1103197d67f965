"""Render the metrics as text, and publish them after each cycle as a textfile and to a Pushgateway.

Publishing serves runs that no Prometheus scrapes. Its failures are reported and never fail a cycle. Metrics are counted
in `outputs/metrics.py`, since prometheus_client is slow to import and most one-shot runs render nothing.
"""

import base64
import errno
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL, RemoteDisconnected
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from prometheus_client import CollectorRegistry, generate_latest, pushadd_to_gateway
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from job.config.settings import MetricsSettings
from job.core.metric_names import LAST_SUCCESS, PREFIX, Family
from job.core.outcome import Result, reason_text
from job.events.base import Event
from job.events.pair import CycleResumed, CycleStalled, PairFinished
from job.events.service import CycleFinished, CycleStarted
from job.events.text import clean
from job.fs.dircursor import closing_fd
from job.fs.own_files import replace_file
from job.fs.trusted_path import open_trusted_parent

_MOST_ERROR_CHARACTERS = 200
"""Reported characters of an error: a response may have any text of any length."""
_LAST_WORD_SECONDS = 0.3
_MOST_BYTES = 64 << 10
"""Limit of a response with its headers; only the status is used."""

Failed = Callable[[str, str], None]


class Publisher:
    """Publishes `registry` as `wanted` when a cycle finishes or stalls; call it with each event after `Metrics`.

    `timeout_seconds` limits a whole push with its name resolution, short enough to stop within 5 seconds.
    """

    def __init__(
        self, registry: Collector, wanted: MetricsSettings, *, failed: Failed, timeout_seconds: float = 4.0
    ) -> None:
        self._registry = registry
        self._wanted = wanted
        self._failed = failed
        self._timeout_seconds = timeout_seconds
        self._succeeded = False
        self._push: threading.Thread | None = None

    def configure(self, wanted: MetricsSettings) -> None:
        """Publish by these settings from the next cycle on."""
        self._wanted = wanted

    def __call__(self, event: Event) -> None:
        """Record successes; publish when a cycle finishes, stalls or resumes."""
        match event:
            case CycleStarted():
                self._succeeded = False
            case PairFinished(result=Result.SUCCESS):
                self._succeeded = True
            case CycleFinished() | CycleStalled() | CycleResumed():
                self._publish()
            case _:
                pass

    def _publish(self) -> None:
        if path := self._wanted.textfile:
            try:
                folder, name = open_trusted_parent(path)
                with closing_fd(folder):
                    replace_file(folder, name, generate_latest(self._registry), 0o644)  # node-exporter's user reads it
            except OSError as error:
                self._failed("textfile", f"{path} cannot be written: {reason_text(error)}")
        if self._wanted.pushgateway_withheld:
            self._failed("pushgateway", self._wanted.pushgateway_withheld)
        elif self._wanted.pushgateway and (error_text := self._push_in_time(self._wanted.pushgateway)):
            self._failed("pushgateway", error_text)

    def _push_in_time(self, gateway: str) -> str:
        # In a separate thread: no socket timeout limits name resolution or a slow response.
        if self._push is not None and self._push.is_alive():
            return f"the last push to {_named(gateway)} still hangs, this one was left out"
        errors: list[str] = []
        cancellation = _Cancellation()
        self._push = threading.Thread(
            target=self._send, args=(gateway, cancellation, errors), name="pushgateway", daemon=True
        )
        self._push.start()
        self._push.join(self._timeout_seconds)
        if self._push.is_alive():
            cancellation.cut()
            self._push.join(_LAST_WORD_SECONDS)
            return f"{_named(gateway)} gave no answer within {self._timeout_seconds:g} seconds"
        return "".join(errors)

    def _send(self, gateway: str, cancellation: "_Cancellation", errors: list[str]) -> None:
        wanted = self._wanted
        # The gateway keeps the old value of a missing series, so a failed cycle does not erase the last success.
        registry = self._registry if self._succeeded else _Without(self._registry, PREFIX + LAST_SUCCESS)
        try:
            pushadd_to_gateway(
                gateway,
                wanted.pushgateway_job,
                registry,
                grouping_key={"instance": wanted.pushgateway_instance} if wanted.pushgateway_instance else None,
                timeout=self._timeout_seconds,
                handler=_Handler(wanted, cancellation),
            )
        except Exception as error:  # noqa: BLE001 - no URL or response may end the cycle
            errors.append(clean(f"{_named(gateway)} {_error_text(error)}")[:_MOST_ERROR_CHARACTERS])
        finally:
            cancellation.close()


def _named(gateway: str) -> str:
    """Return the address of a Pushgateway without its login."""
    scheme, _, rest = gateway.rpartition("://")
    return f"the Pushgateway at {scheme or 'http'}://{rest.partition('/')[0].rpartition('@')[2]}"


def _error_text(error: Exception) -> str:
    """Describe the error of a push, as the end of a sentence."""
    if isinstance(error, HTTPError):
        error.close()  # the body is not read
        return f"answered with the status {error.code} {error.reason}".rstrip()
    if isinstance(error, URLError):
        return (
            _error_text(error.reason) if isinstance(error.reason, Exception) else f"cannot be reached: {error.reason}"
        )
    for kind, words in _IN_WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError) and error.errno == errno.EMSGSIZE:
        return f"gave no usable answer: {error.strerror}"
    if isinstance(error, OSError):
        return f"cannot be reached: {reason_text(error)}"
    if isinstance(error, HTTPException):
        return "answered with what is no HTTP"
    # Without its text, which may have a part of the login.
    return f"cannot be used: the push ended with {type(error).__name__}"


_IN_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (RemoteDisconnected, "closed the connection without an answer"),
    (ConnectionRefusedError, "refused the connection"),
    (ConnectionError, "broke the connection"),
    (socket.gaierror, "is not known by this name"),
    (ssl.SSLCertVerificationError, "has a certificate that is not trusted here"),
    (ssl.SSLError, "does not speak TLS that can be used here"),
    (TimeoutError, "did not answer in time"),
    (InvalidURL, "has an address that cannot be used"),
)
"""Subclasses before their base classes."""


class _Without(Collector):
    """A registry without one family."""

    def __init__(self, registry: Collector, name: str) -> None:
        self._registry = registry
        self._name = name

    def collect(self) -> Iterable[Metric]:
        return (family for family in self._registry.collect() if family.name != self._name)


class _Handler:
    """Sends one push; a handler of prometheus_client."""

    def __init__(self, wanted: MetricsSettings, cancellation: "_Cancellation") -> None:
        self._cancellation = cancellation
        self._headers = {}
        if wanted.pushgateway_username is not None:
            pair = f"{wanted.pushgateway_username}:{wanted.pushgateway_password or ''}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")

    def __call__(
        self, url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        # The scheme is http or https: pushadd_to_gateway puts http in front of everything else.
        request = Request(url, data=data, headers={**dict(headers), **self._headers}, method=method)  # noqa: S310

        # A proxy would receive the password over plain http; only the gateway may.
        direct = [ProxyHandler({})] if self._headers and request.type == "http" else []

        def send() -> None:
            opener = build_opener(_NoRedirects, _CancellableHandler(self._cancellation), *direct)
            with opener.open(request, timeout=timeout):
                pass  # only the status matters

        return send


class _Cancellation:
    """Lets another thread end the connection of one request at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: socket.socket | None = None
        self._cut = False

    def watch(self, connected: socket.socket) -> None:
        """Register a connection; it is ended at once if `cut` was called before."""
        with self._lock:
            spare, self._spare = self._spare, connected.dup()
        if spare is not None:
            spare.close()
        if self._cut:
            self.cut()

    def cut(self) -> None:
        """End the connection: a thread waiting for it gets an error at once."""
        with self._lock:
            self._cut = True
            if self._spare is not None:
                with suppress(OSError):  # already ended
                    self._spare.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the connection after the request."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it would change the push into a GET and send the password to another host."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return


class _CancellableHandler(HTTPSHandler, HTTPHandler):
    """Sends requests over http and https, each with cancellation."""

    def __init__(self, cancellation: _Cancellation) -> None:
        super().__init__()
        self._cancellation = cancellation

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_new_connection, _Connection, self._cancellation), req)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_new_connection, _SecureConnection, self._cancellation), req)


class _Connection(HTTPConnection):
    """A connection registered for cancellation when it opens, with a limited response."""

    cancellation: _Cancellation

    def connect(self) -> None:
        super().connect()
        self.cancellation.watch(self.sock)


class _SecureConnection(HTTPSConnection, _Connection):
    """The same over TLS; registered before the handshake."""


def _new_connection(
    kind: type[_Connection], cancellation: _Cancellation, /, *arguments: Any, **options: Any
) -> _Connection:
    made = kind(*arguments, **options)
    made.cancellation, made.response_class = cancellation, _Answer
    return made


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Limited(self.fp.detach()))


class _Limited(io.RawIOBase):
    """Reads at most `_MOST_BYTES`."""

    def __init__(self, inner: io.RawIOBase) -> None:
        self._inner = inner
        self._left = _MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        count = self._inner.readinto(into)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(errno.EMSGSIZE, f"the answer is longer than {_MOST_BYTES} bytes")
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_FRESH_SECONDS = 1.0
"""Lifetime of a rendered response: frequent requests do not render more often."""


class Exposition(Collector):
    """Renders the current result of `families`. Thread-safe."""

    def __init__(
        self, families: Callable[[], Iterable[Family]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._families = families
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rendered: dict[bool, tuple[float, tuple[str, bytes]]] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        """Collects all families, for textfile and Pushgateway."""
        self.registry.register(self)

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and text of all metrics, as OpenMetrics if the Accept header requests it.

        No part of the header enters the response, which is at most `_FRESH_SECONDS` old.
        """
        open_metrics = "application/openmetrics-text" in accept
        with self._lock:
            moment, answer = self._rendered.get(open_metrics, (0.0, None))
            if answer is None or self._monotonic() - moment >= _FRESH_SECONDS:
                if open_metrics:
                    text = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
                    answer = openmetrics.CONTENT_TYPE_LATEST, text
                else:
                    answer = _TEXT, generate_latest(self.registry)
                self._rendered[open_metrics] = self._monotonic(), answer
            return answer

    def collect(self) -> Iterable[Metric]:
        """Yield every family in the library's form."""
        for series, labels, samples in self._families():
            kind = CounterMetricFamily if series.type == "counter" else GaugeMetricFamily
            family = kind(series.full_name, series.meaning, labels=labels)
            for values, number in samples:
                family.add_metric(values, number)
            yield family
