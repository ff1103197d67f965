"""Render the metrics as text, and publish them after each cycle as a textfile and to a Pushgateway.

Publishing serves runs that no Prometheus scrapes. Its failures are reported and never fail a cycle. The metrics are
counted elsewhere (`outputs/metrics.py`), since prometheus_client is slow to import and most one-shot runs render
nothing.
"""

import base64
import errno
import io
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
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

from job.core.metric_names import LAST_SUCCESS, PREFIX, Family
from job.core.outcome import Result, reason_text
from job.events.service import CycleFinished, CycleResumed, CycleStalled, CycleStarted, Event, PairFinished
from job.events.text import clean
from job.fs.small_files import replace_file
from job.fs.trusted_path import open_trusted_parent

_MOST_ERROR_CHARACTERS = 200
"""Characters of an error that are told: an answer may say anything, at any length."""
_LAST_WORD_SECONDS = 0.3
_MOST_BYTES = 64 << 10
"""Of an answer, with all that comes before it. The status is all that is asked for."""

Failed = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Where metrics are published."""

    textfile: str | None = None
    """File for node-exporter's textfile collector."""
    pushgateway: str | None = None
    """URL of a Pushgateway."""
    job: str = "truecopy"
    """Grouping key `job`."""
    instance: str = ""
    """Grouping key `instance`; left out when empty."""
    username: str | None = None
    """User for basic authentication; none if not set."""
    password: str | None = None
    """Password for it."""
    withheld: str = ""
    """Why nothing is pushed; empty where it is."""


class Publisher:
    """Publishes `registry` whenever a cycle finished or hangs; call it with each event, after the metrics counted it.

    `timeout_seconds` bounds a whole push, name look-up included; it is short enough to stop within 5 seconds.
    """

    def __init__(self, registry: Collector, *, failed: Failed, timeout_seconds: float = 4.0) -> None:
        self._registry = registry
        self._failed = failed
        self._timeout_seconds = timeout_seconds
        self._targets = Targets()
        self._succeeded = False
        self._push: threading.Thread | None = None

    def configure(self, targets: Targets) -> None:
        """Publish there from the next cycle on."""
        self._targets = targets

    def __call__(self, event: Event) -> None:
        """Note which pairs succeed; publish when the cycle finished, or hangs, or hangs no more."""
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
        if path := self._targets.textfile:
            try:
                _replace(path, generate_latest(self._registry))
            except OSError as error:
                self._failed("textfile", f"{path} cannot be written: {reason_text(error)}")
        if self._targets.withheld:
            self._failed("pushgateway", self._targets.withheld)
        elif self._targets.pushgateway and (error_text := self._push_in_time(self._targets.pushgateway)):
            self._failed("pushgateway", error_text)

    def _push_in_time(self, gateway: str) -> str:
        # In a thread of its own because no socket time-out bounds a name look-up or an answer that drips.
        if self._push is not None and self._push.is_alive():
            return f"the last push to {_named(gateway)} still hangs, this one was left out"
        errors: list[str] = []
        line = _Cancellation()
        self._push = threading.Thread(target=self._send, args=(gateway, line, errors), name="pushgateway", daemon=True)
        self._push.start()
        self._push.join(self._timeout_seconds)
        if self._push.is_alive():
            line.cut()
            self._push.join(_LAST_WORD_SECONDS)
            return f"{_named(gateway)} gave no answer within {self._timeout_seconds:g} seconds"
        return "".join(errors)

    def _send(self, gateway: str, line: "_Cancellation", errors: list[str]) -> None:
        targets = self._targets
        # The gateway keeps the old value of what is left out, so a failed cycle does not erase the last success.
        registry = self._registry if self._succeeded else _Without(self._registry, PREFIX + LAST_SUCCESS)
        try:
            pushadd_to_gateway(
                gateway,
                targets.job,
                registry,
                grouping_key={"instance": targets.instance} if targets.instance else None,
                timeout=self._timeout_seconds,
                handler=_Handler(targets, line),
            )
        except Exception as error:  # noqa: BLE001 - whatever a URL or an answer breaks must not end the cycle
            errors.append(clean(f"{_named(gateway)} {_error_text(error)}")[:_MOST_ERROR_CHARACTERS])
        finally:
            line.close()


def _named(gateway: str) -> str:
    """Name a Pushgateway by its address, without a login that may be in it."""
    scheme, _, rest = gateway.rpartition("://")
    return f"the Pushgateway at {scheme or 'http'}://{rest.partition('/')[0].rpartition('@')[2]}"


def _error_text(error: Exception) -> str:
    """Say what came of a push, as the end of a sentence."""
    if isinstance(error, HTTPError):
        error.close()  # what else the gateway has to say is not read
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
    # Nothing of its text: it may show a part of the login.
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
"""From the narrow to the wide."""


