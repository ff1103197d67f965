"""The service loop as a real process with real clocks and real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import Exit
from job.health import HealthFile, check

PROGRAM = """
import sys, time
from job.outputs.liveness import Heartbeat
from job.system.signals import StopSignal
from job.config.model import WrittenConfig
from job.core.outcome import Result
from job.service import serve
from job.health import HealthFile

class Service:
    config_path = "config/backup_config.json"
    address = ""
    port_state = "off"
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def __init__(self, pulse, busy):
        self.heartbeat = Heartbeat(pulse, wall=time.time, monotonic=time.monotonic)
        self.busy = busy

    def reload(self, *, asked=False):
        return WrittenConfig(source_dirs=("/source",), dest_dirs=("/mirror",), sleep_time=3600).to_settings()

    def config_changed(self):
        return False

    def cycle(self, config, stop):
        print("cycle", flush=True)
        while self.busy and not stop():
            time.sleep(0.01)
        return Result.STOPPED if stop() else Result.SUCCESS

    def last_success(self):
        return None

    def emit(self, event):
        self.heartbeat(event)
        print(event.name, getattr(event, "reason", ""), flush=True)

with StopSignal(monotonic=time.monotonic) as stop:
    sys.exit(serve(Service(HealthFile(sys.argv[1], {}), sys.argv[2] == "busy"), stop))
"""


@pytest.fixture
def health_file(tmp_path: Path) -> HealthFile:
    return HealthFile(str(tmp_path / "config.json"), {})


@pytest.fixture(params=["busy", "waiting"])
def service(request: pytest.FixtureRequest, health_file: HealthFile) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, health_file.config_path, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        last = "cycle" if request.param == "busy" else "service_waited"
        assert process.stdout is not None
        assert any(line.startswith(last) for line in process.stdout)
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_within_five_seconds_with_exit_0(
    service: subprocess.Popen[str], health_file: HealthFile, number: signal.Signals
) -> None:
    alive = check(health_file, time.time())
    asked = time.monotonic()

    os.kill(service.pid, number)
    output, _ = service.communicate(timeout=60)

    assert time.monotonic() - asked < 5
    assert alive[0], alive
    assert service.returncode == Exit.OK
    assert output.splitlines()[-1] == f"service_stopped {number.name}"
    assert not check(health_file, time.time())[0]
