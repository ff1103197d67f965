"""Hold every place of a port by slow requests: `http_slots.py PORT CONNECTIONS SECONDS`.

Exit status 1: four health checks in a row failed meanwhile.
"""

import resource
import socket
import sys
import time

PAUSE = 7.0
"""Seconds between two bytes of a request."""
BETWEEN = 5.0
"""Seconds between two health checks, and until one has failed."""
TOO_MANY = 4


def fill(clients: list[socket.socket], port: int, wanted: int) -> None:
    """Connect until there are as many as wanted, or the port takes no more."""
    while len(clients) < wanted:
        client = socket.socket()
        client.settimeout(0.3)
        try:
            client.connect(("127.0.0.1", port))
        except OSError:
            client.close()
            return
        client.setblocking(False)
        clients.append(client)


def drip(clients: list[socket.socket]) -> None:
    """Send the next byte of each request; whoever was shut out is given up."""
    alive = []
    for client in clients:
        try:
            client.send(b"G")
        except BlockingIOError:
            pass
        except OSError:
            client.close()
            continue
        alive.append(client)
    clients[:] = alive


def is_healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=BETWEEN) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1")
    except OSError:
        return False


def main() -> int:
    port, wanted, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    most = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients: list[socket.socket] = []
    begin, last = time.monotonic(), 0.0
    healthy, ill, in_a_row, worst = 0, 0, 0, 0
    fill(clients, port, wanted)
    time.sleep(1)
    while time.monotonic() - begin < seconds:
        if time.monotonic() - last > PAUSE:
            drip(clients)
            fill(clients, port, wanted)
            last = time.monotonic()
        asked = time.monotonic()
        good = is_healthy(port)
        healthy, ill = healthy + good, ill + (not good)
        in_a_row = 0 if good else in_a_row + 1
        worst = max(worst, in_a_row)
        time.sleep(max(0.0, BETWEEN - (time.monotonic() - asked)))
    sys.stdout.write(f"held {len(clients)}; health checks: {healthy} ok, {ill} failed, {worst} in a row\n")
    return int(worst >= TOO_MANY)


if __name__ == "__main__":
    sys.exit(main())