class _Without(Collector):
    """A registry with one family left out."""

    def __init__(self, registry: Collector, name: str) -> None:
        self._registry = registry
        self._name = name

    def collect(self) -> Iterable[Metric]:
        return (family for family in self._registry.collect() if family.name != self._name)


class _Handler:
    """Sends one push, in the form prometheus_client asks for."""

    def __init__(self, targets: Targets, line: "_Cancellation") -> None:
        self._line = line
        self._headers = {}
        if targets.username is not None:
            pair = f"{targets.username}:{targets.password or ''}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")

    def __call__(
        self, url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        # The scheme is http or https: pushadd_to_gateway puts http in front of everything else.
        request = Request(url, data=data, headers={**dict(headers), **self._headers}, method=method)  # noqa: S310

        # By way of a proxy the password would be sent, over plain http, to another machine than the one allowed.
        direct = [ProxyHandler({})] if self._headers and request.type == "http" else []

        def send() -> None:
            opener = build_opener(_NoRedirects, _PlainHandler(self._line), _SecureHandler(self._line), *direct)
            with opener.open(request, timeout=timeout):
                pass  # the status says all; a body is not read

        return send


class _Cancellation:
    """What one request is sent by. Another thread may cut it at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: socket.socket | None = None
        self._cut = False

    def watch(self, connected: socket.socket) -> None:
        """Take note of a connection; one that comes after the line was cut is cut, too."""
        with self._lock:
            spare, self._spare = self._spare, connected.dup()
        if spare is not None:
            spare.close()
        if self._cut:
            self.cut()

    def cut(self) -> None:
        """End the connection: whoever waits for anything from it gets an error at once."""
        with self._lock:
            self._cut = True
            if self._spare is not None:
                with suppress(OSError):  # it has ended by itself
                    self._spare.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection when the request is over."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it would turn the push into a mere look and hand the password to another host."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return


class _PlainHandler(HTTPHandler):
    """Sends requests over http by a line."""

    def __init__(self, line: _Cancellation) -> None:
        super().__init__()
        self._line = line

    def http_open(self, req: Request) -> HTTPResponse:
        """Send a request. Raises `URLError`."""
        return self.do_open(partial(_new_connection, _Connection, self._line), req)


class _SecureHandler(HTTPSHandler):
    """Sends requests over https by a line."""

    def __init__(self, line: _Cancellation) -> None:
        super().__init__()
        self._line = line

    def https_open(self, req: Request) -> HTTPResponse:
        """Send a request. Raises `URLError`."""
        return self.do_open(partial(_new_connection, _SecureConnection, self._line), req)


class _Connection(HTTPConnection):
    """A connection that is watched from the moment it is made, and whose answer has a most."""

    line: _Cancellation

    def connect(self) -> None:
        super().connect()
        self.line.watch(self.sock)


class _SecureConnection(HTTPSConnection, _Connection):
    """The same over TLS; it is watched before the handshake begins."""


def _new_connection(kind: type[_Connection], line: _Cancellation, /, *arguments: Any, **options: Any) -> _Connection:
    made = kind(*arguments, **options)
    made.line, made.response_class = line, _Answer
    return made


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Limited(self.fp.detach()))


class _Limited(io.RawIOBase):
    """Reads no more than `_MOST_IDENTITY_BYTES`."""

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


def _replace(path: str, data: bytes) -> None:
    """Put a complete file in place, readable for node-exporter's user."""
    folder, name = open_trusted_parent(path)
    try:
        replace_file(folder, name, data, 0o644)
    finally:
        os.close(folder)


_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_FRESH_SECONDS = 1.0
"""How long an answer is given again, so that nobody makes the service render more often than this by asking."""


class Exposition(Collector):
    """Shows what `families` gives, which is asked anew every time; all of it may be used from any thread."""

    def __init__(
        self, families: Callable[[], Iterable[Family]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._families = families
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rendered: dict[bool, tuple[float, tuple[str, bytes]]] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        """Collects everything; what textfile and Pushgateway are made from."""
        self.registry.register(self)

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Give the content type and the text of all metrics, as OpenMetrics where the Accept header asks for it.

        Nothing of the header gets into the answer, which is at most `_FRESH_SECONDS` old.
        """
        open_metrics = "application/openmetrics-text" in accept
        with self._lock:
            moment, answer = self._rendered.get(open_metrics, (0.0, None))
            if answer is None or self._monotonic() - moment >= _FRESH_SECONDS:
                answer = self._render(open_metrics=open_metrics)
                self._rendered[open_metrics] = self._monotonic(), answer
            return answer

    def _render(self, *, open_metrics: bool) -> tuple[str, bytes]:
        if open_metrics:
            return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return _TEXT, generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Give every family in the library's form."""
        for series, labels, samples in self._families():
            kind = CounterMetricFamily if series.type == "counter" else GaugeMetricFamily
            family = kind(series.full_name, series.meaning, labels=labels)
            for values, number in samples:
                family.add_metric(values, number)
            yield family
