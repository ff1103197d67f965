"""Two CronJobs push to one real Pushgateway, with the variables of their pods."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import Exit
from tests.k8s.test_overlays import BASE, Overlays, variables

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.needs_tool("kubectl"), pytest.mark.needs_tool("prometheus-pushgateway")]


@pytest.fixture
def gateway() -> Iterator[str]:
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [
            "prometheus-pushgateway",
            f"--web.listen-address={address}",
            "--log.level=error",
            "--persistence.file=",
        ]
        with subprocess.Popen(command) as process:
            try:
                if answers(process, address):
                    yield f"http://{address}"
                    return
            finally:
                process.terminate()
    pytest.fail("the Pushgateway did not start")


def answers(process: "subprocess.Popen[bytes]", address: str) -> bool:
    """Wait for the gateway; False if its port was taken meanwhile, where somebody else's would answer."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
                time.sleep(0.2)
                return process.poll() is None
        except OSError:
            time.sleep(0.05)
    return False


def samples(gateway: str, name: str) -> dict[str, float]:
    """Give the values of a pushed metric by their `instance`."""
    with urllib.request.urlopen(f"{gateway}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return {line.partition('instance="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in found}


def run_once(folder: Path, given: dict[str, str], gateway: str) -> int:
    """Run the CronJob's command natively; every backup has the pair `data`, as in the shipped configuration."""
    config = json.loads((ROOT / "k8s/base/backup_config.json").read_text("utf-8"))
    config["pairs"] = [{"name": "data", "source": str(folder / "source"), "dest": str(folder / "mirror")}]
    config |= {"state_dir": str(folder / "state"), "metrics": {"pushgateway": gateway}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    clean = {name: text for name, text in os.environ.items() if not name.startswith("TRUECOPY_")}
    command = [sys.executable, "-m", "job", "--config", str(folder / "config.json"), "run", "--once", "--skip-if-busy"]
    return subprocess.run(command, cwd=ROOT, env=clean | given, capture_output=True, check=False).returncode


def test_no_cronjob_erases_the_metrics_of_another(tmp_path: Path, gateway: str) -> None:
    overlays = Overlays(tmp_path)
    texts = {
        "photos": f"{BASE}\nnamespace: backup\nnamePrefix: photos-\n",
        "music": f"{BASE}\nnamespace: backup\nnamePrefix: music-\n",
        "other": f"{BASE}\nnamespace: other\n",
    }
    for number, (name, text) in enumerate(texts.items(), start=1):
        folder = tmp_path / f"{name}-volumes"
        for volume in ("source", "mirror", "state"):
            (folder / volume).mkdir(parents=True)
        for file in range(number):
            (folder / "source" / f"file {file}").write_text(name, "utf-8")

        assert run_once(folder, variables(overlays.built(name, text)["CronJob"]), gateway) == Exit.OK

    copied = samples(gateway, "truecopy_files_copied_total")
    assert copied == {"backup/photos-truecopy": 1, "backup/music-truecopy": 2, "other/truecopy": 3}
    assert all(samples(gateway, "truecopy_last_success_timestamp_seconds").values())
    assert set(samples(gateway, "truecopy_schedule_interval_seconds").values()) == {86400.0}
