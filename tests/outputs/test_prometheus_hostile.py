"""A Pushgateway that means harm: an answer that never ends, is too long, or leads elsewhere costs a bounded push."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry, Gauge

from job.core.counts import Tally
from job.core.outcome import Result
from job.events.service import CycleFinished
from job.outputs.prometheus import Publisher
from tests.outputs.publishing import targets

FINISHED = CycleFinished(cycle_id="c", result=Result.SUCCESS, tally=Tally(), duration_seconds=1.0)
TIMEOUT = 0.5
Answer = Callable[[socket.socket], None]


def for_ever(begin: bytes, piece: bytes, pause: float = 0.0) -> Answer:
    """Answer with a beginning, and then with one piece after the other until the client goes."""

    def answer(client: socket.socket) -> None:
        client.sendall(begin)
        while True:
            client.sendall(piece)
            time.sleep(pause)

    return answer


def silent(client: socket.socket) -> None:
    while client.recv(65536):  # the rest of the request, until the client goes
        pass


LONG_HEADERS = b"HTTP/1.1 100 Continue\r\n" + b"".join(b"X-%d: " % n + b"y" * 60_000 + b"\r\n" for n in range(90))
TOO_LONG = "the answer is longer than 65536 bytes"
ANSWERS: dict[str, tuple[Answer, str]] = {
    "interim answers": (for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000), TOO_LONG),
    "interim answers with headers": (for_ever(b"", LONG_HEADERS + b"\r\n"), TOO_LONG),
    "headers": (for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000), "answered with what is no HTTP"),
    "one header": (for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000), TOO_LONG),
    "one line": (for_ever(b"HTTP/1.1 500 ", b"\x1b[2J" * 10_000), TOO_LONG),
    "a body after an error": (for_ever(b"HTTP/1.1 500 no\r\n\r\n", b"x" * 100_000), "answered with the status 500 no"),
    "a line in drops": (for_ever(b"HTTP/1.1 200 OK\r\n", b"X", 0.05), "gave no answer within 0.5 seconds"),
    "nothing": (silent, "gave no answer within 0.5 seconds"),
}


@contextmanager
def gateway(answer: Answer) -> Iterator[tuple[int, list[bytes]]]:
    """Serve a port; gives it and the requests that came."""
    requests: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with client, suppress(OSError):
                    client.settimeout(30)
                    requests.append(client.recv(65536))
                    answer(client)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], requests
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def pushed(url: str, timeout: float = TIMEOUT) -> list[str]:
    """Push once; give what was told, and insist that nothing of the push is left and that it took hardly any work."""
    registry, told = CollectorRegistry(), list[str]()
    Gauge("truecopy_test", "For a test.", registry=registry)
    wanted = targets(pushgateway=url, username="me", password="secret")
    publisher = Publisher(registry, wanted, failed=lambda _, error: told.append(error), timeout_seconds=timeout)
    before, began, busy = sockets(), time.monotonic(), time.process_time()
    publisher(FINISHED)
    assert time.monotonic() - began < timeout + 2
    assert time.process_time() - busy < timeout + 1
    assert publisher._push is not None
    publisher._push.join(1)
    assert not publisher._push.is_alive()
    while sockets() - before:  # the gateway, in this process too, sees a moment later that the client is gone
        assert time.monotonic() - began < timeout + 10
        time.sleep(0.01)
    return told


def sockets() -> set[str]:
    """Give the sockets that are open in this process."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {each for each in found if each.startswith("socket:")}


@pytest.mark.parametrize("how", ANSWERS)
def test_an_answer_that_never_ends_ends_with_the_time_limit_or_with_what_may_be_read(how: str) -> None:
    answer, expected = ANSWERS[how]
    with gateway(answer) as (port, requests):
        (told,) = pushed(f"http://127.0.0.1:{port}")

    assert expected in told
    assert len(told) <= 200
    assert told.isprintable()
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 abc x\r\n\r\n", "answered with what is no HTTP"),
        (b"HTTP/9.9 200 x\r\n\r\n", "answered with what is no HTTP"),
        (b"HTTP/1.1 200 " + b"A" * 70_000, "gave no usable answer: the answer is longer than 65536 bytes"),
        (b"HTTP/1.1 404 x\r\n\r\n", "answered with the status 404 x"),
    ],
)
def test_what_came_of_a_push_is_told_with_the_address_and_in_words(answer: bytes, words: str) -> None:
    with gateway(lambda client: client.sendall(answer)) as (port, _):
        assert pushed(f"http://127.0.0.1:{port}/path", 10) == [f"the Pushgateway at http://127.0.0.1:{port} {words}"]


def test_so_are_a_refused_connection_an_unknown_name_and_tls_that_is_none() -> None:
    assert pushed("http://127.0.0.1:1", 10) == ["the Pushgateway at http://127.0.0.1:1 refused the connection"]
    (told,) = pushed("http://no-such-host.invalid:9091", 10)
    assert told == "the Pushgateway at http://no-such-host.invalid:9091 is not known by this name"
    with gateway(lambda client: client.sendall(b"HTTP/1.1 400 no\r\n\r\n")) as (port, _):
        (told,) = pushed(f"https://127.0.0.1:{port}", 10)
    assert told == f"the Pushgateway at https://127.0.0.1:{port} does not speak TLS that can be used here"


def test_a_body_of_a_success_is_not_read() -> None:
    with gateway(for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000)) as (port, _):
        assert pushed(f"http://127.0.0.1:{port}") == []


def test_a_long_reason_is_told_in_part_and_without_control_characters() -> None:
    def answer(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 500 \x1b[2J" + b"x" * 60_000 + b"\r\n\r\n")

    with gateway(answer) as (port, _):
        (told,) = pushed(f"http://127.0.0.1:{port}", 10)

    assert told.startswith(f"the Pushgateway at http://127.0.0.1:{port} answered with the status 500 ")
    assert len(told) == 200
    assert told.isprintable()


@pytest.mark.parametrize("drip", [0.05, None])
def test_a_handshake_that_never_ends_is_cut(drip: float | None) -> None:
    # A record of 16 KiB is announced, and comes byte by byte.
    answer = silent if drip is None else for_ever(b"\x16\x03\x03\x40\x00", b"\x02", drip)
    with gateway(answer) as (port, _):
        told = pushed(f"https://127.0.0.1:{port}")

    assert told == [f"the Pushgateway at https://127.0.0.1:{port} gave no answer within 0.5 seconds"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_place_is_not_followed(status: int) -> None:
    def redirect(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 %d Gone\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % (status, thief))

    with gateway(silent) as (thief, stolen), gateway(redirect) as (port, requests):
        (told,) = pushed(f"http://127.0.0.1:{port}", 10)

    assert f"answered with the status {status}" in told
    assert len(requests) == 1
    assert stolen == []
