"""Publishing: the metrics after every cycle as a textfile and to a Pushgateway, for runs that nobody scrapes.

A listener that comes after `Metrics`. What fails here is told and never fails a cycle.
"""

import base64
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from prometheus_client import generate_latest, pushadd_to_gateway
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from job.core.events import CycleFinished, CycleResumed, CycleStalled, CycleStarted, Event, PairFinished
from job.core.outcome import Result, reason_text
from job.core.series import LAST_SUCCESS, PREFIX
from job.files.atomic import replace_file
from job.files.trusted_path import open_trusted_parent

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
            return "the last push still hangs, this one was left out"
        errors: list[str] = []
        self._push = threading.Thread(target=self._send, args=(gateway, errors), name="pushgateway", daemon=True)
        self._push.start()
        self._push.join(self._timeout_seconds)
        if self._push.is_alive():
            return f"no answer within {self._timeout_seconds:g} seconds"
        return "".join(errors)

    def _send(self, gateway: str, errors: list[str]) -> None:
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
                handler=_Handler(targets),
            )
        except URLError as error:
            inner = error.reason if type(error) is URLError else None
            errors.append(reason_text(inner) if isinstance(inner, OSError) else str(inner or error))
        except Exception as error:  # noqa: BLE001 - whatever a URL or an answer breaks must not end the cycle
            errors.append(f"{type(error).__name__}: {reason_text(error)}")


class _Without(Collector):
    """A registry with one family left out."""

    def __init__(self, registry: Collector, name: str) -> None:
        self._registry = registry
        self._name = name

    def collect(self) -> Iterable[Metric]:
        return (family for family in self._registry.collect() if family.name != self._name)


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: it would turn the push into a mere look and hand the password to another host."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class _Handler:
    """Sends one push, in the form prometheus_client asks for."""

    def __init__(self, targets: Targets) -> None:
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
            with build_opener(_Stay, *direct).open(request, timeout=timeout):
                pass

        return send


def _replace(path: str, data: bytes) -> None:
    """Put a complete file in place, readable for node-exporter's user."""
    folder, name = open_trusted_parent(path)
    try:
        replace_file(folder, name, data, 0o644)
    finally:
        os.close(folder)
