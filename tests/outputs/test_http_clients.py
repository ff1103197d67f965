"""What clients of the HTTP port can take from the service and from each other: time, places, descriptors."""

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waitress import wasyncore  # type: ignore[import-untyped]

from job.outputs.http import Web, _client
from job.system.resources import MAIN_DESCRIPTORS
from tests.outputs.serving import Service


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.web.close()


@pytest.fixture
def brief() -> Iterator[Service]:
    """A port whose connections live for half a second."""
    service = Service(seconds=0.5)
    yield service
    service.web.close()


def test_slow_clients_do_not_hold_up_a_scrape(service: Service) -> None:
    slow = [socket.create_connection((service.host, service.port), timeout=20) for _ in range(200)]
    for number, client in enumerate(slow):
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: "[: number % 30])

    assert [service.ask()[0] for _ in range(5)] == [200] * 5
    for client in slow:
        client.close()


def test_a_client_that_never_reads_does_not_hold_up_a_scrape(service: Service) -> None:
    deaf = [socket.create_connection((service.host, service.port), timeout=20) for _ in range(20)]
    for client in deaf:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

    assert service.ask()[0] == 200
    for client in deaf:
        client.close()


def test_a_request_that_drips_in_is_cut_off(brief: Service) -> None:
    with socket.create_connection((brief.host, brief.port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        cut_off = False
        for _ in range(2000):
            try:
                client.sendall(b"x")
                # Asking somebody else in between makes sure that each byte arrives alone.
                brief.ask("/healthz")
            except OSError:
                cut_off = True
                break

    assert cut_off


def test_a_connection_gives_one_answer_and_says_that_it_closes(service: Service) -> None:
    for version, wish in (("1.1", ""), ("1.0", "Connection: keep-alive\r\n")):
        received = service.send(f"GET /metrics HTTP/{version}\r\n{wish}\r\n".encode() * 50)

        head, _, body = received.partition(b"\r\n\r\n")
        assert body == b"truecopy_up 1\n"
        assert head.lower().count(b"connection:") == head.lower().count(b"connection: close") == 1


def seconds_until_refused(client: socket.socket) -> float:
    """Drip until the other side has closed the connection."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < 20:
        try:
            client.sendall(b"x")
        except OSError:
            break
        time.sleep(0.1)
    return spent


def test_whatever_a_connection_does_it_ends_in_time(brief: Service) -> None:
    silent, dripping = (socket.create_connection((brief.host, brief.port), timeout=20) for _ in range(2))
    began = time.monotonic()
    with silent, dripping:
        dripping.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert seconds_until_refused(dripping) < 5
        assert silent.recv(1) == b""
        assert time.monotonic() - began > 0.4


def from_address(service: Service, address: str) -> socket.socket:
    return socket.create_connection((service.host, service.port), timeout=20, source_address=(address, 0))


def held(service: Service) -> int:
    """Count the connections that are open on the side of the port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    open_here = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{service.port:04X}") and row[3] == "01"}
    own = [os.path.realpath(f"/proc/self/fd/{name}").rpartition("/")[2] for name in os.listdir("/proc/self/fd")]
    return len(open_here.intersection(own))


def test_one_address_that_takes_every_place_keeps_nobody_out(service: Service) -> None:
    slow = [from_address(service, "127.0.0.1") for _ in range(120)]
    for client in slow:
        client.sendall(b"G")

    answers = [service.ask("/healthz")[0] for _ in range(5)]
    with from_address(service, "127.0.0.9") as other:
        other.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in other.recv(100)

    assert answers == [200] * 5
    assert held(service) <= 32
    for client in slow:
        client.close()


def test_many_addresses_hold_no_more_places_than_there_are_and_keep_nobody_out(service: Service) -> None:
    slow = [from_address(service, f"127.0.1.{number}") for number in range(1, 201)]

    assert [service.ask("/healthz")[0] for _ in range(5)] == [200] * 5
    assert held(service) <= 128
    for client in slow:
        client.close()


def test_a_client_that_asks_at_once_outlives_those_that_wait(service: Service) -> None:
    with from_address(service, "127.0.0.1") as patient:
        patient.sendall(b"G")
        others = [from_address(service, f"127.0.2.{number}") for number in range(1, 40)]
        service.ask("/healthz")

        patient.sendall(b"ET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in patient.recv(100), "there were places for all of them"
    for client in others:
        client.close()


def test_with_few_descriptors_there_are_few_places(service: Service) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    slow = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (180, hard))
        slow = [from_address(service, f"127.0.3.{number}") for number in range(1, 41)]
        assert service.ask("/healthz")[0] == 200
        assert held(service) <= (180 - MAIN_DESCRIPTORS) // 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for client in slow:
            client.close()


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%lo", "fe80::/64"),
    ],
)
def test_who_has_many_addresses_of_one_network_is_one_client(address: str, client: str) -> None:
    assert _client(address) == client


def test_where_pages_hang_requests_of_closed_connections_are_forgotten() -> None:
    disk = threading.Event()
    web = Web(
        render=lambda _: ("text/plain", b""),
        healthy=lambda: (disk.wait(60), "alive"),
        ready=lambda: (True, ""),
        failed=lambda *_: None,
        seconds=0.5,
    )
    place = web.start("127.0.0.1", 0)
    clients = [socket.create_connection(place, timeout=20) for _ in range(60)]
    for client in clients:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    ends = [client.recv(1) for client in clients]
    waiting = len(web._server.task_dispatcher.queue)
    disk.set()
    with socket.create_connection(place, timeout=20) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = client.recv(100)
    web.close()
    for client in clients:
        client.close()

    assert (set(ends), waiting) == ({b""}, 0)
    assert b" 200 " in answer


def test_the_port_goes_on_after_an_error_nobody_expected(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, errors = wasyncore.loop, [RuntimeError("odd"), RuntimeError("odd")]

    def fails_twice(*arguments: object, **named: object) -> None:
        if errors:
            raise errors.pop()
        turn(*arguments, **named)

    monkeypatch.setattr(wasyncore, "loop", fails_twice)

    assert service.ask("/healthz")[0] == 200
    assert service.failures == [("http", "RuntimeError: odd")]


def test_a_flood_of_requests_is_served_at_a_pace(service: Service) -> None:
    answers = []
    end = time.monotonic() + 1.0

    def flood() -> None:
        while time.monotonic() < end:
            answers.append(service.send(b"GET /metrics HTTP/1.1\r\n\r\n" * 300))

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 5 < len(answers) < 250
