"""The metrics port of a running service follows the configuration."""

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

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
        if not same_port:
            taken.close()
            service.wait_for("port_changed")
            assert (serves(old), serves(wanted["port"])) == (False, True)  # type: ignore[arg-type]
