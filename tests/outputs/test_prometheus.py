"""Publishing: a whole textfile, pushes that never erase the last success, failures that are only told."""

import base64
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from job.config.settings import MetricsSettings
from job.core.counts import PairHistory, Tally
from job.core.outcome import Result
from job.events.base import Event
from job.events.pair import CycleStalled, PairFinished
from job.events.service import CycleFinished, CycleStarted
from job.outputs.metrics import Metrics
from job.outputs.prometheus import Exposition, Publisher
from job.store.history import History
from tests.outputs.publishing import targets

SUCCESS = "truecopy_last_success_timestamp_seconds"
ATTEMPT = "truecopy_last_attempt_timestamp_seconds"


class NoMemory:
    """A history that keeps nothing."""

    def read(self) -> PairHistory:
        return PairHistory()

    def add(self, finished: PairFinished, deltas: object, cycle_details: object = None) -> bool:  # noqa: ARG002
        return False

    def count(self, deltas: object) -> bool:  # noqa: ARG002
        return False


class Gateway:
    """A small HTTP server that answers like a Pushgateway and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        self.answer = 202
        self.release = threading.Event()
        self.release.set()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway.requests.append((self.command, self.path, dict(self.headers), body))
                gateway.release.wait(30)
                self.send_response(gateway.answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the names are the library's

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(30)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.close()


class Job:
    """Metrics and publisher, wired as the app does."""

    def __init__(self, wanted: MetricsSettings, *, timeout_seconds: float = 10.0) -> None:
        self.failures: list[tuple[str, str]] = []
        self.metrics = Metrics(history=lambda _: cast("History", NoMemory()), version="1", python="3")
        self.metrics.configure(pairs=["music", "photos"], interval_seconds=30, run_enabled=True)
        self.publisher = Publisher(
            Exposition(self.metrics.families).registry,
            wanted,
            failed=lambda output, error: self.failures.append((output, error)),
            timeout_seconds=timeout_seconds,
        )

    def cycle(self, music: Result, photos: Result = Result.FAILED, *, at: float = 1000.0) -> None:
        events: list[Event] = [CycleStarted(cycle_id="c", pairs=("music", "photos"))]
        for pair, result in (("music", music), ("photos", photos)):
            events.append(
                PairFinished(
                    cycle_id="c",
                    pair=pair,
                    result=result,
                    tally=Tally(),
                    duration_seconds=1.0,
                    finished_timestamp_seconds=at,
                )
            )
        events.append(CycleFinished(cycle_id="c", result=Result.FAILED, tally=Tally(), duration_seconds=1.0))
        for event in events:
            self.metrics(event)
            self.publisher(event)


def values(text: str, name: str) -> dict[str, float]:
    return {
        sample.labels["pair"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_the_textfile_is_whole_and_readable_for_others(tmp_path: Path) -> None:
    path = tmp_path / "truecopy.prom"
    path.write_text("old")
    job = Job(targets(textfile=str(path)))
    before = os.umask(0o077)

    job.cycle(Result.SUCCESS)

    os.umask(before)
    assert values(path.read_text(), SUCCESS) == {"music": 1000, "photos": 0}
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["truecopy.prom"]
    assert job.failures == []


def test_a_link_at_the_textfile_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "truecopy.prom"
    victim.write_text("precious")
    path.symlink_to(victim)

    Job(targets(textfile=str(path))).cycle(Result.SUCCESS)

    assert victim.read_text() == "precious"
    assert not path.is_symlink()


def test_a_textfile_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path, gateway: Gateway) -> None:
    in_the_way = tmp_path / "truecopy.prom"
    in_the_way.mkdir()
    job = Job(targets(textfile=str(in_the_way), pushgateway=gateway.url))

    job.cycle(Result.SUCCESS)

    assert [output for output, _ in job.failures] == ["textfile"]
    assert os.listdir(tmp_path) == ["truecopy.prom"]
    assert len(gateway.requests) == 1


def test_that_a_cycle_hangs_is_published_while_it_hangs(tmp_path: Path) -> None:
    textfile = tmp_path / "truecopy.prom"
    job = Job(targets(textfile=str(textfile)))
    for event in (
        CycleStarted(cycle_id="c", pairs=("music", "photos")),
        CycleStalled(cycle_id="c", pair="music", process="main", stalled_seconds=9.0, where="", doing=""),
    ):
        job.metrics(event)
        job.publisher(event)

    assert "truecopy_cycle_stalled 1.0" in textfile.read_text()


def test_a_missing_folder_of_the_textfile_is_told(tmp_path: Path) -> None:
    job = Job(targets(textfile=str(tmp_path / "none" / "truecopy.prom")))

    job.cycle(Result.SUCCESS)

    assert [output for output, _ in job.failures] == ["textfile"]


def test_a_success_is_pushed_with_its_time_under_its_grouping_key(gateway: Gateway) -> None:
    job = Job(targets(pushgateway=gateway.url + "/", job="nightly", instance="nas/1"))

    job.cycle(Result.SUCCESS)

    [(method, path, _, body)] = gateway.requests
    assert method == "POST"
    assert path == "/metrics/job/nightly/instance@base64/bmFzLzE="
    assert values(body, SUCCESS)["music"] == 1000
    assert job.failures == []


def test_without_an_instance_the_job_alone_is_the_grouping_key(gateway: Gateway) -> None:
    Job(targets(pushgateway=gateway.url)).cycle(Result.SUCCESS)

    assert gateway.requests[0][1] == "/metrics/job/truecopy"


@pytest.mark.parametrize("result", [result for result in Result if result is not Result.SUCCESS])
def test_a_cycle_without_a_success_pushes_all_but_the_time_of_success(result: Result, gateway: Gateway) -> None:
    job = Job(targets(pushgateway=gateway.url))
    job.cycle(Result.SUCCESS, at=1000.0)

    job.cycle(result, at=2000.0)

    body = gateway.requests[1][3]
    assert SUCCESS not in body
    assert values(body, ATTEMPT)["music"] == 2000


def test_credentials_are_sent_as_basic_authentication(gateway: Gateway) -> None:
    Job(targets(pushgateway=gateway.url, username="me", password="pä:ss")).cycle(Result.SUCCESS)

    sent = gateway.requests[0][2]["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "me:pä:ss"


@pytest.mark.parametrize("answer", [301, 302, 307, 308, 400, 401, 500])
def test_an_answer_that_is_no_success_is_told_without_the_password(answer: int, gateway: Gateway) -> None:
    gateway.answer = answer
    job = Job(targets(pushgateway=gateway.url, username="me", password="secret"))

    job.cycle(Result.SUCCESS)

    assert len(gateway.requests) == 1
    [(output, error)] = job.failures
    assert output == "pushgateway"
    assert str(answer) in error
    assert "secret" not in error


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::bad", "http://a b", "file:///etc/passwd", "http://"])
def test_a_gateway_that_is_not_there_is_told(url: str) -> None:
    job = Job(targets(pushgateway=url))

    job.cycle(Result.SUCCESS)

    assert [output for output, _ in job.failures] == ["pushgateway"]


def test_a_gateway_that_hangs_is_not_waited_for(gateway: Gateway) -> None:
    gateway.release.clear()
    job = Job(targets(pushgateway=gateway.url), timeout_seconds=0.2)

    job.cycle(Result.SUCCESS)
    job.cycle(Result.SUCCESS)

    assert [output for output, _ in job.failures] == ["pushgateway", "pushgateway"]


def test_nothing_is_published_where_nothing_is_named() -> None:
    job = Job(targets())

    job.cycle(Result.SUCCESS)

    assert job.failures == []


@pytest.mark.needs_tool("prometheus-pushgateway")
def test_a_real_pushgateway_keeps_the_last_success_over_failed_cycles() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus-pushgateway", f"--web.listen-address={address}", "--log.level=error", "--persistence.file="]
    with subprocess.Popen(command) as process:
        try:
            wait_until_ready(address)
            job = Job(targets(pushgateway=f"http://{address}", instance="nas"))

            job.cycle(Result.SUCCESS, at=1000.0)
            job.cycle(Result.PARTIAL, at=2000.0)

            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        finally:
            process.terminate()
    assert job.failures == []
    assert values(text, SUCCESS) == {"music": 1000, "photos": 0}
    assert values(text, ATTEMPT) == {"music": 2000, "photos": 2000}
    assert 'instance="nas",job="truecopy"' in text


def wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the Pushgateway did not start")


def test_where_the_password_is_withheld_nothing_is_pushed_and_the_reason_is_told_each_time(gateway: Gateway) -> None:
    job = Job(targets(pushgateway=gateway.url, username="me", withheld="not sent; do that"))

    job.cycle(Result.SUCCESS)
    job.cycle(Result.SUCCESS)

    assert gateway.requests == []
    assert job.failures == [("pushgateway", "not sent; do that")] * 2


@pytest.mark.parametrize(("password", "by_proxy"), [("secret", False), (None, True)])
def test_a_password_takes_no_way_over_a_proxy_that_could_read_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, password: str | None, *, by_proxy: bool
) -> None:
    proxy = Gateway()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    try:
        Job(targets(pushgateway=gateway.url, username=password and "me", password=password)).cycle(Result.SUCCESS)
    finally:
        proxy.close()

    assert (len(proxy.requests), len(gateway.requests)) == ((1, 0) if by_proxy else (0, 1))
