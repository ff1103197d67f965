"""Ask for /metrics many times on each connection and read nothing: `http_pipe.py PORT PID CONNECTIONS SECONDS`.

Exit status 1: the service with that number took too much memory or temporary files, or failed in health checks.
"""

import os
import resource
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

ONE = b"GET /metrics HTTP/1.1\r\n\r\n"
ASKED = ONE * (8192 // len(ONE))
MOST_TEMPORARY_MB, MOST_MEMORY_MB, MOST_FAILED = 64, 200, 3


def memory_mb(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def temporary_mb(pid: int) -> float:
    """Give the sizes of the unlinked files that a process holds."""
    total = 0
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if "(deleted)" in os.readlink(f"/proc/{pid}/fd/{number}"):
                total += os.stat(f"/proc/{pid}/fd/{number}").st_size
    return total / 1e6


def keep(clients: list[socket.socket]) -> None:
    """Keep the connections that still take something."""
    alive = []
    for client in clients:
        try:
            client.setblocking(False)
            client.send(b"\r\n")
        except BlockingIOError:
            pass
        except OSError:
            client.close()
            continue
        alive.append(client)
    clients[:] = alive


def fill(clients: list[socket.socket], port: int, wanted: int) -> None:
    while len(clients) < wanted:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(1)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(ASKED)
        except OSError:
            client.close()
            return
        clients.append(client)


def is_healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            client.recv(100)
    except OSError:
        return False
    return True


def main() -> int:
    port, pid, wanted, seconds = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    most = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before, begin = memory_mb(pid), time.monotonic()
    clients: list[socket.socket] = []
    memory, temporary, checks, failed = 0, 0.0, 0, 0
    while time.monotonic() - begin < seconds:
        keep(clients)
        fill(clients, port, wanted)
        memory, temporary = max(memory, memory_mb(pid)), max(temporary, temporary_mb(pid))
        checks, failed = checks + 1, failed + (not is_healthy(port))
        time.sleep(0.5)
    sys.stdout.write(
        f"{wanted} connections: memory {before} -> {memory} MB, unlinked files {temporary:.0f} MB, "
        f"{failed} of {checks} health checks failed\n"
    )
    return int(temporary > MOST_TEMPORARY_MB or memory - before > MOST_MEMORY_MB or failed > MOST_FAILED)


if __name__ == "__main__":
    sys.exit(main())
