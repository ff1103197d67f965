"""Ask for /metrics all the time: `http_flood.py PORT CONNECTIONS SECONDS`."""

import selectors
import socket
import sys
import time
from contextlib import suppress

ASKED = b"GET /metrics HTTP/1.1\r\n\r\n" * 327
ANSWERED = 1_900_000
"""Bytes after which the same is asked once more on a connection."""


class Flood:
    """The connections, and the bytes that each has answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = selectors.DefaultSelector()
        self.bytes: dict[socket.socket, int] = {}

    def add(self) -> None:
        """Make one more connection, and ask on it."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(ASKED)
        client.setblocking(False)
        self.bytes[client] = 0
        self.open.register(client, selectors.EVENT_READ)

    def take(self, client: socket.socket) -> None:
        """Take what was answered."""
        try:
            data = client.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.open.unregister(client)
            del self.bytes[client]
            client.close()
            try:
                self.add()
            except OSError:
                time.sleep(0.05)
            return
        self.bytes[client] += len(data)
        if self.bytes[client] > ANSWERED:
            self.bytes[client] = 0
            with suppress(OSError):
                client.send(ASKED)


def main() -> None:
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    flood, end = Flood(port), time.monotonic() + seconds
    for _ in range(connections):
        flood.add()
    while time.monotonic() < end:
        for key, _ in flood.open.select(0.5):
            if isinstance(key.fileobj, socket.socket):
                flood.take(key.fileobj)


if __name__ == "__main__":
    main()
