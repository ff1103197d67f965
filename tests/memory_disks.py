"""Mount the file system in memory of the user cases (`tests/cases/memfs.py`), for a while."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMFS = Path(__file__).parent / "cases" / "memfs.py"
_SERVES = "\nfd = os.open("
"""Where memfs begins to serve."""


def variant(place: Path, code: str) -> Path:
    """Write a server with a nature of the test's own: `code` defines `answer(op, node, data)`, which may give None."""
    text = MEMFS.read_text()
    assert text.count(_SERVES) == 1
    own = f"""
{code}
_handle = handle
def handle(op, n, data):
    found = answer(op, n, data)
    return _handle(op, n, data) if found is None else found
"""
    place.write_text(text.replace(_SERVES, own + _SERVES))
    return place


@contextmanager
def memory_disk(at: Path, *natures: str, server: Path = MEMFS) -> Iterator[Path]:
    """Mount one of such natures; it is empty, and gone with its mount."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(server), str(at), *natures], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)
