"""A real Truecopy service and a real Prometheus that scrapes it, both on free loopback ports and made to hurry."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.monitoring.texts import PROMETHEUS, ROOT, RULES

PATIENCE = 30.0
"""Seconds until something that has to happen is given up."""


NOBODY = "http://127.0.0.1:1"
"""A Pushgateway that does not exist."""

PAIRS = ("good", "bad", "gone", "late")

_TWO_HOURS_AGO = """
import sys, time, time_machine
from job.cli.main import main
with time_machine.travel(time.time() - 7200):
    sys.exit(main(["--config", sys.argv[1], "run", "--once"]))
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Four pairs: `good` succeeds, `bad` always has a failing file, `gone` has no source, `late` had a success once."""

    folder: Path
    port: int

    @property
    def config(self) -> Path:
        """The config file of the service."""
        return self.folder / "config.json"

    @property
    def log(self) -> Path:
        """What the service printed."""
        return self.folder / "service.log"

    def open_context(self) -> None:
        """Make the folders and the config; let `late` succeed two hours ago and never again."""
        for name in ("good", "bad", "late"):
            (self.folder / "source" / name).mkdir(parents=True)
            (self.folder / "mirror" / name).mkdir(parents=True)
            for number in range(3):
                (self.folder / "source" / name / f"{number}.txt").write_text(f"content {number}\n")
        (self.folder / "mirror" / "gone").mkdir()
        self.write_config("late")
        earlier = [sys.executable, "-c", _TWO_HOURS_AGO, str(self.config)]
        subprocess.run(earlier, cwd=ROOT, env=_surroundings(), capture_output=True, check=True)
        for name in ("bad", "late"):
            (self.folder / "source" / name / ".truecopy-tmp-x").write_text("a name that is reserved\n")
        self.write_config()

    def write_config(self, *names: str) -> None:
        """Write a config that can be used, with these pairs or all."""
        pairs = [
            {"name": name, "source": f"{self.folder}/source/{name}", "dest": f"{self.folder}/mirror/{name}"}
            for name in names or PAIRS
        ]
        config = {
            "pairs": pairs,
            "sleep_time": 1,
            "audit_interval": 0,
            "metrics": {"port": self.port, "pushgateway": NOBODY},
        }
        self.config.write_text(json.dumps(config))

    def exposition(self) -> str:
        """Scrape the service."""
        return _get(f"http://127.0.0.1:{self.port}/metrics")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Give the series an instant query returns. Raises `AssertionError` with Prometheus' words if it cannot."""
        answer = self._ask("query", query=expression)
        assert answer["status"] == "success", answer
        found = answer["data"]["result"]
        return found if answer["data"]["resultType"] == "vector" else [{"value": found}]

    def firing(self) -> set[tuple[str, str]]:
        """Give alert and pair of everything that fires; the pair is empty where an alert has none."""
        alerts = self._ask("alerts")["data"]["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("pair", "")) for a in alerts if a["state"] == "firing"}

    def _ask(self, what: str, **arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(_get(f"http://127.0.0.1:{self.port}/api/v1/{what}?{urlencode(arguments)}"))
        return answer


@dataclass(frozen=True, slots=True)
class Stack:
    """Service and Prometheus together."""

    site: Site
    prometheus: Prometheus
    service: "subprocess.Popen[bytes]"

    def stop_service(self) -> None:
        """End the service as an orchestrator would."""
        self.service.send_signal(signal.SIGTERM)
        self.service.wait(timeout=PATIENCE)

    def wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        """Poll until it holds; the failure shows what fires and what the service said last."""
        if _comes_true(holds):
            return
        firing = set()
        with suppress(URLError):
            firing = self.prometheus.firing()
        said = self.site.log.read_text()[-3000:]
        raise AssertionError(f"{what} within {PATIENCE:.0f} s; firing: {firing}; the service said:\n{said}")


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Start both, wait until all pairs were attempted and scraped more than once, and end both afterwards."""
    site = Site(folder, free_port())
    site.open_context()
    prometheus = Prometheus(free_port())
    with _process([sys.executable, "-m", "job", "--config", str(site.config), "run"], site.log) as service:
        arguments = _prometheus_arguments(folder, site.port, prometheus.port)
        with _process(["prometheus", *arguments], folder / "prometheus.log"):
            stack = Stack(site, prometheus, service)
            stack.wait_until("no cycle was scraped", lambda: len(prometheus.query(_SETTLED)) == len(PAIRS))
            yield stack


_SETTLED = (
    "truecopy_last_attempt_timestamp_seconds > 0 and count_over_time(truecopy_last_attempt_timestamp_seconds[1m]) > 2"
)


_EXPLAINED = (400, 422)
"""Statuses with which Prometheus says in the body what is wrong with a query."""


def free_port() -> int:
    """Find a loopback port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _prometheus_arguments(folder: Path, target: int, port: int) -> list[str]:
    """Derive a hurried config from the shipped one: other intervals, the free port, no `for`; all else as it is."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "500ms")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["for"] = "0s"
    (folder / "rules").mkdir()
    (folder / "rules" / "truecopy.yml").write_text(yaml.safe_dump(rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=_surroundings(), stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TRUECOPY_")}


def _comes_true(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except (URLError, ConnectionError):
            pass  # not up yet
        time.sleep(0.2)
    return False


def _get(url: str) -> str:
    try:
        with urlopen(url, timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except HTTPError as refusal:
        if refusal.code not in _EXPLAINED:
            raise
        return str(refusal.read(), "utf-8")
