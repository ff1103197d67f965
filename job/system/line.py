"""A line to another process on which nobody waits for ever: whoever is at its other end may be stopped, not dead."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any


def limit_waits(line: "Connection[Any, Any]", *, sending: float, receiving: float) -> None:
    """Have it raise `OSError` where nothing moves for so many seconds in the middle of a message."""
    with contextlib.suppress(OSError), _as_socket(line) as end:
        for way, seconds in ((socket.SO_SNDTIMEO, sending), (socket.SO_RCVTIMEO, receiving)):
            end.setsockopt(socket.SOL_SOCKET, way, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


def cut(line: "Connection[Any, Any]") -> None:
    """Have both ends find the line at its end."""
    with contextlib.suppress(OSError), _as_socket(line) as end:
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _as_socket(line: "Connection[Any, Any]") -> Iterator[socket.socket]:
    end = socket.socket(fileno=line.fileno())
    try:
        yield end
    finally:
        end.detach()
