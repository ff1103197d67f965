"""Wait for what happens in its own time, and read what is served on loopback."""

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

PATIENCE = 30.0
"""Seconds; generous, since only a failure ever takes so long."""


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until the condition holds, and give what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def page(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


def value(metrics: str, name: str) -> float:
    [found] = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", metrics, re.MULTILINE)
    return float(found)


def answers(port: int, path: str = "/healthz") -> bool:
    """Whether a page is served with 200."""
    try:
        return bool(page(port, path))
    except OSError:
        return False
