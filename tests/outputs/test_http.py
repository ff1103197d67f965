"""The HTTP port: four pages, nothing reflected, slow and broken clients hold up nobody."""

import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.errors import JobError
from job.outputs.http import Web
from tests.outputs.serving import Service


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.web.close()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Service]:
    service = Service()
    yield service
    service.web.close()


def test_metrics_are_served_in_the_form_that_is_asked_for(service: Service) -> None:
    status, headers, body = service.ask()

    assert (status, headers["Content-Type"], body) == (200, "text/plain", b"truecopy_up 1\n")
    assert service.ask(headers={"Accept": "application/openmetrics-text"})[1]["Content-Type"] == (
        "application/openmetrics-text"
    )


def test_health_and_readiness_say_so_by_status_and_sentence(service: Service) -> None:
    assert service.ask("/healthz")[::2] == (200, b"alive\n")
    assert service.ask("/readyz")[::2] == (503, b"no configuration yet\n")

    service.healthy, service.ready = (False, "overdue\nby 60 s"), (True, "ready")

    assert service.ask("/healthz")[::2] == (503, b"overdue\\nby 60 s\n")
    assert service.ask("/readyz")[::2] == (200, b"ready\n")


def test_the_index_names_the_pages(service: Service) -> None:
    status, _, body = service.ask("/")

    assert status == 200
    assert all(page in body for page in (b"/metrics", b"/healthz", b"/readyz"))


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
def test_head_gives_the_headers_without_the_body(path: str, service: Service) -> None:
    asked = service.ask(path)
    status, headers, body = service.ask(path, "HEAD")

    assert (status, body) == (asked[0], b"")
    assert headers["Content-Length"] == str(len(asked[2]))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_every_other_method_is_refused(method: str, service: Service) -> None:
    status, headers, body = service.ask("/metrics", method)

    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert method.encode() not in body


@pytest.mark.parametrize("path", ["/evil-path", "/metrics/", "/METRICS", "/../etc/passwd", "/%2e%2e/x"])
def test_every_other_path_is_not_found_and_not_repeated(path: str, service: Service) -> None:
    status, headers, body = service.ask(path + "?evil-query", headers={"X-Evil": "evil-header", "Host": "evil-host"})

    assert status == 404
    assert body == b"404 Not Found\n"
    assert "evil" not in str(headers)


GARBAGE = [
    b"evil\r\n\r\n",
    b"evil evil evil\r\n\r\n",
    b"evil /metrics HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n evil\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nX: evil\nevil\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nevil\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nevil : x\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nContent-Length: evil\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: evil\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nevil\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\nevil",
    b"e\x00vil /\xff HTTP/1.1\r\n\r\n",
    b"GET http://evil:x/evil HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nX: " + b"evil" * 5000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03evil",
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_and_not_repeated(data: bytes, service: Service) -> None:
    answer = service.send(data)

    assert b"evil" not in answer
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert service.ask()[0] == 200
    assert service.failures == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.builds(lambda tail: b"GET /metrics HTTP/1.1\r\n" + tail, st.binary()))
def test_random_bytes_leave_it_serving(data: bytes, lasting: Service) -> None:
    lasting.send(data)

    assert lasting.ask()[0] == 200
    assert lasting.failures == []


def test_a_break_inside_is_told_once_and_not_shown(service: Service) -> None:
    service.broken = True

    answers = [service.ask() for _ in range(3)]

    assert {answer[0] for answer in answers} == {500}
    assert all(b"secret" not in answer[2] for answer in answers)
    assert service.failures == [("http", "RuntimeError: secret details")]
    service.broken = False
    assert service.ask()[0] == 200


def test_a_port_in_use_is_an_error_in_plain_words_that_names_the_next_step(service: Service) -> None:
    other = Web(render=service.render, healthy=lambda: (True, ""), ready=lambda: (True, ""), failed=print)

    with pytest.raises(JobError) as caught:
        other.start("127.0.0.1", service.port)

    place = f"127.0.0.1 port {service.port}"
    assert caught.value.message == f"The metrics port cannot be opened at {place}: Address already in use"
    assert f"ss -ltnp sport = :{service.port}." in caught.value.hint
    assert "metrics.port" in caught.value.hint
    other.close()


def test_without_a_descriptor_it_is_an_error_and_gives_everything_back() -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    web = Web(render=lambda _: ("", b""), healthy=lambda: (True, ""), ready=lambda: (True, ""), failed=print)
    for spare in range(3):  # for the socket, and for either end of the pipe
        free = os.dup(0)
        os.close(free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, hard))
            with pytest.raises(JobError, match="Too many open files") as caught:
                web.start("127.0.0.1", 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "open files" in caught.value.hint

    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("address", ["203.0.113.7", "no.such.host.invalid", "a..b", "x" * 70 + ".invalid"])
def test_an_address_that_is_not_ours_is_an_error_that_names_the_key(address: str, service: Service) -> None:
    other = Web(render=service.render, healthy=lambda: (True, ""), ready=lambda: (True, ""), failed=print)

    with pytest.raises(JobError, match=address) as caught:
        other.start(address, 9477)

    assert "metrics.address" in caught.value.hint


def test_closing_ends_the_threads_and_gives_everything_back() -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    service = Service()
    open_client = socket.create_connection((service.host, service.port), timeout=20)
    service.ask()

    service.web.close()
    open_client.close()

    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_closing_right_after_an_answer_is_safe() -> None:
    for _ in range(50):
        service = Service()
        service.ask()
        service.web.close()
        service.web.close()


def test_it_listens_on_ipv6_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    web = Web(render=lambda _: ("text/plain", b""), healthy=lambda: (True, ""), ready=lambda: (True, ""), failed=print)

    _, port = web.start("::", 0)

    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200" in client.recv(100)
    web.close()
