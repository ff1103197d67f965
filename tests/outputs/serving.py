"""A port with something behind it that a test can change."""

import http.client
import socket

from job.outputs.http import Web


class Service:
    """What the port tells about, and the port."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.healthy = (True, "alive")
        self.ready = (False, "no configuration yet")
        self.broken = False
        self.failures: list[tuple[str, str]] = []
        self.web = Web(
            render=self.render,
            healthy=lambda: self.healthy,
            ready=lambda: self.ready,
            failed=lambda output, error: self.failures.append((output, error)),
            seconds=seconds,
        )
        self.host, self.port = self.web.start("127.0.0.1", 0)

    def render(self, accept: str) -> tuple[str, bytes]:
        if self.broken:
            message = "secret details"
            raise RuntimeError(message)
        return ("application/openmetrics-text" if "openmetrics" in accept else "text/plain"), b"truecopy_up 1\n"

    def ask(
        self, path: str = "/metrics", method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def send(self, data: bytes) -> bytes:
        with socket.create_connection((self.host, self.port), timeout=20) as client:
            received = b""
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while piece := client.recv(65536):
                    received += piece
            except OSError:
                pass  # refused before everything was sent
            return received
