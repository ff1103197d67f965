"""Exposition: what was counted, as text for the port, the textfile and the Pushgateway.

Apart from the counting, since most one-shot runs show nothing to anybody and prometheus_client is slow to import.
"""

import threading
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from job.core.metric_names import Family

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
