"""The text of the metrics is made at most once a second, however often and by however many it is asked for."""

import threading
import time

from job.core.metric_names import Family
from job.outputs.prometheus import Exposition


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_metrics_are_rendered_once_a_second_in_each_form_whatever_is_asked_for() -> None:
    clock, built = Clock(), []

    def families() -> list[Family]:
        built.append(clock.now)
        return []

    exposition = Exposition(families, monotonic=clock)
    accepts = ["", "text/plain", "*/*", "evil", "application/openmetrics-text", "application/openmetrics-text;evil"]
    for _ in range(20):
        for accept in accepts:
            exposition.render(accept)
        clock.now += 0.04
    assert built == [100.0, 100.0]

    clock.now = 101.0
    exposition.render()
    assert built == [100.0, 100.0, 101.0]


def test_many_who_ask_at_once_wait_for_one_rendering() -> None:
    built = []

    def families() -> list[Family]:
        built.append(1)
        time.sleep(0.1)
        return []

    exposition = Exposition(families)
    threads = [threading.Thread(target=exposition.render) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert built == [1]
