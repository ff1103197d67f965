"""A hostile Pushgateway: `gateway.py PORT HOW SEEN` answers each request in one bad way, and notes what it was sent."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MEGABYTE = b"x" * (1 << 20)
Answer = Callable[[int], Iterator[bytes]]


def for_ever(data: bytes, first: bytes = b"") -> Answer:
    """Give an answer that never ends."""

    def answer(_: int) -> Iterator[bytes]:
        yield first
        while True:
            yield data

    return answer


def once(data: bytes) -> Answer:
    return lambda port: iter([data.replace(b"PORT", b"%d" % port)])


def drip(_: int) -> Iterator[bytes]:
    """Answer a byte a second."""
    for number in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000:
        yield bytes([number])
        time.sleep(1)


LONG_HEADERS = b"".join(b"X-%d: " % number + b"y" * 60_000 + b"\r\n" for number in range(90))
ANSWERS: dict[str, Answer] = {
    "continue": for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "continue-headers": for_ever(b"HTTP/1.1 100 Continue\r\n" + LONG_HEADERS + b"\r\n"),
    "body": for_ever(MEGABYTE, b"HTTP/1.1 200 OK\r\n\r\n"),
    "errbody": for_ever(MEGABYTE, b"HTTP/1.1 500 no\r\n\r\n"),
    "line": once(b"HTTP/1.1 500 " + b"x" * 60_000 + b"\x1b[2J\r\n\r\n"),
    "redirect": once(b"HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:PORT/stolen\r\nContent-Length: 0\r\n\r\n"),
    "auth": once(b'HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'),
    "drip": drip,
}


def serve(client: socket.socket, answer: Iterator[bytes], seen: Path) -> None:
    try:
        asked = client.recv(65536)
        with seen.open("ab") as notes:
            notes.write(asked[:400] + b"\n--\n")
        for data in answer:
            client.sendall(data)
        client.close()
    except OSError:
        pass  # the client has had enough


def main() -> None:
    port, how, seen = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(50)
    while True:
        client, _ = server.accept()
        threading.Thread(target=serve, args=(client, ANSWERS[how](port), seen), daemon=True).start()


if __name__ == "__main__":
    main()
