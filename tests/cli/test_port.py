"""The metrics port follows the configuration, and where it cannot be had the backups go on without it."""

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from job.app.output_setup import Port
from job.core.counts import Tally
from job.errors import Exit
from job.events.base import Event
from job.events.pair import BatchCommitted
from job.events.service import ConfigReloaded, PortChanged, PortNotOpened, ServiceWaited
from job.outputs.http import Web
from tests.config.configs import to_settings
from tests.faults.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def serves(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as answer:
            return b"truecopy_build_info" in answer.read()
    except OSError:
        return False


def test_a_changed_port_is_served_within_the_reload_and_the_old_one_given_back(rig: Rig) -> None:
    old, new = free_port(), free_port()
    rig.configure(sleep_time=3600, metrics={"port": old, "address": "127.0.0.1"})
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        assert serves(old)
        rig.configure(sleep_time=3600, metrics={"port": new, "address": "127.0.0.1"})
        os.kill(service.process.pid, signal.SIGHUP)
        told = service.wait_for("port_changed")

        assert (serves(old), serves(new)) == (False, True)
    assert (told["address"], told["before"]) == (f"127.0.0.1:{new}", f"127.0.0.1:{old}")


def test_another_address_of_the_same_port_is_served_too(rig: Rig) -> None:
    port = free_port()
    rig.configure(sleep_time=3600, metrics={"port": port, "address": "127.0.0.1"})
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        rig.configure(sleep_time=3600, metrics={"port": port, "address": "0.0.0.0"})  # to be listened at
        os.kill(service.process.pid, signal.SIGHUP)
        service.wait_for("port_changed")

        assert serves(port, "127.0.0.2")


def test_a_port_is_switched_off_and_on(rig: Rig) -> None:
    port = free_port()
    on, off = {"port": port, "address": "127.0.0.1"}, {"enabled": False}
    rig.configure(sleep_time=3600, metrics=off)
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        seen: list[bool] = []
        for wanted in (on, off):
            rig.configure(sleep_time=3600, metrics=wanted)
            os.kill(service.process.pid, signal.SIGHUP)
            service.wait_for("port_changed", count=len(seen) + 1)
            seen.append(serves(port))

    assert seen == [True, False]


@pytest.mark.parametrize("same_port", [False, True])
def test_where_the_new_port_cannot_be_opened_the_old_one_stays_and_it_is_said_once(
    rig: Rig, *, same_port: bool
) -> None:
    old = free_port()
    rig.configure(sleep_time=1, metrics={"port": old, "address": "127.0.0.1"})
    with socket.create_server(("127.0.0.1", 0)) as taken, rig.started("run") as service:
        service.wait_for("cycle_finished")
        wanted = {"port": old, "address": "192.0.2.1"} if same_port else {"port": taken.getsockname()[1]}
        rig.configure(sleep_time=1, metrics={"address": "127.0.0.1", **wanted})
        told = service.wait_for("port_not_changed")
        service.wait_for("cycle_finished", count=4)

        assert serves(old)
        assert len([line for line in service.lines if line["event"] == "port_not_changed"]) == 1
        assert told["served"] == f"127.0.0.1:{old}"
        assert told["level"] == "warning"
        assert told["error"] in told["message"]
        assert "(" not in told["error"], "a tuple of Python's, for example"
        if not same_port:
            taken.close()
            service.wait_for("port_changed")
            assert (serves(old), serves(wanted["port"])) == (False, True)  # type: ignore[arg-type]


def test_a_port_in_use_at_the_start_is_a_warning_and_served_once_it_is_free(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rig.configure(sleep_time=1, metrics={"port": port, "address": "127.0.0.1"})
        with rig.started("run") as service:
            started = service.wait_for("service_started")
            told = service.wait_for("port_not_opened")
            service.wait_for("cycle_finished", count=3, result="success")
            warnings = [line for line in service.lines if line["event"] == "port_not_opened"]
            taken.close()
            changed = service.wait_for("port_changed")

            assert serves(port)
            assert (rig.mirror / "file").read_text() == "content"
    assert (started["metrics"], started["address"]) == ("unavailable", "")
    assert "metrics: unavailable" in started["message"]
    assert (told["level"], told["address"], len(warnings)) == ("warning", f"127.0.0.1:{port}", 1)
    assert told["error"] == f"The metrics port cannot be opened at 127.0.0.1 port {port}: Address already in use"
    assert f"ss -ltnp sport = :{port}" in told["hint"]
    assert told["hint"] in told["message"]
    assert (changed["address"], changed["before"]) == (f"127.0.0.1:{port}", "off")


def test_two_services_on_one_port_both_back_up(tmp_path: Path) -> None:
    port = free_port()
    rigs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        rigs.append(Rig(tmp_path / name))
        (rigs[-1].source / "file").write_text(name)
        rigs[-1].configure(sleep_time=3600, metrics={"port": port, "address": "127.0.0.1"})
    with rigs[0].started("run") as first:
        served = first.wait_for("service_started")
        first.wait_for("cycle_finished", result="success")
        with rigs[1].started("run") as second:
            unserved = second.wait_for("service_started")
            second.wait_for("cycle_finished", result="success")
            os.kill(second.process.pid, signal.SIGTERM)
            assert second.process.wait(20) == Exit.OK

    assert (served["metrics"], served["address"]) == ("served", f"127.0.0.1:{port}")
    assert unserved["metrics"] == "unavailable"
    assert [(rig.mirror / "file").read_text() for rig in rigs] == ["first", "second"]


class Waiting:
    """A port that is taken by somebody else, on a clock that the test sets."""

    def __init__(self, taken: socket.socket) -> None:
        self.now = 50.0
        self.wanted = to_settings(source_dirs=["/s"], dest_dirs=["/m"]).metrics._replace(port=taken.getsockname()[1])
        self.told: list[Event] = []
        self.port = Port(self.make, lambda: self.wanted, self.told.append, monotonic=lambda: self.now)

    def make(self) -> Web:
        return Web(render=lambda _: ("", b""), healthy=lambda: (True, ""), ready=lambda: (True, ""), failed=print)


def test_it_is_tried_again_by_the_clock_while_the_service_waits_and_while_a_cycle_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        waiting = Waiting(taken)
        waiting.port.open()
        assert (waiting.port.served, waiting.port.state) == ("", "unavailable")
        for _ in range(3):
            waiting.now += 31
            waiting.port(ServiceWaited())
    waiting.now += 29
    waiting.port(ServiceWaited())
    early = waiting.port.served
    waiting.now += 2
    waiting.port(BatchCommitted(cycle_id="c", pair="p", tally=Tally()))
    late = waiting.port.served
    waiting.port.close()

    place = f"127.0.0.1:{waiting.wanted.port}"
    assert (early, late) == ("", place)
    assert [type(event) for event in waiting.told] == [PortNotOpened, PortChanged]
    assert waiting.told[1] == PortChanged(address=place, before="off")


def test_no_port_is_asked_for_once_it_is_switched_off_while_it_could_not_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        waiting = Waiting(taken)
        waiting.port.open()
        waiting.wanted = waiting.wanted._replace(enabled=False)
        waiting.port(ConfigReloaded(config="c.json", pairs=()))
        waiting.wanted = waiting.wanted._replace(enabled=True)
        state = waiting.port.state
        waiting.port(ConfigReloaded(config="c.json", pairs=()))

    assert state == "unavailable"
    assert [type(event) for event in waiting.told] == [PortNotOpened, PortNotOpened]
